/** The two ways in which features lie on disk, read into one form that feature-file.ts checks. */
import { createHash } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { dirname, extname, isAbsolute, join, relative, sep } from 'node:path';
import * as z from 'zod';
import { readBytes, sha256, systemError } from '../formats/files.js';
import { brief, parseStrictJson } from '../formats/json.js';
import { parseNpy } from '../formats/npy.js';
import { readSafetensorsHeader, readTensors } from '../formats/safetensors-node.js';
import { inputError, ScionError } from '../util/errors.js';
import type { Issue } from '../util/errors.js';
import { int64 } from '../util/tensor.js';
import type { Tensor } from '../util/tensor.js';

/** A feature file as it was found; the content is not checked. */
export interface FeatureSource {
  readonly path: string;
  /** SHA-256 in hexadecimal; of a .json file with its arrays, that of the list of their SHA-256 sums. */
  readonly digest: string;
  /** By name: `train.features`. */
  readonly tensors: ReadonlyMap<string, Tensor>;
  /** Names of tensors that mean nothing here; they are not read. */
  readonly others: readonly string[];
  readonly classNames: unknown;
  readonly groupNames: unknown;
  readonly logitScale: unknown;
  readonly model: string | undefined;
}

const readers: Record<string, (path: string) => Promise<FeatureSource>> = {
  '.safetensors': fromSafetensors,
  '.json': fromJson,
  '.npy': (path) => Promise.reject(inputError(path, `one array is not enough, since it has no ${example}`)),
};

const example = `labels, text or class names; write a .json file beside it and give that instead, such as
{
  "train": { "features": "train.npy", "labels": "train-labels.npy" },
  "test": { "features": "test.npy", "labels": [0, 2, 1] },
  "text": { "features": "text.npy" },
  "class_names": ["cat", "dog", "owl"],
  "logit_scale": 100,
  "model": "openai/clip-vit-base-patch32"
}
or, to predict only, {"features": "images.npy"}`;

/** @throws ScionError: `input` for a wrong kind of file or a damaged one, `io` where the system refuses */
export async function readFeatureSource(path: string): Promise<FeatureSource> {
  const read = readers[extname(path).toLowerCase()];
  if (!read) throw inputError(path, 'is no feature file, expected .safetensors or .json; convert it to one of these');
  return read(path);
}

const known = /^((train|val|test|text)\.)?features$|^(train|val|test)\.labels$|^train\.pictures$|^test\.groups$/;

async function fromSafetensors(path: string): Promise<FeatureSource> {
  const file = await readSafetensorsHeader(path);
  const { class_names: classNames, group_names: groupNames, logit_scale: logitScale, model } = file.metadata;
  const names = [...file.tensors.keys()];
  const tensors = await readTensors(file, names.filter((n) => known.test(n)));
  const others = names.filter((n) => !known.test(n));
  return { path, digest: await sha256(path), tensors, others, classNames, groupNames, logitScale, model };
}

const labelsSchema = z.union([z.string(), z.array(z.int())], 'expected the name of a .npy file or a list of integers');
const splitSchema = z.strictObject({ features: z.string().optional(), labels: labelsSchema.optional() });
const manifestSchema = z.strictObject({
  train: splitSchema.optional(),
  val: splitSchema.optional(),
  test: splitSchema.extend({ groups: labelsSchema.optional() }).optional(),
  text: z.strictObject({ features: z.string() }).optional(),
  features: z.string().optional(),
  class_names: z.unknown().optional(),
  group_names: z.unknown().optional(),
  logit_scale: z.unknown().optional(),
  model: z.string().optional(),
});

const maxJsonBytes = 100_000_000;
const fix = 'mend the file in an editor';

async function fromJson(path: string): Promise<FeatureSource> {
  const json = parseStrictJson(await readBytes(path, maxJsonBytes), path, 'content', fix);
  const checked = manifestSchema.safeParse(json);
  if (!checked.success) {
    throw new ScionError('input', checked.error.issues.map((i) => (
      { path: [path, i.path.join('.')].filter(Boolean).join(': '), message: `${i.message}; ${fix}` })));
  }
  const { train, val, test, text, features, logit_scale: logitScale, model } = checked.data;
  const { class_names: classNames, group_names: groupNames } = checked.data;
  if (typeof logitScale === 'string') {
    throw inputError(`${path}: logit_scale`, `is the text ${brief(logitScale)}, expected a number; ${fix}`);
  }
  const parts: [string, string | number[] | undefined][] = [['features', features]];
  for (const [split, value] of Object.entries({ train, val, test, text })) {
    for (const [part, source] of Object.entries(value ?? {})) parts.push([`${split}.${part}`, source]);
  }
  const tensors = new Map<string, Tensor>();
  const sums = [await sha256(path)];
  const issues: Issue[] = [];
  for (const [name, source] of parts) {
    if (Array.isArray(source)) tensors.set(name, int64([source.length], source));
    if (typeof source !== 'string') continue;
    try {
      const file = await insideFolder(path, source);
      tensors.set(name, parseNpy(await readBytes(file), join(dirname(path), source)));
      sums.push(`${name} ${await sha256(file)}`);
    } catch (error) {
      if (!(error instanceof ScionError)) throw error;
      issues.push(...error.issues.map((i) => ({ ...i, path: `${path}: ${name}: ${i.path}` })));
    }
  }
  if (issues.length > 0) throw new ScionError('input', issues);
  const digest = createHash('sha256').update(sums.join('\n')).digest('hex');
  return { path, digest, tensors, others: [], classNames, groupNames, logitScale, model };
}

/** The file that `name` stands for, links followed; a manifest from elsewhere must not read the rest of the disk. */
async function insideFolder(manifest: string, name: string): Promise<string> {
  const stays = 'expected a file in the folder of the .json file; move it there';
  if (extname(name).toLowerCase() !== '.npy') throw inputError(name, 'expected the name of a .npy file; convert it');
  if (isAbsolute(name) || /^[a-z]:/i.test(name) || name.split(/[\\/]/).includes('..')) {
    throw inputError(name, `leads out of its folder, ${stays}`);
  }
  const folder = await realpath(dirname(manifest));
  const file = await realpath(join(folder, name)).catch((cause: unknown) => {
    throw systemError(join(dirname(manifest), name), 'read it', cause);
  });
  const way = relative(folder, file);
  if (isAbsolute(way) || way.split(sep)[0] === '..') throw inputError(name, `is a link out of its folder, ${stays}`);
  return file;
}
