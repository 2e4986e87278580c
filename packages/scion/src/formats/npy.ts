/**
 * NumPy's .npy format, versions 1 to 3 (numpy/lib/format.py): a magic string, the header's length, a Python dictionary
 * literal with dtype, order and shape, then the data. Needs no file system; the header is matched, never evaluated.
 */
import { assert, inputError } from '../util/errors.js';
import { byteSize, bytesOf, numel, zeros } from '../util/tensor.js';
import type { DType, Shape, Tensor } from '../util/tensor.js';
import { brief } from './json.js';
import { tensorOver } from './safetensors.js';

/** NumPy's type codes; bfloat16 has none. */
const codes = {
  float16: 'f2', float32: 'f4', float64: 'f8', int8: 'i1', int16: 'i2', int32: 'i4', int64: 'i8',
  uint8: 'u1', uint16: 'u2', uint32: 'u4', uint64: 'u8', bool: 'b1',
} as const satisfies Record<Exclude<DType, 'bfloat16'>, string>;
export type NpyDType = keyof typeof codes;
const dtypes = new Map(Object.entries(codes).map(([dtype, code]) => [code as string, dtype as NpyDType]));

const magic = '\x93NUMPY';
const fix = 'the file is damaged or not .npy: save it again with numpy.save';
const maxHeaderBytes = 65_535; // what version 1 can say; NumPy itself stops at 10,000
/** NumPy leaves room for the first dimension to grow in place, up to this many digits. */
const growthDigits = 21;

/**
 * The array of a .npy file in row-major order. Little-endian numbers and booleans; Fortran order is transposed.
 * @param where the name of the file, for messages
 * @throws ScionError of kind `input`: damaged, or a kind of array (objects, text, big endian) that is not supported
 */
export function parseNpy(bytes: Uint8Array, where: string): Tensor<NpyDType> {
  const { text, end } = headerText(bytes, where);
  const { dtype, columnMajor, shape } = parseHeader(text, where);
  const expected = shape.reduce((n, d) => (Number.isSafeInteger(n * d) ? n * d : NaN), byteSize(dtype));
  const held = bytes.byteLength - end;
  if (expected !== held) {
    const need = Number.isNaN(expected) ? 'more than 2^53' : expected;
    const claim = `the header claims ${dtype} ${brief(shape)}, ${need} bytes, but ${held} follow`;
    throw inputError(where, `${claim}; save it again with numpy.save, one array a file`);
  }
  const t = tensorOver({ dtype, shape }, bytes.subarray(end), where) as Tensor<NpyDType>;
  return columnMajor ? toRowMajor(t) : t;
}

function headerText(bytes: Uint8Array, where: string): { text: string; end: number } {
  if (bytes.byteLength === 0) throw inputError(where, `the file is empty, expected a .npy array; ${fix}`);
  if (latin1(bytes.subarray(0, 6)) !== magic) {
    throw inputError(where, `does not begin with \\x93NUMPY as .npy files do; ${fix}`);
  }
  const major = bytes[6] ?? 0;
  if (major < 1 || major > 3) throw inputError(where, `.npy version ${major}, expected 1, 2 or 3; ${fix}`);
  const start = major === 1 ? 10 : 12;
  if (bytes.byteLength < start) throw inputError(where, `ends within its header; it is cut short: get it again`);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const length = major === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  const limit = Math.min(maxHeaderBytes, bytes.byteLength - start);
  if (length > limit) {
    throw inputError(where, `the header claims ${length} bytes, expected at most ${limit}; ${fix}`);
  }
  // a header that matches below is ASCII, so version 3's UTF-8 needs no decoding of its own
  return { text: latin1(bytes.subarray(start, start + length)), end: start + length };
}

interface NpyHeader {
  dtype: NpyDType;
  columnMajor: boolean;
  shape: Shape;
}

function parseHeader(text: string, where: string): NpyHeader {
  const unreadable = inputError(where, `the header ${brief(text.trim())} is not one that NumPy writes; ${fix}`);
  const literal = /^\{(.*)\}\s*$/s.exec(text)?.[1];
  if (literal === undefined) throw unreadable;
  const fields = new Map<string, string>();
  const field = /'(descr|fortran_order|shape)': ?('[^']*'|True|False|\((?:-?\d+, ?)*(?:-?\d+)?\)|\[.*\])(?:,\s*|$)/sy;
  while (field.lastIndex < literal.length) {
    const [, key, value] = field.exec(literal) ?? [];
    if (key === undefined || value === undefined || fields.has(key)) throw unreadable;
    fields.set(key, value);
  }
  const [descr = '', order = '', dims = ''] = ['descr', 'fortran_order', 'shape'].map((key) => fields.get(key));
  if (fields.size !== 3 || !/^(True|False)$/.test(order) || !/^\((|.*,.*)\)$/.test(dims)) throw unreadable;
  const shape = Array.from(dims.matchAll(/-?\d+/g), ([d]) => Number(d));
  if (!shape.every((d) => Number.isSafeInteger(d) && d >= 0)) {
    throw inputError(where, `shape ${dims.slice(0, 60)}, expected whole numbers from 0 up; ${fix}`);
  }
  return { dtype: parseDescr(descr, where), columnMajor: order === 'True', shape };
}

function parseDescr(descr: string, where: string): NpyDType {
  const [, order, code = ''] = /^'([<>|=])?(.*)'$/s.exec(descr) ?? [];
  const dtype = dtypes.get(code);
  if (dtype && (order !== '>' || byteSize(dtype) === 1)) return dtype;
  if (dtype) {
    throw inputError(where, `holds big-endian ${dtype}, expected little endian; save array.astype('<${code}')`);
  }
  if (code === 'O') {
    throw inputError(where, 'holds Python objects (dtype object, a pickle), which could run code and are never read; '
      + 'save an array of numbers, such as numpy.asarray(a, dtype="float32")');
  }
  throw inputError(where, `dtype ${brief(descr)} is not supported, expected one of ${[...dtypes.keys()].join(', ')}; `
    + 'convert it with array.astype');
}

/** The same array with its last dimension, not its first, running fastest. */
function toRowMajor(t: Tensor<NpyDType>): Tensor<NpyDType> {
  const out = zeros(t.dtype, t.shape);
  const from = t.data as ArrayLike<number | bigint>;
  const to = out.data as unknown as (number | bigint)[];
  const strides = t.shape.map((_, axis) => numel(t.shape.slice(0, axis)));
  const index = t.shape.map(() => 0);
  for (let i = 0, at = 0; i < to.length; i++) {
    to[i] = from[at]!;
    for (let axis = index.length - 1; axis >= 0; axis--) {
      at += strides[axis]!;
      if (++index[axis]! < t.shape[axis]!) break;
      at -= index[axis]! * strides[axis]!;
      index[axis] = 0;
    }
  }
  return out;
}

/** A .npy file (version 1, row-major, little endian), byte for byte as `numpy.save` writes it. */
export function encodeNpy(t: Tensor<NpyDType>): Uint8Array {
  assert(t.data.length === numel(t.shape), `${t.data.length} elements for shape [${t.shape.join(', ')}]`);
  const order = byteSize(t.dtype) === 1 ? '|' : '<';
  const dims = t.shape.length === 1 ? `${t.shape[0]},` : t.shape.join(', ');
  const room = t.shape.length === 0 ? 0 : growthDigits - String(t.shape[0]).length;
  const descr = `${order}${codes[t.dtype]}`;
  const literal = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${dims}), }${' '.repeat(room)}`;
  const padding = 64 - ((10 + literal.length + 1) % 64);
  const header = `${literal}${' '.repeat(padding)}\n`;
  const data = bytesOf(t);
  const out = new Uint8Array(10 + header.length + data.byteLength);
  out.set(Uint8Array.from([...magic, '\x01', '\x00'], (c) => c.charCodeAt(0)));
  new DataView(out.buffer).setUint16(8, header.length, true);
  out.set(new TextEncoder().encode(header), 10);
  out.set(data, 10 + header.length);
  return out;
}

function latin1(bytes: Uint8Array): string {
  return Array.from(bytes, (b) => String.fromCharCode(b)).join('');
}
