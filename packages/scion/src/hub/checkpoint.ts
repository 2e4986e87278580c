/** Finds the configuration and the tensors of a model on the disk; of the tensors only the headers are read. */
import { existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { readBytes, systemError } from '../formats/files.js';
import { brief, isObject, parseStrictJson } from '../formats/json.js';
import { readSafetensorsHeader } from '../formats/safetensors-node.js';
import type { TensorEntry } from '../formats/safetensors.js';
import { readTorchArchive } from '../formats/torch-archive-node.js';
import { type Issue, ScionError, inputError } from '../util/errors.js';
import type { ModelDtype } from '../onnx/dtypes.js';
import { type OnnxFiles, findOnnx, findOnnxOf, readOnnxFiles, rootOf } from './onnx-files.js';

/**
 * Where a tensor lies: absolute path, links resolved, and byte range. Where `transposed`, the file holds the columns of
 * the matrix one after the other.
 */
export interface StoredTensor extends TensorEntry {
  readonly path: string;
  readonly transposed?: true;
}
export type StoredTensors = ReadonlyMap<string, StoredTensor>;

export interface CheckpointFiles {
  /** As it was asked for. */
  readonly path: string;
  /** The content of config.json, unchecked; undefined where there is no such file. */
  readonly config: unknown;
  readonly tensors: StoredTensors;
  /** Where configuration, tokenizer and preprocessor are: of a file its own folder, or for `onnx/` the one above. */
  readonly folder: string;
  /** The graphs, where the model is given as such; then it has no tensors. */
  readonly onnx?: OnnxFiles;
}

/** What a folder is searched for; the first one wins. */
export const weightNames = [
  'model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin', 'pytorch_model.bin.index.json',
] as const;

/** How the tensors of a file are found, by the ending of its name. */
const readers: Readonly<Record<string, (path: string) => Promise<StoredTensors>>> = {
  '.safetensors': readSafetensors, '.index.json': readShards, '.bin': readTorch, '.pt': readTorch, '.pth': readTorch,
};
const readerOf = (file: string): ((path: string) => Promise<StoredTensors>) | undefined =>
  Object.entries(readers).find(([ending]) => file.endsWith(ending))?.[1];

/**
 * Reads a model's folder, or one file of weights with the config.json beside it. Without other weights an ONNX model is
 * taken, from the folder or its `onnx/`.
 * @param options `dtype`: take the ONNX files of this precision; `where`: the flag that it was given by, for messages
 * @throws ScionError: `input` for a folder without weights and for damaged or hostile files, `io` where the system
 *   refuses
 */
export async function readCheckpoint(
  path: string, { dtype, where = '--model-dtype' }: { dtype?: ModelDtype | undefined; where?: string } = {},
): Promise<CheckpointFiles> {
  const isFolder = await asked(path, () => stat(path).then((s) => s.isDirectory()));
  const folder = isFolder ? path : dirname(path);
  const present = await asked(folder, () => readdir(folder));
  const found = weightNames.find((name) => present.includes(name));
  const graph = dtype !== undefined ? await findOnnxOf(path, dtype, where)
    : found && isFolder ? undefined : await findOnnx(path);
  if (graph !== undefined) {
    const root = rootOf(graph);
    const onnx = await readOnnxFiles(graph);
    return { path, config: await readConfig(root), tensors: new Map(), folder: root, onnx };
  }
  if (isFolder && !found) {
    const held = present.sort().slice(0, 20).map(brief).join(', ') || 'nothing';
    const searched = [...weightNames, 'onnx/vision_model.onnx'].join(', ');
    throw inputError(path, `has none of ${searched}; it has: ${held}; get the model again`);
  }
  const file = isFolder ? join(folder, found!) : path;
  const read = readerOf(file);
  if (!read) {
    const endings = [...Object.keys(readers), '.onnx'].join(', ');
    throw inputError(path, `is another kind of file, expected one of ${endings}; or the model's folder`);
  }
  return {
    path,
    config: await readConfig(folder),
    tensors: await read(file),
    folder,
  };
}

async function readConfig(folder: string): Promise<unknown> {
  const file = join(folder, 'config.json');
  return existsSync(file) ? readJson(file) : undefined;
}

async function asked<T>(path: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (cause) {
    throw systemError(path, 'read it', cause);
  }
}

/** Configurations and indices are small; more is no such file. */
export const maxJsonBytes = 100_000_000;
const again = 'get the file again';

async function readJson(path: string): Promise<unknown> {
  return parseStrictJson(await readBytes(path, maxJsonBytes), path, 'content', again);
}

async function readSafetensors(file: string): Promise<StoredTensors> {
  const { path, tensors } = await readSafetensorsHeader(file);
  return new Map([...tensors].map(([name, entry]) => [name, { ...entry, path }]));
}

/** Views that are neither contiguous nor a transposed matrix cannot be read in place. */
async function readTorch(file: string): Promise<StoredTensors> {
  const { path, tensors } = await readTorchArchive(file);
  const issues: Issue[] = [];
  const found = new Map<string, StoredTensor>();
  for (const [name, { dtype, shape, strides, contiguous, offset, byteLength }] of tensors) {
    const place = { dtype, shape, offset, byteLength, path };
    if (contiguous) found.set(name, place);
    else if (shape.length === 2 && strides[0] === 1 && strides[1] === shape[0]) {
      found.set(name, { ...place, transposed: true });
    } else {
      const message = `has strides ${brief(strides)} for shape ${brief(shape)}, expected row-major order`;
      issues.push({ path: `${file}: ${name}`, message: `${message}; save it again with .contiguous()` });
    }
  }
  if (issues.length > 0) throw new ScionError('input', issues);
  return found;
}

/** A name and nothing else: an index must not lead to other places of the disk. */
export const isShardName = (name: unknown): name is string =>
  typeof name === 'string' && /^[^\\/:]+\.(safetensors|bin)$/.test(name);

/** A model in several files, with an index that says which tensor is in which. */
async function readShards(index: string): Promise<StoredTensors> {
  const json = await readJson(index);
  const map = isObject(json) ? json['weight_map'] : undefined;
  if (!isObject(map)) {
    throw inputError(index, `has weight_map ${brief(map)}, expected tensor name → file name; ${again}`);
  }
  const folder = dirname(index);
  const present = new Set(await asked(folder, () => readdir(folder)));
  const issues: Issue[] = [];
  const complain = (message: string): void => { issues.push({ path: index, message }); };
  const shards = new Map<string, StoredTensors>();
  for (const shard of new Set(Object.values(map))) {
    const read = isShardName(shard) ? readerOf(shard) : undefined;
    if (!isShardName(shard) || !read) {
      complain(`names the file ${brief(shard)}, expected the name of a .safetensors or .bin file beside it; ${again}`);
    } else if (!present.has(shard)) {
      complain(`names ${brief(shard)}, which is not beside it; get this file too`);
    } else {
      shards.set(shard, await read(join(folder, shard)));
    }
  }
  const tensors = new Map<string, StoredTensor>();
  for (const [name, shard] of Object.entries(map)) {
    const held = shards.get(shard as string);
    const stored = held?.get(name);
    if (stored) tensors.set(name, stored);
    else if (held) complain(`says that ${brief(name)} is in ${brief(shard)}, which has no such tensor; ${again}`);
  }
  if (issues.length > 0) throw new ScionError('input', issues);
  return tensors;
}
