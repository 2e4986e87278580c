/**
 * The safetensors format (https://github.com/huggingface/safetensors): 8 bytes of header length (little endian), a JSON
 * header that gives every tensor's dtype, shape and byte range, then the bytes. This half needs no file system and runs
 * in a browser; files are in safetensors-node.ts.
 *
 * A file is input from outside: everything it claims is checked before memory is taken on the strength of the claim.
 */
import { assert, inputError } from '../util/errors.js';
import { arrayOver, byteSize, bytesOf, numel } from '../util/tensor.js';
import type { DType, Shape, Tensor } from '../util/tensor.js';
import { brief, isObject, parseStrictJson } from './json.js';

/** Where a tensor lies: `offset` counts from the start of the file. */
export interface TensorEntry {
  readonly dtype: DType;
  readonly shape: Shape;
  readonly offset: number;
  readonly byteLength: number;
}

export interface SafetensorsHeader {
  /** Free strings; an object without prototype, so that any key is just a key. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

export interface Safetensors {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, Tensor>;
}

/** The names in the file, in the order in which the official library lays tensors out. */
const fileNames = {
  uint64: 'U64', int64: 'I64', float64: 'F64', float32: 'F32', uint32: 'U32', int32: 'I32', bfloat16: 'BF16',
  float16: 'F16', uint16: 'U16', int16: 'I16', int8: 'I8', uint8: 'U8', bool: 'BOOL',
} as const satisfies Record<DType, string>;
const layoutOrder = Object.keys(fileNames) as DType[];
const dtypes = new Map<unknown, DType>(layoutOrder.map((dtype) => [fileNames[dtype], dtype]));

/** Bytes before the header. */
export const prefixBytes = 8;
/** The official library's limit, 100 MB. */
const maxHeaderBytes = 100_000_000;
const fix = 'the file is damaged or not safetensors: get it or write it again';

/**
 * The length of the JSON header in bytes.
 * @param prefix the first 8 bytes of the file, or fewer if it has fewer
 * @param fileBytes the size of the whole file
 * @throws ScionError of kind `input`
 */
export function headerBytes(prefix: Uint8Array, fileBytes: number, where: string): number {
  if (prefix.byteLength < prefixBytes) {
    const size = fileBytes === 0 ? 'the file is empty' : `the file has ${fileBytes} bytes`;
    throw inputError(where, `${size}, expected 8 bytes of header length and a header; ${fix}`);
  }
  const claimed = new DataView(prefix.buffer, prefix.byteOffset, prefixBytes).getBigUint64(0, true);
  const limit = Math.min(maxHeaderBytes, fileBytes - prefixBytes);
  if (claimed <= BigInt(limit)) return Number(claimed);
  const expected = limit === maxHeaderBytes ? 'at most 100 MB' : `at most the ${limit} bytes that follow`;
  throw inputError(where, `the header claims ${claimed} bytes, expected ${expected}; ${fix}`);
}

/**
 * Reads the header and checks every claim in it against the size of the file.
 * @param header the JSON bytes, without the length before it
 * @param fileBytes the size of the whole file
 * @throws ScionError of kind `input` that names the tensor
 */
export function parseSafetensorsHeader(header: Uint8Array, fileBytes: number, where: string): SafetensorsHeader {
  if (header[0] !== 0x7b) throw inputError(where, `the header does not start with "{" as a JSON object does; ${fix}`);
  const json = parseStrictJson(header, where, 'header', fix) as Record<string, unknown>;
  const start = prefixBytes + header.byteLength;
  const tensors = new Map<string, TensorEntry>();
  for (const [name, value] of Object.entries(json)) {
    if (name === '__metadata__') continue;
    tensors.set(name, parseEntry(value, start, fileBytes, `${where}: tensor ${brief(name)}`));
  }
  checkLayout(tensors, start, fileBytes, where);
  return { metadata: parseMetadata(json['__metadata__'], where), tensors };
}

function parseMetadata(value: unknown, where: string): Record<string, string> {
  const metadata = Object.create(null) as Record<string, string>;
  if (value === undefined) return metadata;
  if (!isObject(value)) {
    throw inputError(where, `__metadata__ is ${brief(value)}, expected an object of strings; ${fix}`);
  }
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') {
      throw inputError(where, `__metadata__ ${brief(key)} is ${brief(text)}, expected a string; write it as a string`);
    }
    metadata[key] = text;
  }
  return metadata;
}

function parseEntry(value: unknown, start: number, fileBytes: number, where: string): TensorEntry {
  if (!isObject(value)) throw inputError(where, `is ${brief(value)}, expected dtype, shape and data_offsets; ${fix}`);
  const dtype = dtypes.get(value['dtype']);
  if (!dtype) {
    const known = Object.values(fileNames).join(', ');
    throw inputError(where, `dtype ${brief(value['dtype'])} is unknown, expected one of ${known}; convert the tensor`);
  }
  const shape = value['shape'];
  if (!isList(shape) || !shape.every(isCount)) {
    throw inputError(where, `shape ${brief(shape)}, expected a list of whole numbers from 0 up; ${fix}`);
  }
  const bytes = countBytes(dtype, shape);
  if (!Number.isSafeInteger(bytes)) throw inputError(where, `shape ${brief(shape)} overflows 2^53 bytes; ${fix}`);
  const offsets = value['data_offsets'];
  if (!isList(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw inputError(where, `data_offsets ${brief(offsets)}, expected two whole numbers from 0 up; ${fix}`);
  }
  const [begin, end] = offsets as [number, number];
  const range = `data_offsets [${begin}, ${end}]`;
  if (begin > end) throw inputError(where, `${range} begin after they end; ${fix}`);
  if (end > fileBytes - start) {
    const rest = 'the file is cut short or damaged: get it again';
    throw inputError(where, `${range} reach beyond the ${fileBytes - start} bytes of data in the file; ${rest}`);
  }
  if (end - begin !== bytes) {
    const want = `expected ${bytes} for ${dtype} ${brief(shape)}`;
    throw inputError(where, `${range} hold ${end - begin} bytes, ${want}; ${fix}`);
  }
  return { dtype, shape, offset: start + begin, byteLength: bytes };
}

/** The ranges must follow one another without overlap or gap and fill the file: no byte is unaccounted for. */
function checkLayout(tensors: ReadonlyMap<string, TensorEntry>, start: number, fileBytes: number, where: string): void {
  let end = start;
  const inOrder = [...tensors].sort(([, a], [, b]) => a.offset - b.offset || a.byteLength - b.byteLength);
  for (const [name, { offset, byteLength }] of inOrder) {
    if (offset !== end) {
      const fault = offset < end ? 'overlaps the tensor before it' : `leaves a gap of ${offset - end} bytes before it`;
      const bytes = `begins at byte ${offset - start} of the data, expected ${end - start}`;
      throw inputError(`${where}: tensor ${brief(name)}`, `${bytes}: it ${fault}; ${fix}`);
    }
    end += byteLength;
  }
  if (end !== fileBytes) {
    const left = fileBytes - end;
    throw inputError(where, `${left} bytes of data belong to no tensor, expected none after byte ${end}; ${fix}`);
  }
}

function isList(value: unknown): value is unknown[] {
  return Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** NaN or an unsafe integer where the product of the dimensions overflows, even if a later 0 would hide it. */
function countBytes(dtype: DType, shape: Shape): number {
  return shape.reduce((n, d) => (Number.isSafeInteger(n * d) ? n * d : NaN), byteSize(dtype));
}

/** The tensor of `entry` over its bytes; not copied where the alignment allows. */
export function tensorOver(entry: Pick<TensorEntry, 'dtype' | 'shape'>, bytes: Uint8Array, where: string): Tensor {
  const { dtype, shape } = entry;
  const other = dtype === 'bool' ? bytes.find((b) => b > 1) : undefined;
  if (other !== undefined) {
    throw inputError(where, `holds the byte ${other}, expected 0 or 1 in bool; save it as uint8`);
  }
  return { dtype, shape, data: arrayOver(dtype, bytes) };
}

/**
 * The tensors of a safetensors file in memory, as views of `bytes` where the alignment allows.
 * @param where the name of the file, for messages
 * @throws ScionError of kind `input`
 */
export function parseSafetensors(bytes: Uint8Array, where: string): Safetensors {
  const length = headerBytes(bytes.subarray(0, prefixBytes), bytes.byteLength, where);
  const end = prefixBytes + length;
  const header = parseSafetensorsHeader(bytes.subarray(prefixBytes, end), bytes.byteLength, where);
  const tensors = new Map<string, Tensor>();
  for (const [name, entry] of header.tensors) {
    const data = bytes.subarray(entry.offset, entry.offset + entry.byteLength);
    tensors.set(name, tensorOver(entry, data, `${where}: tensor ${brief(name)}`));
  }
  return { metadata: header.metadata, tensors };
}

/**
 * The parts of a safetensors file, to be written one after the other; the data are views, not copies. Laid out as the
 * official library does: by dtype, then name; metadata by key; the header padded with spaces to 8 bytes.
 */
export function safetensorsParts(
  tensors: Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array[] {
  const rank = (t: Tensor): number => layoutOrder.indexOf(t.dtype);
  const sorted = byName(tensors).sort(([, a], [, b]) => rank(a) - rank(b));
  const fields: string[] = [];
  const texts = byName(metadata).map(([key, text]) => `${JSON.stringify(key)}:${JSON.stringify(text)}`);
  if (texts.length > 0) fields.push(`"__metadata__":{${texts.join(',')}}`);
  let end = 0;
  for (const [name, t] of sorted) {
    assert(name !== '__metadata__', 'a tensor named __metadata__, which safetensors reserves');
    assert(t.data.length === numel(t.shape), `${name}: ${t.data.length} elements for shape [${t.shape.join(', ')}]`);
    const begin = end;
    end += t.data.byteLength;
    const dtype = fileNames[t.dtype];
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape: t.shape, data_offsets: [begin, end] })}`);
  }
  const json = new TextEncoder().encode(`{${fields.join(',')}}`);
  const length = Math.ceil(json.byteLength / 8) * 8;
  const head = new Uint8Array(prefixBytes + length).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(length), true);
  head.set(json, prefixBytes);
  return [head, ...sorted.map(([, t]) => bytesOf(t))];
}

function byName<T>(record: Readonly<Record<string, T>>): [string, T][] {
  return Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** A safetensors file in memory; see `safetensorsParts` for its layout. */
export function encodeSafetensors(
  tensors: Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const parts = safetensorsParts(tensors, metadata);
  const out = new Uint8Array(parts.reduce((n, p) => n + p.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.byteLength;
  }
  return out;
}
