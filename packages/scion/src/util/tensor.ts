/** Plain tensors: a dtype, a shape and a typed array in row-major order. */
import { assert } from './errors.js';

/** Element types, by their ONNX and PyTorch names. */
export type DType =
  | 'float32' | 'float64' | 'float16' | 'bfloat16'
  | 'int64' | 'int32' | 'int16' | 'int8'
  | 'uint64' | 'uint32' | 'uint16' | 'uint8'
  | 'bool';

export type Shape = readonly number[];

/** float16 and bfloat16 hold their raw bits, bool holds 0 or 1. */
export interface ArrayOf {
  float32: Float32Array; float64: Float64Array; float16: Uint16Array; bfloat16: Uint16Array;
  int64: BigInt64Array; int32: Int32Array; int16: Int16Array; int8: Int8Array;
  uint64: BigUint64Array; uint32: Uint32Array; uint16: Uint16Array; uint8: Uint8Array;
  bool: Uint8Array;
}
export type TypedArray = ArrayOf[DType];

const arrays = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array, bfloat16: Uint16Array,
  int64: BigInt64Array, int32: Int32Array, int16: Int16Array, int8: Int8Array,
  uint64: BigUint64Array, uint32: Uint32Array, uint16: Uint16Array, uint8: Uint8Array,
  bool: Uint8Array,
} as const satisfies Record<DType, unknown>;

export interface Tensor<T extends DType = DType> {
  readonly dtype: T;
  readonly shape: Shape;
  readonly data: ArrayOf[T];
}

/** Bytes of one element. */
export function byteSize(dtype: DType): number {
  return arrays[dtype].BYTES_PER_ELEMENT;
}

/** Number of elements of a shape; 1 for a scalar. */
export function numel(shape: Shape): number {
  return shape.reduce((a, b) => a * b, 1);
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i]);
}

/** A tensor over existing data; the length must fit the shape. */
export function tensor<T extends DType>(dtype: T, shape: Shape, data: ArrayOf[T]): Tensor<T> {
  assert(data.length === numel(shape), `${data.length} elements for shape [${shape.join(', ')}]`);
  return { dtype, shape, data };
}

/** A float32 tensor from numbers. */
export function float32(shape: Shape, data: ArrayLike<number>): Tensor<'float32'> {
  return tensor('float32', shape, data instanceof Float32Array ? data : Float32Array.from(data));
}

/** An int64 tensor from numbers. */
export function int64(shape: Shape, data: ArrayLike<number>): Tensor<'int64'> {
  return tensor('int64', shape, BigInt64Array.from(Array.from(data, (x) => BigInt(x))));
}

export function scalar(value: number): Tensor<'float32'> {
  return float32([], [value]);
}

export function zeros<T extends DType>(dtype: T, shape: Shape): Tensor<T> {
  return { dtype, shape, data: new arrays[dtype](numel(shape)) as ArrayOf[T] };
}

/** The typed array of `dtype` over `bytes` (copied only where the alignment demands it). */
export function arrayOver<T extends DType>(dtype: T, bytes: Uint8Array): ArrayOf[T] {
  const size = byteSize(dtype);
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  return new arrays[dtype](aligned.buffer as ArrayBuffer, aligned.byteOffset, aligned.byteLength / size) as ArrayOf[T];
}

/** The raw bytes of a tensor, without a copy. */
export function bytesOf(t: Tensor): Uint8Array {
  return new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength);
}

const half = new DataView(new ArrayBuffer(4));

/** The number that the bits of a bfloat16 stand for. */
export function fromBfloat16(bits: number): number {
  half.setUint32(0, bits << 16);
  return half.getFloat32(0);
}

/** The bits of the bfloat16 nearest to x (ties to even). */
export function toBfloat16(x: number): number {
  half.setFloat32(0, x);
  const u = half.getUint32(0);
  if (Number.isNaN(x)) return 0x7fc0;
  return ((u + 0x7fff + ((u >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The number that the bits of an IEEE binary16 stand for. */
export function fromFloat16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** The bits of the IEEE binary16 nearest to x (ties to even; beyond 65504 infinity). */
export function toFloat16(x: number): number {
  if (Number.isNaN(x)) return 0x7e00;
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const a = Math.abs(x);
  if (a >= 65520) return sign | 0x7c00;
  const exponent = Math.max(-14, Math.floor(Math.log2(a || 2 ** -24)));
  // one step of the grid at this exponent is 2^(exponent - 10)
  const steps = roundHalfEven(a / 2 ** (exponent - 10));
  // steps carries over into the next exponent by itself: 2048 steps is 1024 steps one exponent up
  return sign | (exponent === -14 ? steps : ((exponent + 14) << 10) + steps);
}

function roundHalfEven(x: number): number {
  const r = Math.round(x);
  return r - x === 0.5 && r % 2 === 1 ? r - 1 : r;
}

/** Any numeric tensor as doubles (int64 beyond 2^53 loses its low bits). */
export function toFloat64(t: Tensor): Float64Array {
  switch (t.dtype) {
    case 'float16':
    case 'bfloat16': return new Float64Array(toFloat32(t).data);
    case 'int64':
    case 'uint64': return Float64Array.from(t.data as BigInt64Array, Number);
    default: return Float64Array.from(t.data as Float32Array);
  }
}

/** Any numeric tensor as float32; a float32 tensor is returned as it is. */
export function toFloat32(t: Tensor): Tensor<'float32'> {
  if (t.dtype === 'float32') return t as Tensor<'float32'>;
  if (t.dtype === 'float16') return tensor('float32', t.shape, widenFloat16(t.data as Uint16Array));
  if (t.dtype === 'bfloat16') return tensor('float32', t.shape, widenBfloat16(t.data as Uint16Array));
  return tensor('float32', t.shape, new Float32Array(toFloat64(t)));
}

let halves: Float32Array | undefined;

/** By a table of all bit patterns, which is made at the first use. */
function widenFloat16(bits: Uint16Array): Float32Array {
  halves ??= Float32Array.from({ length: 2 ** 16 }, (_, pattern) => fromFloat16(pattern));
  const out = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = halves[bits[i]!]!;
  return out;
}

/** The bits of the nearest binary16 of each number, as `toFloat16` gives them; by integers alone, for whole weights. */
export function narrowFloat16(numbers: Float32Array): Uint16Array {
  const bits = new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);
  const out = new Uint16Array(numbers.length);
  for (let i = 0; i < out.length; i++) {
    const sign = (bits[i]! >>> 16) & 0x8000;
    const magnitude = bits[i]! & 0x7fffffff;
    // normal numbers of binary16: the exponent is moved, and 13 bits are rounded away, ties to even
    const normal = magnitude >= 0x38800000 && magnitude < 0x47800000;
    out[i] = normal
      ? sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13)
      : toFloat16(numbers[i]!);
  }
  return out;
}

/** The bits of a bfloat16 are the upper half of a float32's. */
function widenBfloat16(bits: Uint16Array): Float32Array {
  const out = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = bits[i]! << 16;
  return new Float32Array(out.buffer);
}

/** Doubles as a tensor of `dtype` (integers truncate, bool is "not zero"). */
export function fromFloat64<T extends DType>(dtype: T, shape: Shape, values: Float64Array): Tensor<T> {
  const out = zeros(dtype, shape);
  const data = out.data as unknown as (number | bigint)[];
  const convert: (x: number) => number | bigint =
    dtype === 'float16' ? toFloat16
    : dtype === 'bfloat16' ? toBfloat16
    : dtype === 'int64' || dtype === 'uint64' ? (x) => BigInt(Math.trunc(x))
    : dtype === 'bool' ? (x) => (x !== 0 ? 1 : 0)
    : (x) => x;
  for (let i = 0; i < values.length; i++) data[i] = convert(values[i]!);
  return out;
}
