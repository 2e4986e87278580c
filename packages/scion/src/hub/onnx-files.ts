/** ONNX models on the disk: one file, or the two towers of a folder as transformers.js lays it out. */
import { existsSync } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, sep } from 'node:path';
import { readAt, systemError, withFile } from '../formats/files.js';
import { brief } from '../formats/json.js';
import { type OnnxRange, type OnnxSummary, decodeModel } from '../onnx/decode.js';
import { type ModelDtype, fileSuffixes } from '../onnx/dtypes.js';
import { ImportedModel } from '../onnx/import.js';
import { skeletonOf } from '../onnx/skeleton.js';
import { type Issue, ScionError, inputError, usageError } from '../util/errors.js';

/** The graphs of a model, and every file that they are made of. */
export interface OnnxFiles {
  readonly image: ImportedModel;
  /** The same graph where one file holds both towers; absent where there is none. */
  readonly text?: ImportedModel;
  /** Absolute, links resolved. */
  readonly files: readonly string[];
}

/**
 * Reads one .onnx file; its larger constants stay on the disk, in it or in files beside it.
 * @throws ScionError: `input` for a damaged or hostile file, or one that needs what Scion does not read; `io` where the
 *   system refuses
 */
export async function readOnnxModel(path: string): Promise<ImportedModel> {
  return (await read(path)).model;
}

async function read(path: string): Promise<{ model: ImportedModel; files: readonly string[] }> {
  const bytes = await withFile(path, (file, size) =>
    skeletonOf((offset, length) => readAt(file, offset, length, path), size, path));
  const summary = decodeModel(bytes, path);
  const file = await resolved(path);
  const external = await externalFiles(path, file, summary);
  return { model: new ImportedModel(summary, { path, file, external }), files: [file, ...external.values()] };
}

const resolved = async (path: string): Promise<string> =>
  (await realpath(path).catch((cause: unknown) => { throw systemError(path, 'read it', cause); })).replaceAll(sep, '/');

/** Every file beside the model that holds constants, by its location; none lies elsewhere, and none is too short. */
async function externalFiles(path: string, own: string, summary: OnnxSummary): Promise<Map<string, string>> {
  const ranges = new Map<string, OnnxRange[]>();
  const constants = [...summary.initializers, ...summary.nodes.flatMap((n) => Object.values(n.attributes))];
  for (const c of constants) {
    if (typeof c !== 'object' || !('data' in c) || !('location' in c.data)) continue;
    const known = ranges.get(c.data.location);
    if (known) known.push(c.data);
    else ranges.set(c.data.location, [c.data]);
  }
  const folder = await resolved(dirname(path));
  const found = new Map<string, string>();
  const issues: Issue[] = [];
  for (const [location, needed] of ranges) {
    const parts = location === '' ? [basename(own)] : location.split('/');
    if (isAbsolute(location) || /[\\:\0]/.test(location) || parts.includes('..') || parts.includes('')) {
      issues.push({ path, message: `has constants in ${brief(location)}, expected a file beside it; refused` });
      continue;
    }
    const file = location === '' ? own : await resolved(join(folder, location));
    if (location !== '' && !homes(folder).some((home) => file.startsWith(`${home}/`))) {
      const message = `has constants in ${brief(location)}, a link out of its folder; refused, copy the file there`;
      issues.push({ path, message });
      continue;
    }
    const { size } = await stat(file);
    const end = needed.reduce((most, r) => Math.max(most, r.offset + r.byteLength), 0);
    if (end > size) {
      const name = brief(location || basename(path));
      issues.push({ path, message: `needs ${end} bytes of ${name}, which has ${size}: cut short; get it again` });
    }
    if (location !== '') found.set(location, file);
  }
  if (issues.length > 0) throw new ScionError('input', issues);
  return found;
}

/** The model's folder, and what the cache of Hugging Face keeps behind the links in it. */
function homes(folder: string): string[] {
  const repository = /^(.*\/models--[^/]+)\/snapshots\//.exec(`${folder}/`)?.[1];
  return repository === undefined ? [folder] : [folder, `${repository}/blobs`];
}

/**
 * Which .onnx file a path stands for: itself, or in a folder (or `onnx/` in it) the image tower or the whole model in
 * full precision. Undefined where there is none.
 * @throws ScionError of kind `input` where there are several, none of them in full precision
 */
export async function findOnnx(path: string): Promise<string | undefined> {
  if (!(await stat(path)).isDirectory()) return path.endsWith('.onnx') ? path : undefined;
  for (const folder of [join(path, 'onnx'), path]) {
    const present = existsSync(folder) ? (await readdir(folder)).filter((name) => name.endsWith('.onnx')).sort() : [];
    const name = ['vision_model.onnx', 'model.onnx'].find((name) => present.includes(name));
    if (name !== undefined) return join(folder, name);
    if (present.length > 0) {
      const others = present.filter((other) => !other.startsWith('text_model')).map((other) => join(folder, other));
      throw inputError(path, 'has neither vision_model.onnx nor model.onnx; '
        + (others.length > 0 ? `name one of its files instead: ${others.join(', ')}` : 'get the image tower too'));
    }
  }
  return undefined;
}

/**
 * The image tower, or the whole model, of a folder in the precision that was asked for.
 * @param where the flag or key that it was given by, for messages
 * @throws ScionError of kind `usage` where the folder has none, with those that it has
 */
export async function findOnnxOf(path: string, dtype: ModelDtype, where: string): Promise<string> {
  if (!(await stat(path)).isDirectory()) {
    throw usageError(where, `${dtype}: ${path} is a file, which has the precision it has; name its folder, or leave this out`);
  }
  const suffix = fileSuffixes[dtype];
  const there = new Set<string>();
  for (const folder of [join(path, 'onnx'), path].filter((folder) => existsSync(folder))) {
    const present = new Set(await readdir(folder));
    const has = (tower: string, ending: string): boolean => present.has(`${tower}${ending}.onnx`);
    const found = ['vision_model', 'model'].find((tower) => has(tower, suffix));
    // a text tower of another precision would be a mixture that nobody asked for
    const whole = found === 'model' || !has('text_model', '') || has('text_model', suffix);
    if (found !== undefined && whole) return join(folder, `${found}${suffix}.onnx`);
    for (const [name, ending] of Object.entries(fileSuffixes)) {
      const text = has('text_model', ending) || ![...present].some((file) => file.startsWith('text_model'));
      if (has('model', ending) || (has('vision_model', ending) && text)) there.add(name);
    }
  }
  const known = there.size > 0 ? `it has ${[...there].join(', ')}`
    : 'it has no ONNX files, among which this chooses; leave it out: weights of a checkpoint are read as they are stored';
  throw usageError(where, `${dtype}: ${path} has no model of this precision (onnx/vision_model${suffix}.onnx and `
    + `text_model${suffix}.onnx, or model${suffix}.onnx); ${known}`);
}

/**
 * The graphs that belong to an image tower: `text_model_fp16.onnx` to `vision_model_fp16.onnx`, and `text_model.onnx`
 * to any other file that takes no texts itself.
 */
export async function readOnnxFiles(file: string): Promise<OnnxFiles> {
  const { model: image, files } = await read(file);
  if (image.inputs.has('input_ids')) return { image, text: image, files };
  const suffix = /^vision_model(.*)\.onnx$/.exec(basename(file))?.[1] ?? '';
  const names = [`text_model${suffix}.onnx`, 'text_model.onnx'];
  const beside = names.map((name) => join(dirname(file), name)).find(existsSync);
  if (beside === undefined) return { image, files };
  const text = await read(beside);
  return { image, text: text.model, files: [...files, ...text.files] };
}

/** The folder with configuration, tokenizer and preprocessor of a .onnx file: its own, or the one above. */
export function rootOf(file: string): string {
  const folder = dirname(file);
  const marks = ['preprocessor_config.json', 'config.json'];
  return [folder, dirname(folder)].find((f) => marks.some((name) => existsSync(join(f, name)))) ?? folder;
}
