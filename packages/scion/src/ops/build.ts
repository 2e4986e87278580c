/** Functions that add ops to the graph of their inputs, with the defaults of ONNX. Shapes are checked at once. */
import type { Graph, TypeInfo, Value } from '../ir/graph.js';
import type { OpAttributes, OpType } from '../ir/op-types.js';
import { assert } from '../util/errors.js';
import { type DType, type Shape, type Tensor, fromFloat64, numel, sameShape } from '../util/tensor.js';
import { normalAxis } from './def.js';
import { inferTypes } from './table.js';

/** Adds one node and gives all its outputs. */
export function apply<T extends OpType>(op: T, inputs: readonly Value[], attributes: OpAttributes[T]): readonly Value[] {
  const graph = inputs[0]!.graph;
  return graph.add(op, inputs, attributes, inferTypes(op, inputs, attributes));
}

function one<T extends OpType>(op: T, inputs: readonly Value[], attributes: OpAttributes[T]): Value {
  return apply(op, inputs, attributes)[0]!;
}

/** A number as a constant scalar of the dtype of `like`. */
export function constantLike(like: Value, value: number): Value {
  return like.graph.constant(fromFloat64(like.dtype, [], Float64Array.of(value)));
}

/** A constant tensor filled with one number. */
export function full(graph: Graph, dtype: DType, shape: Shape, value: number): Value {
  return expand(graph.constant(fromFloat64(dtype, [], Float64Array.of(value))), shape);
}

export function constant(graph: Graph, data: Tensor, name?: string): Value {
  return graph.constant(data, name);
}

type Operand = Value | number;

function pair(a: Operand, b: Operand): [Value, Value] {
  if (typeof a !== 'number') return [a, typeof b === 'number' ? constantLike(a, b) : b];
  assert(typeof b !== 'number', 'an op needs at least one value');
  return [constantLike(b, a), b];
}

const binary = <T extends 'Add' | 'Sub' | 'Mul' | 'Div' | 'Pow' | 'Max' | 'Min' | 'Equal' | 'Greater' | 'GreaterOrEqual'
  | 'Less' | 'LessOrEqual' | 'And' | 'Or' | 'BitwiseXor'>(op: T) =>
  (a: Operand, b: Operand): Value => one(op, pair(a, b), {});
export const add = binary('Add');
export const sub = binary('Sub');
export const mul = binary('Mul');
export const div = binary('Div');
export const pow = binary('Pow');
export const maximum = binary('Max');
export const minimum = binary('Min');
export const equal = binary('Equal');
export const greater = binary('Greater');
export const greaterOrEqual = binary('GreaterOrEqual');
export const less = binary('Less');
export const lessOrEqual = binary('LessOrEqual');
export const and = binary('And');
export const or = binary('Or');
export const bitwiseXor = binary('BitwiseXor');

const unary = <T extends 'Abs' | 'Cos' | 'Erf' | 'Exp' | 'Floor' | 'Identity' | 'Log' | 'Neg' | 'Not' | 'Reciprocal'
  | 'Relu' | 'Round' | 'Sigmoid' | 'Sign' | 'Sin' | 'Softplus' | 'Sqrt' | 'Tanh' | 'GlobalAveragePool'>(op: T) =>
  (x: Value): Value => one(op, [x], {});
export const abs = unary('Abs');
export const cos = unary('Cos');
export const erf = unary('Erf');
export const exp = unary('Exp');
export const floor = unary('Floor');
export const identity = unary('Identity');
export const log = unary('Log');
export const neg = unary('Neg');
export const not = unary('Not');
export const reciprocal = unary('Reciprocal');
export const relu = unary('Relu');
export const round = unary('Round');
export const sigmoid = unary('Sigmoid');
export const sign = unary('Sign');
export const sin = unary('Sin');
export const softplus = unary('Softplus');
export const sqrt = unary('Sqrt');
export const tanh = unary('Tanh');
export const globalAveragePool = unary('GlobalAveragePool');

const detached = new WeakSet<Value>();
/** x as a value that no gradient goes back from (PyTorch's `detach`). */
export function detach(x: Value): Value {
  const y = identity(x);
  detached.add(y);
  return y;
}
export const isDetached = (x: Value): boolean => detached.has(x);

export function cast(x: Value, to: DType): Value {
  return x.dtype === to ? x : one('Cast', [x], { to });
}
export function clip(x: Value, min: number, max: number): Value {
  return one('Clip', [x], { min, max });
}
/** Exact (erf) by default; `tanh` is the approximation of GPT-2. */
export function gelu(x: Value, approximate: 'none' | 'tanh' = 'none'): Value {
  return one('Gelu', [x], { approximate });
}
/** `x · sigmoid(alpha x)`, the activation of OpenAI's CLIP; alpha 1 is SiLU. */
export function quickGelu(x: Value, alpha = 1.702): Value {
  return one('QuickGelu', [x], { alpha });
}
/** `max(0, min(1, alpha x + beta))`. */
export function hardSigmoid(x: Value, alpha: number, beta: number): Value {
  return one('HardSigmoid', [x], { alpha, beta });
}
export function where(condition: Value, a: Operand, b: Operand): Value {
  return one('Where', [condition, ...pair(a, b)], {});
}
export function bitShift(x: Value, by: Value, direction: 'LEFT' | 'RIGHT'): Value {
  return one('BitShift', [x, by], { direction });
}

/** NumPy's matmul: [..., M, K] × [..., K, N] → [..., M, N], leading dimensions broadcast. */
export function matmul(a: Value, b: Value): Value {
  return one('MatMul', [a, b], {});
}
/** `alpha · op(a) op(b) + beta · c` for matrices. */
export function gemm(a: Value, b: Value, c?: Value, options: Partial<OpAttributes['Gemm']> = {}): Value {
  return one('Gemm', c ? [a, b, c] : [a, b], { alpha: 1, beta: 1, transA: 0, transB: 0, ...options });
}
/** `alpha · op(a) op(b)` over the last two dimensions; `transBatch*` moves the first dimension behind the batch. */
export function fusedMatMul(a: Value, b: Value, options: Partial<OpAttributes['FusedMatMul']> = {}): Value {
  return one('FusedMatMul', [a, b], { alpha: 1, transA: 0, transB: 0, transBatchA: 0, transBatchB: 0, ...options });
}

type ConvOptions = Partial<OpAttributes['Conv']>;
const convDefaults = { strides: [1, 1], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 };

/** x [N, C, H, W], weight [M, C / group, kH, kW], bias [M]; pads are [top, left, bottom, right]. */
export function conv(x: Value, weight: Value, bias?: Value, options: ConvOptions = {}): Value {
  return one('Conv', bias ? [x, weight, bias] : [x, weight], { ...convDefaults, ...options });
}
/** x [N, C, H, W], weight [C, M / group, kH, kW], bias [M]. */
export function convTranspose(
  x: Value, weight: Value, bias?: Value, options: Partial<OpAttributes['ConvTranspose']> = {},
): Value {
  const inputs = bias ? [x, weight, bias] : [x, weight];
  return one('ConvTranspose', inputs, { ...convDefaults, output_padding: [0, 0], ...options });
}
type PoolOptions = { kernel_shape: readonly number[]; strides?: readonly number[]; pads?: readonly number[] };
export function maxPool(x: Value, options: PoolOptions): Value {
  return one('MaxPool', [x], { strides: options.kernel_shape, pads: [0, 0, 0, 0], ...options });
}
export function averagePool(x: Value, options: PoolOptions & { count_include_pad?: 0 | 1 }): Value {
  return one('AveragePool', [x], {
    strides: options.kernel_shape, pads: [0, 0, 0, 0], count_include_pad: 0, ...options,
  });
}

/** Over the dimensions from `axis` on; weight and bias have their shape. */
export function layerNormalization(x: Value, weight: Value, bias?: Value, epsilon = 1e-5, axis = -1): Value {
  return one('LayerNormalization', bias ? [x, weight, bias] : [x, weight], { axis: normalAxis(axis, x.shape.length), epsilon });
}
/** x [N, C, ...], weight and bias [C]. */
export function groupNormalization(x: Value, weight: Value, bias: Value, num_groups: number, epsilon = 1e-5): Value {
  return one('GroupNormalization', [x, weight, bias], { num_groups, epsilon });
}
/** Frozen statistics: x [N, C, ...], the others [C]. */
export function batchNormalization(
  x: Value, weight: Value, bias: Value, mean: Value, variance: Value, epsilon = 1e-5,
): Value {
  return one('BatchNormalization', [x, weight, bias, mean, variance], { epsilon });
}
export function softmax(x: Value, axis = -1): Value {
  return one('Softmax', [x], { axis: normalAxis(axis, x.shape.length) });
}
export function logSoftmax(x: Value, axis = -1): Value {
  return one('LogSoftmax', [x], { axis: normalAxis(axis, x.shape.length) });
}

/** All axes where none are given. */
const reduction = <T extends 'ReduceSum' | 'ReduceMean' | 'ReduceMax' | 'ReduceMin' | 'ReduceSumSquare'>(op: T) =>
  (x: Value, axes: readonly number[] = x.shape.map((_, i) => i), keepdims: 0 | 1 = 0): Value => {
    // ONNX takes an empty list for "all axes"
    if (axes.length === 0) return op === 'ReduceSumSquare' ? mul(x, x) : x;
    return one(op, [x], {
      axes: axes.map((a) => normalAxis(a, x.shape.length)), keepdims,
    });
  };
export const reduceSum = reduction('ReduceSum');
export const reduceMean = reduction('ReduceMean');
export const reduceMax = reduction('ReduceMax');
export const reduceMin = reduction('ReduceMin');
export const reduceSumSquare = reduction('ReduceSumSquare');
export function argMax(x: Value, axis: number, keepdims: 0 | 1 = 0): Value {
  return one('ArgMax', [x], { axis: normalAxis(axis, x.shape.length), keepdims });
}

/** One dimension may be -1. */
export function reshape(x: Value, shape: Shape): Value {
  const known = shape.reduce((p, d) => (d < 0 ? p : p * d), 1);
  const full = shape.map((d) => (d < 0 ? numel(x.shape) / known : d));
  return sameShape(full, x.shape) ? x : one('Reshape', [x], { shape: full });
}
export function transpose(x: Value, perm: readonly number[]): Value {
  return perm.every((p, i) => p === i) ? x : one('Transpose', [x], { perm });
}
/** Exchanges the last two dimensions. */
export function swapLast(x: Value): Value {
  const r = x.shape.length;
  return transpose(x, x.shape.map((_, i) => (i === r - 1 ? r - 2 : i === r - 2 ? r - 1 : i)));
}
export function concat(values: readonly Value[], axis: number): Value {
  return values.length === 1 ? values[0]! : one('Concat', values, { axis: normalAxis(axis, values[0]!.shape.length) });
}
/** Parts of the given sizes along an axis. */
export function split(x: Value, sizes: readonly number[], axis: number): readonly Value[] {
  return apply('Split', [x], { axis: normalAxis(axis, x.shape.length), split: sizes });
}
/** `x[start:end:step]` along one axis, as in NumPy. */
export function slice(x: Value, axis: number, start: number, end: number, step = 1): Value {
  return one('Slice', [x], {
    starts: [start], ends: [end], axes: [normalAxis(axis, x.shape.length)], steps: [step],
  });
}
/** Constant padding: all begins, then all ends. */
export function pad(x: Value, pads: readonly number[], value = 0): Value {
  return one('Pad', [x], { pads, value });
}
export function expand(x: Value, shape: Shape): Value {
  return sameShape(x.shape, shape) ? x : one('Expand', [x], { shape });
}

/** Slices of x along `axis`: the axis is replaced by the shape of `indices`. */
export function gather(x: Value, indices: Value, axis = 0): Value {
  return one('Gather', [x, indices], { axis: normalAxis(axis, x.shape.length) });
}
export function gatherElements(x: Value, indices: Value, axis: number): Value {
  return one('GatherElements', [x, indices], { axis: normalAxis(axis, x.shape.length) });
}
export function gatherND(x: Value, indices: Value): Value {
  return one('GatherND', [x, indices], {});
}
export function scatterElements(
  x: Value, indices: Value, updates: Value, axis: number, reduction: 'none' | 'add' = 'none',
): Value {
  return one('ScatterElements', [x, indices, updates], { axis: normalAxis(axis, x.shape.length), reduction });
}
export function scatterND(x: Value, indices: Value, updates: Value, reduction: 'none' | 'add' = 'none'): Value {
  return one('ScatterND', [x, indices, updates], { reduction });
}
/** The k largest (or smallest) along an axis, sorted, and their indices. */
export function topK(x: Value, k: number, axis = -1, largest: 0 | 1 = 1): readonly [Value, Value] {
  const [values, indices] = apply('TopK', [x], { axis: normalAxis(axis, x.shape.length), k, largest });
  return [values!, indices!];
}

/** Sums a cotangent back to the shape of an operand that was broadcast. */
export function unbroadcast(dy: Value, like: TypeInfo): Value {
  const lead = dy.shape.length - like.shape.length;
  const axes = dy.shape.flatMap((d, i) => (i < lead || (like.shape[i - lead] === 1 && d !== 1) ? [i] : []));
  return reshape(axes.length ? reduceSum(dy, axes, 1) : dy, like.shape);
}

/** Puts a reduced value back over the axes it was reduced over, ready to broadcast. */
export function keepDims(reduced: Value, x: TypeInfo, axes: readonly number[]): Value {
  return reshape(reduced, x.shape.map((d, i) => (axes.includes(i) ? 1 : d)));
}
