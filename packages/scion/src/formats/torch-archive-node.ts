/**
 * PyTorch checkpoints on disk: `pytorch_model.bin`, `.pt` and `.pth` of torch.save (today's zip archives and the
 * streams of before PyTorch 1.6) and TorchScript archives. Only the description of the tensors is read, and nothing is
 * executed.
 */
import { realpath } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { sep } from 'node:path';
import { inputError } from '../util/errors.js';
import { byteSize } from '../util/tensor.js';
import type { Tensor } from '../util/tensor.js';
import { readAt, withFile } from './files.js';
import { brief } from './json.js';
import { describeValue, maxPickleBytes, unpickle } from './pickle.js';
import type { PickleHost, PickleValue } from './pickle.js';
import { readEntries } from './safetensors-node.js';
import { gatherTensor, placeTensors, readTorchPickle, spanBytes } from './torch-archive.js';
import type { ByteRange, TorchTensorEntry } from './torch-archive.js';
import { findZipDirectory, isZip, localHeaderBytes, parseZipDirectory, storedDataOffset, zipTailBytes } from './zip.js';
import type { ZipEntry } from './zip.js';

/** A checkpoint whose tensors have been found and checked; their data stay on the disk. */
export interface TorchArchive {
  /** Absolute, links resolved: ONNX Runtime refuses external data behind a link that leaves the model's folder. */
  readonly path: string;
  /** By name, as torch-archive.ts says. */
  readonly tensors: ReadonlyMap<string, TorchTensorEntry>;
}

type Entries = Map<string, TorchTensorEntry>;

const again = 'the file is damaged or not written by PyTorch: get it or save it again';
const headBytes = 512;

/**
 * Finds the tensors of a checkpoint. The offsets in the result count from the start of the file.
 * @throws ScionError: `input` for a damaged or hostile file (what its pickle wanted to call is named, and not called),
 *   `io` where the system refuses
 */
export async function readTorchArchive(path: string): Promise<TorchArchive> {
  return withFile(path, async (file, bytes) => {
    const head = await readAt(file, 0, Math.min(headBytes, bytes), path);
    const tensors = isZip(head) ? await readZip(file, bytes, path) : await readOther(file, head, bytes, path);
    return { path: (await realpath(path)).replaceAll(sep, '/'), tensors };
  });
}

/**
 * Reads some tensors, opening the file once; those that are not contiguous are copied into row-major order.
 * @throws ScionError of kind `input` if the file has no tensor of one of these names
 */
export async function readTorchTensors(source: TorchArchive, names: Iterable<string>): Promise<Map<string, Tensor>> {
  return readEntries(source, names, spanBytes, gatherTensor);
}

/** Reads one tensor; see `readTorchTensors`. */
export async function readTorchTensor(source: TorchArchive, name: string): Promise<Tensor> {
  return (await readTorchTensors(source, [name])).get(name)!;
}

/** A zip archive: `<any name>/data.pkl` describes tensors whose storages are the entries `<any name>/data/<key>`. */
async function readZip(file: FileHandle, fileBytes: number, path: string): Promise<Entries> {
  const tailBytes = Math.min(zipTailBytes, fileBytes);
  const tail = await readAt(file, fileBytes - tailBytes, tailBytes, path);
  const directory = findZipDirectory(tail, fileBytes, path);
  const listing = await readAt(file, directory.offset, directory.byteLength, path);
  const entries = parseZipDirectory(listing, directory, path);

  const locate = async (entry: ZipEntry): Promise<ByteRange> => {
    const header = await readAt(file, entry.headerOffset, localHeaderBytes(entry), path);
    return { offset: storedDataOffset(header, entry, path), byteLength: entry.byteLength };
  };
  const load = async (entry: ZipEntry, maxBytes: number): Promise<Uint8Array> => {
    const { offset, byteLength } = await locate(entry);
    if (byteLength <= maxBytes) return readAt(file, offset, byteLength, path);
    throw inputError(path, `${brief(entry.name)} has ${byteLength} bytes, expected at most ${maxBytes}; ${again}`);
  };

  const described = [...entries.values()].filter(({ name }) => /^[^/]+\/data\.pkl$/.test(name));
  if (described.length !== 1) {
    const held = `the zip archive has ${described.length} entries <name>/data.pkl`;
    throw inputError(path, `${held}, expected one as in a file of torch.save or torch.jit.save; check the path`);
  }
  const root = described[0]!.name.replace(/data\.pkl$/, '');
  const order = entries.get(`${root}byteorder`);
  const byteOrder = order ? new TextDecoder().decode(await load(order, 16)) : 'little';
  if (byteOrder !== 'little') {
    throw inputError(path, `the byte order is ${brief(byteOrder)}, expected "little"; save it on a usual machine`);
  }
  const pickle = readTorchPickle(await load(described[0]!, maxPickleBytes), path);
  const ranges = new Map<string, ByteRange>();
  for (const { storage: { key } } of pickle.tensors.values()) {
    const entry = entries.get(`${root}data/${key}`);
    if (entry && !ranges.has(key)) ranges.set(key, await locate(entry));
  }
  return placeTensors(pickle, ranges, fileBytes, path);
}

/** What people hold for a checkpoint, by how it starts. */
const otherKinds: [starts: RegExp, message: string][] = [
  [/^$/, 'the file is empty, expected a PyTorch checkpoint; get it again'],
  [/^version https:\/\/git-lfs/, 'is a Git LFS pointer, expected the checkpoint itself; run git lfs pull'],
  [/^[^]{257}ustar/, 'is a tar archive as PyTorch before 0.1.10 wrote; save it again with a newer PyTorch'],
  [/^[^\x80(c]/, 'is not a PyTorch checkpoint, expected a file of torch.save; check the path'],
];

async function readOther(file: FileHandle, head: Uint8Array, fileBytes: number, path: string): Promise<Entries> {
  const start = Buffer.from(head).toString('latin1');
  const other = otherKinds.find(([starts]) => starts.test(start));
  if (other) throw inputError(path, other[1]);
  return readStream(file, fileBytes, path);
}

/** A pickle that holds plain values only. */
const plainValues: PickleHost = { find: () => undefined, persistent: () => null };

/**
 * torch.save before 1.6: the pickles of a magic number, a protocol number, a dict about the machine, the object and the
 * list of storage keys; then for each key the number of elements (int64) and the elements.
 */
async function readStream(file: FileHandle, fileBytes: number, path: string): Promise<Entries> {
  const bytes = await readAt(file, 0, Math.min(fileBytes, maxPickleBytes), path);
  let at = 0;
  const next = (): PickleValue => {
    const { value, end } = unpickle(bytes, plainValues, path, at);
    at = end;
    return value;
  };
  if (next() !== 0x1950a86a20f9469cfc6cn || next() !== 1001) {
    throw inputError(path, 'is a pickle but not one of torch.save; save the weights with torch.save or as safetensors');
  }
  const machine = next();
  if (!(machine instanceof Map && machine.get('little_endian') === true)) {
    throw inputError(path, 'the byte order is not "little"; save it again on a usual machine');
  }
  const pickle = readTorchPickle(bytes, path, at);
  at = pickle.end;
  const keys = next();
  const ranges = new Map<string, ByteRange>();
  for (const key of Array.isArray(keys) ? (keys as PickleValue[]) : []) {
    const storage = typeof key === 'string' ? pickle.storages.get(key) : undefined;
    if (!storage) throw inputError(path, `lists ${describeValue(key)} as a storage, which no tensor uses; ${again}`);
    const byteLength = storage.length * (storage.dtype ? byteSize(storage.dtype) : 1);
    const prefix = await readAt(file, at, Math.min(8, Math.max(0, fileBytes - at)), path);
    const length = prefix.byteLength === 8 ? new DataView(prefix.buffer).getBigInt64(0, true) : -1n;
    const offset = at + 8;
    if (length !== BigInt(storage.length) || byteLength > fileBytes - offset) {
      const claim = `storage ${brief(key)} has not the ${storage.length} elements that the pickle says`;
      throw inputError(path, `${claim}; the file is cut short or damaged: get it again`);
    }
    ranges.set(storage.key, { offset, byteLength });
    at = offset + byteLength;
  }
  return placeTensors(pickle, ranges, fileBytes, path);
}
