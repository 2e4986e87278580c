/** Safetensors files on disk. The header can be read alone, since ONNX external data needs only the byte ranges. */
import { realpath } from 'node:fs/promises';
import { sep } from 'node:path';
import { inputError } from '../util/errors.js';
import type { Tensor } from '../util/tensor.js';
import { readAt, withFile, writeAtomically } from './files.js';
import { brief } from './json.js';
import { headerBytes, parseSafetensorsHeader, prefixBytes, safetensorsParts, tensorOver } from './safetensors.js';
import type { Safetensors, SafetensorsHeader } from './safetensors.js';

/** A file whose header has been read and checked; its data stay on the disk. */
export interface SafetensorsFile extends SafetensorsHeader {
  /** Absolute, links resolved: ONNX Runtime refuses external data behind a link that leaves the model's folder. */
  readonly path: string;
}

/**
 * Reads and checks the header alone. The offsets in the result count from the start of the file.
 * @throws ScionError: `input` for a damaged or hostile file, `io` where the system refuses
 */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsFile> {
  return withFile(path, async (file, bytes) => {
    const prefix = await readAt(file, 0, Math.min(prefixBytes, bytes), path);
    const header = await readAt(file, prefixBytes, headerBytes(prefix, bytes, path), path);
    return { path: (await realpath(path)).replaceAll(sep, '/'), ...parseSafetensorsHeader(header, bytes, path) };
  });
}

/**
 * Reads some tensors of a file, opening it once.
 * @throws ScionError of kind `input` if the file has no tensor of one of these names
 */
export async function readTensors(source: SafetensorsFile, names: Iterable<string>): Promise<Map<string, Tensor>> {
  return readEntries(source, names, (entry) => entry.byteLength, tensorOver);
}

/** Reads `span(entry)` bytes from the offset of each named entry, and makes a tensor of them; the file is opened once. */
export async function readEntries<E extends { readonly offset: number }>(
  { path, tensors }: { readonly path: string; readonly tensors: ReadonlyMap<string, E> },
  names: Iterable<string>,
  span: (entry: E) => number,
  make: (entry: E, bytes: Uint8Array, where: string) => Tensor,
): Promise<Map<string, Tensor>> {
  return withFile(path, async (file) => {
    const out = new Map<string, Tensor>();
    for (const name of names) {
      const entry = tensors.get(name);
      if (!entry) {
        const held = [...tensors.keys()].slice(0, 20).map(brief).join(', ') || 'none';
        throw inputError(path, `has no tensor ${brief(name)}; it has: ${held}; name one of these or use another file`);
      }
      const bytes = await readAt(file, entry.offset, span(entry), path);
      out.set(name, make(entry, bytes, `${path}: tensor ${brief(name)}`));
    }
    return out;
  });
}

/** Reads one tensor; see `readTensors`. */
export async function readTensor(source: SafetensorsFile, name: string): Promise<Tensor> {
  return (await readTensors(source, [name])).get(name)!;
}

/** Reads a whole file into memory, each tensor in its own buffer. */
export async function readSafetensors(path: string): Promise<Safetensors> {
  const file = await readSafetensorsHeader(path);
  return { metadata: file.metadata, tensors: await readTensors(file, file.tensors.keys()) };
}

/**
 * Writes tensors and metadata to a file, all or nothing, byte for byte as the official Python library would.
 * @throws ScionError of kind `io` where the system refuses
 */
export async function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeAtomically(path, safetensorsParts(tensors, metadata));
}
