import { afterAll, describe, expect, test } from 'vitest';
import { nodeRuntime } from '../../runtime/node.js';
import type { Tensors } from '../../runtime/session.js';
import { Random } from '../../util/random.js';
import { type DType, type Tensor, bytesOf, float32, fromFloat64, int64, numel, toFloat64 } from '../../util/tensor.js';
import { type Attribute, imported, onnxModel, original, programOf, run } from '../testing/model.js';
import { domains } from './index.js';

const runtime = nodeRuntime();
afterAll(() => runtime.close());

interface Case {
  op: string;
  domain?: string;
  opset?: number;
  /** Operands that come with a run. */
  feeds?: Record<string, Tensor>;
  /** Operands of the file, in order behind the feeds; null is one that is left out. */
  constants?: readonly (Tensor | null)[];
  attributes?: Readonly<Record<string, Attribute>>;
  outputs?: readonly string[];
  /** Where ONNX Runtime rounds in between. */
  tolerance?: number;
}

let drawn = 0;
const draw = (dtype: DType, shape: number[], at: (r: Random) => number): Tensor => {
  const random = Random.seeded(9).child('draw', drawn++);
  return fromFloat64(dtype, shape, Float64Array.from({ length: numel(shape) }, () => at(random)));
};
const x = (...shape: number[]): Tensor => draw('float32', shape, (r) => Math.fround(r.normal()));
const positive = (...shape: number[]): Tensor => draw('float32', shape, (r) => Math.fround(r.uniform(0.3, 2)));
const whole = (dtype: DType, low: number, high: number, ...shape: number[]): Tensor =>
  draw(dtype, shape, (r) => low + r.integer(high - low));
const i64 = (...values: number[]): Tensor => int64([values.length], values);
const scalar = (value: number): Tensor => float32([], [value]);
const f = (value: number): { float: number } => ({ float: value });
const bools = (...shape: number[]): Tensor => whole('bool', 0, 2, ...shape);

const unary = (op: string, input: Tensor = x(2, 3), attributes: Case['attributes'] = {}): Case =>
  ({ op, feeds: { x: input }, attributes });
const binary = (op: string, a: Tensor = x(2, 3), c: Tensor = x(3), attributes: Case['attributes'] = {}): Case =>
  ({ op, feeds: { x: a, z: c }, attributes });
const reduction = (op: string, make: (...shape: number[]) => Tensor = x): Case[] => [
  { op, opset: 11, feeds: { x: make(2, 3, 4) }, attributes: { axes: [-1, 0] } },
  { op, opset: 12, feeds: { x: make(2, 3) } },
  { op, opset: 18, feeds: { x: make(2, 3, 4) }, constants: [i64(1)], attributes: { keepdims: 0 } },
  { op, opset: 18, feeds: { x: make(2, 3) }, constants: [], attributes: { noop_with_empty_axes: 0 } },
];

const resizes: Case[] = [
  ...['half_pixel', 'pytorch_half_pixel', 'align_corners', 'asymmetric', 'half_pixel_symmetric'].flatMap((mode) =>
    ['nearest', 'linear', 'cubic'].map((m): Case => ({
      op: 'Resize', opset: mode === 'half_pixel_symmetric' ? 19 : 13, feeds: { x: x(1, 2, 4, 5) },
      constants: [null, null, i64(1, 2, 7, 3)],
      attributes: { mode: m, coordinate_transformation_mode: mode, nearest_mode: 'round_prefer_ceil' }, tolerance: 1e-4,
    }))),
  ...['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'].map((nearest_mode): Case => ({
    op: 'Resize', opset: 11, feeds: { x: x(1, 1, 4, 6) }, constants: [float32([0], []), float32([4], [1, 1, 1.5, 0.5])],
    attributes: { mode: 'nearest', nearest_mode, coordinate_transformation_mode: 'half_pixel' },
  })),
  { op: 'Resize', opset: 10, feeds: { x: x(1, 1, 3, 4) }, constants: [float32([4], [1, 1, 2, 1.5])], attributes: { mode: 'linear' } },
  { op: 'Upsample', opset: 9, feeds: { x: x(1, 1, 3, 4) }, constants: [float32([4], [1, 1, 2, 3])], attributes: { mode: 'nearest' } },
  {
    op: 'Resize', opset: 18, feeds: { x: x(1, 2, 9, 8) }, constants: [null, null, i64(4, 3)],
    attributes: { mode: 'linear', antialias: 1, axes: [2, 3] }, tolerance: 1e-4,
  },
  {
    op: 'Resize', opset: 18, feeds: { x: x(1, 2, 5, 6) }, constants: [null, null, i64(1, 2, 8, 9)],
    attributes: { mode: 'cubic', exclude_outside: 1, cubic_coeff_a: f(-0.5) }, tolerance: 1e-4,
  },
];

const attentionCases: Case[] = [
  { op: 'Attention', feeds: { x: x(2, 3, 4), w: x(4, 12), c: x(12) }, attributes: { num_heads: 2 } },
  {
    op: 'Attention', feeds: { x: x(2, 3, 4), w: x(4, 12), c: x(12) },
    constants: [fromFloat64('int32', [2, 3], Float64Array.of(1, 1, 0, 1, 1, 1))], attributes: { num_heads: 1, unidirectional: 1 },
  },
  { op: 'MultiHeadAttention', feeds: { q: x(2, 3, 8), k: x(2, 5, 8), v: x(2, 5, 8) }, attributes: { num_heads: 2 } },
  {
    op: 'MultiHeadAttention', feeds: { q: x(2, 3, 8), k: x(2, 3, 8), v: x(2, 3, 8), c: x(24) },
    constants: [null, x(1, 2, 3, 3)], attributes: { num_heads: 2, scale: f(0.3) },
  },
];

const contrib = (rows: Case[]): Case[] => rows.map((row) => ({ domain: 'com.microsoft', ...row }));

const cases: Case[] = [
  ...['Cos', 'Erf', 'Exp', 'Floor', 'Ceil', 'Neg', 'Relu', 'Sigmoid', 'Sign', 'Sin', 'Softplus', 'Tanh', 'Round', 'Abs',
    'Softsign', 'HardSwish', 'Mish', 'Identity', 'Dropout', 'IsNaN'].map((op) => unary(op)),
  unary('IsInf', float32([3], [1, -Infinity, Infinity])), unary('IsNaN', float32([2], [NaN, Infinity])),
  unary('Log', positive(4)), unary('Sqrt', positive(4)), unary('Reciprocal', positive(4)), unary('Not', bools(4)),
  unary('Elu', x(9), { alpha: f(0.7) }), unary('Celu', x(9), { alpha: f(0.7) }), unary('Selu', x(9)),
  unary('LeakyRelu', x(9)), unary('ThresholdedRelu', x(9), { alpha: f(0.3) }),
  unary('HardSigmoid', x(9)), unary('HardSigmoid', x(9), { alpha: f(0.5), beta: f(0.25) }),
  { ...unary('Gelu', x(9)), opset: 20 }, { ...unary('Gelu', x(9), { approximate: 'tanh' }), opset: 20 },
  binary('PRelu'), binary('Add'), binary('Sub'), binary('Mul'), binary('Div', x(2, 3), positive(3)), binary('Greater'),
  binary('Less'), binary('GreaterOrEqual'), binary('LessOrEqual'), binary('Equal'), binary('And', bools(2, 3), bools(3)),
  binary('Or', bools(2, 3), bools(3)), binary('Xor', bools(2, 3), bools(3)), binary('Max'), binary('Min'), binary('Sum'),
  binary('Mean', x(2, 3), x(2, 3)), binary('Div', i64(7, -7, 9), i64(2, 2, -4)),
  { op: 'Max', feeds: { a: x(2, 3), c: x(3), d: x(2, 1) } }, { op: 'Mean', feeds: { a: x(2, 3), c: x(3), d: x(2, 1) } },
  binary('Mod', i64(7, -7, 7, -7, 6), i64(3, 3, -3, -3, 3)), binary('Mod', i64(7, -7, 7, -7), i64(3, 3, -3, -3), { fmod: 1 }),
  binary('Mod', x(5), positive(5), { fmod: 1 }),
  binary('Pow', positive(2, 3), x(3)), ...[2, 3, 0.5, -1].map((e): Case =>
    ({ op: 'Pow', feeds: { x: positive(2, 3) }, constants: [scalar(e)] })),
  { op: 'Pow', feeds: { x: positive(2, 3) }, constants: [i64(4)] },
  { op: 'Where', feeds: { c: bools(2, 1), x: x(2, 3), z: x(3) } },
  { op: 'Clip', opset: 9, feeds: { x: x(9) }, attributes: { min: f(-0.5), max: f(0.5) } },
  { op: 'Clip', opset: 13, feeds: { x: x(9) }, constants: [null, scalar(0.3)] },
  { op: 'Clip', opset: 13, feeds: { x: x(9), low: scalar(-0.2) } },
  { op: 'Clip', opset: 13, feeds: { x: i64(1, 5, 9) }, constants: [int64([], [2]), int64([], [6])] },
  { op: 'Cast', feeds: { x: x(5) }, attributes: { to: 7 } }, { op: 'Cast', feeds: { x: i64(1, 0, -2) }, attributes: { to: 9 } },
  { op: 'CastLike', feeds: { x: x(5), like: i64(1) } },
  // shapes
  { op: 'Constant', attributes: { value: x(2, 3) } }, { op: 'Constant', attributes: { value_float: f(0.25) } },
  { op: 'Constant', attributes: { value_floats: { floats: [1.5, -2] } } }, { op: 'Constant', attributes: { value_int: 7 } },
  { op: 'Constant', attributes: { value_ints: [7, 8] } },
  { op: 'ConstantOfShape', constants: [i64(2, 3)] }, { op: 'ConstantOfShape', constants: [i64(2)], attributes: { value: i64(7) } },
  unary('Shape', x(2, 3, 4)), { ...unary('Shape', x(2, 3, 4), { start: -2, end: 3 }), opset: 15 }, unary('Size', x(2, 3)),
  { op: 'Range', constants: [int64([], [1]), int64([], [10]), int64([], [4])] },
  { op: 'Range', constants: [scalar(3), scalar(0), scalar(-0.75)] },
  { op: 'Reshape', feeds: { x: x(2, 3, 4) }, constants: [i64(0, -1)] },
  { op: 'Reshape', feeds: { x: x(2, 3, 4) }, constants: [i64(4, 6)], attributes: { allowzero: 1 } },
  unary('Flatten', x(2, 3, 4)), unary('Flatten', x(2, 3, 4), { axis: -1 }), unary('Flatten', x(2, 3), { axis: 0 }),
  { ...unary('Squeeze', x(1, 3, 1), { axes: [-1] }), opset: 11 }, { op: 'Squeeze', feeds: { x: x(1, 3, 1) }, constants: [i64(0)] },
  unary('Squeeze', x(1, 3, 1)), { ...unary('Unsqueeze', x(2, 3), { axes: [0, -1] }), opset: 11 },
  { op: 'Unsqueeze', feeds: { x: x(2, 3) }, constants: [i64(1, 3)] },
  unary('Transpose', x(2, 3, 4)), unary('Transpose', x(2, 3, 4), { perm: [1, 2, 0] }),
  binary('Concat', x(2, 3), x(2, 1), { axis: -1 }), { op: 'Concat', feeds: { a: i64(3), c: int64([0], []) }, attributes: { axis: 0 } },
  { ...unary('Split', x(2, 6), { axis: 1, split: [1, 5] }), opset: 11, outputs: ['y', 'z'] },
  { op: 'Split', opset: 13, feeds: { x: x(2, 6) }, constants: [i64(4, 2)], attributes: { axis: -1 }, outputs: ['y', 'z'] },
  { op: 'Split', opset: 18, feeds: { x: x(7, 2) }, attributes: { num_outputs: 3 }, outputs: ['y', 'z', 'w'] },
  { ...unary('Slice', x(4, 5), { starts: [1, -3], ends: [3, 1000], axes: [0, 1] }), opset: 9 },
  { op: 'Slice', feeds: { x: x(4, 5) }, constants: [i64(-1, 0), i64(-1000, 4), i64(-1, 0), i64(-2, 3)] },
  { op: 'Slice', feeds: { x: x(4, 5) }, constants: [i64(1), { dtype: 'int64', shape: [1], data: BigInt64Array.of(2n ** 63n - 1n) }] },
  { op: 'Slice', feeds: { x: x(4) }, constants: [i64(0), i64(4), i64(0), i64(2)] },
  { ...unary('Pad', x(2, 3), { pads: [1, 0, 0, 2], value: f(0.5) }), opset: 10 },
  { op: 'Pad', feeds: { x: x(2, 3) }, constants: [i64(0, 1, 2, 0), scalar(1.5)] },
  { op: 'Pad', opset: 18, feeds: { x: x(3, 4) }, constants: [i64(-1, 2), null, i64(1)] },
  ...['edge', 'reflect'].map((mode): Case => ({ op: 'Pad', feeds: { x: x(3, 4) }, constants: [i64(2, 1, 1, 3)], attributes: { mode } })),
  { op: 'Pad', opset: 19, feeds: { x: x(3, 4) }, constants: [i64(2, 1, 1, 3)], attributes: { mode: 'wrap' } },
  { op: 'Expand', feeds: { x: x(3, 1) }, constants: [i64(2, 1, 4)] }, { op: 'Tile', feeds: { x: x(2, 3) }, constants: [i64(2, 3)] },
  { op: 'Gather', feeds: { x: x(4, 3) }, constants: [i64(3, -1)] }, { op: 'Gather', feeds: { x: x(2, 4) }, constants: [int64([], [2])], attributes: { axis: -1 } },
  { op: 'GatherElements', feeds: { x: x(3, 4) }, constants: [int64([3, 1], [0, 3, -1])], attributes: { axis: 1 } },
  { op: 'GatherND', feeds: { x: x(3, 4, 2) }, constants: [int64([2, 2], [0, 1, 2, 3])] },
  { op: 'ScatterElements', feeds: { x: x(3, 4) }, constants: [int64([1, 4], [0, 2, 1, 0]), x(1, 4)], attributes: { axis: 0 } },
  { op: 'ScatterElements', opset: 16, feeds: { x: x(3, 4) }, constants: [int64([2, 4], [0, 2, 1, 0, 0, 2, 1, 0]), x(2, 4)], attributes: { reduction: 'add' } },
  { op: 'Scatter', opset: 9, feeds: { x: x(3, 4) }, constants: [int64([3, 1], [0, 2, 1]), x(3, 1)], attributes: { axis: 1 } },
  { op: 'ScatterND', feeds: { x: x(4, 3) }, constants: [int64([2, 1], [2, 0]), x(2, 3)] },
  { op: 'Trilu', feeds: { x: x(2, 3, 4) } }, { op: 'Trilu', feeds: { x: x(3, 4) }, constants: [int64([], [1])], attributes: { upper: 0 } },
  { op: 'CumSum', feeds: { x: x(2, 4) }, constants: [int64([], [1])] },
  { op: 'CumSum', feeds: { x: i64(1, 2, 3, 4) }, constants: [int64([], [0])], attributes: { exclusive: 1, reverse: 1 } },
  { op: 'OneHot', feeds: { x: int64([2, 2], [0, 2, -1, 1]) }, constants: [i64(3), float32([2], [-1, 2])] },
  { op: 'OneHot', feeds: { x: i64(0, 2) }, constants: [i64(3), float32([2], [0, 1])], attributes: { axis: 0 } },
  { op: 'NonZero', constants: [float32([2, 3], [0, 1, 2, 0, 0, 3])] },
  unary('DepthToSpace', x(1, 8, 2, 3), { blocksize: 2 }), unary('DepthToSpace', x(1, 8, 2, 3), { blocksize: 2, mode: 'CRD' }),
  unary('SpaceToDepth', x(1, 2, 4, 6), { blocksize: 2 }),
  { op: 'TopK', feeds: { x: x(3, 5) }, constants: [i64(2)], attributes: { largest: 0 }, outputs: ['y', 'i'] },
  unary('ArgMax', x(2, 5), { axis: -1 }), unary('ArgMin', x(2, 5), { axis: 1, keepdims: 0 }),
  // products, convolution, pooling
  binary('MatMul', x(2, 3, 4), x(4, 5)), binary('MatMul', x(4), x(2, 4, 3)), binary('MatMul', x(2, 3, 4), x(4)), binary('MatMul', x(4), x(4)),
  { op: 'Gemm', feeds: { x: x(3, 2), z: x(4, 3), c: x(4) }, attributes: { transA: 1, transB: 1, alpha: f(0.5), beta: f(2) } },
  binary('Gemm', x(3, 2), x(2, 4)), binary('Einsum', x(2, 3, 4), x(2, 5, 4), { equation: 'bqd,bkd->bqk' }),
  { op: 'Conv', feeds: { x: x(1, 2, 5, 6), w: x(4, 1, 3, 2), c: x(4) }, attributes: { group: 2, strides: [2, 1], pads: [1, 0, 0, 1], dilations: [1, 2] } },
  ...['SAME_UPPER', 'SAME_LOWER', 'VALID'].map((auto_pad): Case =>
    ({ op: 'Conv', feeds: { x: x(1, 2, 5, 6), w: x(2, 2, 2, 3) }, attributes: { auto_pad, strides: [2, 2] } })),
  { op: 'Conv', feeds: { x: x(1, 2, 7), w: x(3, 2, 3), c: x(3) }, attributes: { pads: [1, 2], strides: [2] } },
  { op: 'ConvTranspose', feeds: { x: x(1, 2, 3, 4), w: x(2, 3, 2, 3), c: x(3) }, attributes: { strides: [2, 1], pads: [0, 1, 1, 0], output_padding: [1, 0] } },
  { op: 'ConvTranspose', feeds: { x: x(1, 2, 5), w: x(2, 3, 4) }, attributes: { strides: [2], pads: [1, 1] } },
  ...[0, 1].flatMap((ceil_mode): Case[] => [
    unary('MaxPool', x(1, 2, 6, 7), { kernel_shape: [3, 2], strides: [2, 2], pads: [1, 0, 1, 1], ceil_mode }),
    unary('AveragePool', x(1, 2, 6, 7), { kernel_shape: [3, 2], strides: [2, 2], pads: [1, 0, 1, 1], ceil_mode }),
    unary('MaxPool', x(1, 1, 5, 5), { kernel_shape: [2, 2], strides: [3, 3], ceil_mode }),
  ]),
  unary('AveragePool', x(1, 2, 6, 7), { kernel_shape: [3, 2], pads: [1, 0, 1, 1], count_include_pad: 1 }),
  unary('MaxPool', x(1, 2, 9), { kernel_shape: [3], strides: [2] }), unary('MaxPool', x(1, 1, 5, 6), { kernel_shape: [2, 3], auto_pad: 'SAME_UPPER', strides: [2, 2] }),
  unary('GlobalAveragePool', x(2, 3, 4, 5)), unary('GlobalMaxPool', x(2, 3, 4)),
  // normalisation and reductions
  { ...unary('Softmax', x(2, 3, 4)), opset: 11 }, { ...unary('Softmax', x(2, 3, 4), { axis: 0 }), opset: 12 }, unary('Softmax', x(2, 3, 4)),
  { ...unary('LogSoftmax', x(2, 3, 4), { axis: 1 }), opset: 9 }, unary('LogSoftmax', x(2, 3, 4), { axis: 1 }),
  { op: 'LayerNormalization', feeds: { x: x(2, 3, 4), w: x(4), c: x(4) }, attributes: { epsilon: f(1e-3) } },
  { op: 'LayerNormalization', feeds: { x: x(2, 3, 4), w: x(3, 4) }, attributes: { axis: 1 } },
  { op: 'RMSNormalization', opset: 23, feeds: { x: x(2, 3, 4), w: x(4) }, attributes: { epsilon: f(1e-3) } },
  { op: 'SimplifiedLayerNormalization', feeds: { x: x(2, 3, 4), w: x(4) }, attributes: { epsilon: f(1e-3) } },
  { op: 'GroupNormalization', opset: 18, feeds: { x: x(2, 6, 3), w: x(3), c: x(3) }, attributes: { num_groups: 3 } },
  { op: 'GroupNormalization', opset: 21, feeds: { x: x(2, 6, 3), w: x(6), c: x(6) }, attributes: { num_groups: 3 } },
  { op: 'BatchNormalization', opset: 9, feeds: { x: x(2, 3, 4, 2), w: x(3), c: x(3), m: x(3), v: positive(3) } },
  { op: 'BatchNormalization', feeds: { x: x(2, 3), w: x(3), c: x(3), m: x(3), v: positive(3) }, attributes: { epsilon: f(0.01) } },
  { op: 'InstanceNormalization', feeds: { x: x(2, 3, 4), w: x(3), c: x(3) } },
  unary('LpNormalization', x(2, 3)), unary('LpNormalization', x(2, 3), { axis: 0, p: 1 }),
  ...['ReduceSum', 'ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceSumSquare', 'ReduceL1', 'ReduceL2', 'ReduceLogSumExp']
    .flatMap((op) => reduction(op).filter((c) => op !== 'ReduceSum' || c.opset !== 18 || c.constants!.length > 0)),
  ...reduction('ReduceLogSum', positive), { op: 'ReduceProd', constants: [i64(2, 3, 4)], attributes: { keepdims: 0 } },
  { op: 'ReduceSum', opset: 18, feeds: { x: x(2, 3) }, attributes: { noop_with_empty_axes: 1 } },
  ...resizes,
  // whole numbers
  { op: 'DequantizeLinear', feeds: { x: whole('uint8', 0, 256, 2, 3) }, constants: [scalar(0.1), fromFloat64('uint8', [], Float64Array.of(7))] },
  { op: 'DequantizeLinear', feeds: { x: whole('int8', -128, 128, 2, 3) }, constants: [float32([3], [0.1, 0.2, 0.3])], attributes: { axis: -1 } },
  { op: 'QuantizeLinear', feeds: { x: x(3, 4) }, constants: [scalar(0.02), fromFloat64('int8', [], Float64Array.of(3))] },
  { op: 'QuantizeLinear', feeds: { x: x(3, 4) }, constants: [float32([3], [0.1, 0.2, 0.3]), whole('uint8', 100, 140, 3)], attributes: { axis: 0 } },
  { op: 'DynamicQuantizeLinear', feeds: { x: x(3, 4) }, outputs: ['y', 's', 'z'] },
  { op: 'MatMulInteger', feeds: { x: whole('uint8', 0, 256, 2, 3), w: whole('int8', -128, 128, 3, 4) } },
  {
    op: 'MatMulInteger', feeds: { x: whole('uint8', 0, 256, 2, 3), w: whole('uint8', 0, 256, 3, 2) },
    constants: [fromFloat64('uint8', [], Float64Array.of(9)), whole('uint8', 0, 256, 2)],
  },
  { op: 'ConvInteger', feeds: { x: whole('uint8', 0, 256, 1, 2, 5, 4), w: whole('uint8', 0, 256, 3, 2, 2, 2) }, attributes: { pads: [1, 0, 0, 1] } },
  ...contrib([
    unary('Gelu', x(9)), unary('QuickGelu', x(9)), unary('QuickGelu', x(9), { alpha: f(1) }), unary('FastGelu', x(9)), binary('FastGelu', x(2, 3), x(3)),
    binary('BiasGelu', x(2, 3), x(3)), binary('FusedMatMul', x(2, 4, 3), x(2, 5, 4), { transA: 1, transB: 1, alpha: f(0.5) }),
    { op: 'SkipLayerNormalization', feeds: { x: x(2, 3, 4), s: x(2, 3, 4), w: x(4), c: x(4), d: x(4) }, attributes: { epsilon: f(1e-3) }, outputs: ['y', '', '', 'sum'] },
    { op: 'SkipSimplifiedLayerNormalization', feeds: { x: x(2, 3, 4), s: x(2, 3, 4), w: x(4) }, attributes: { epsilon: f(1e-3) } },
    ...attentionCases,
    { op: 'DequantizeLinear', feeds: { x: whole('uint8', 0, 256, 4) }, constants: [scalar(0.1), fromFloat64('uint8', [], Float64Array.of(7))] },
    { op: 'QuantizeLinear', feeds: { x: x(4) }, constants: [scalar(0.02), fromFloat64('uint8', [], Float64Array.of(128))] },
    ...[false, true].map((zeros): Case => ({
      op: 'MatMulNBits', feeds: { x: x(2, 3, 40) },
      constants: [whole('uint8', 0, 256, 5, 2, 16), positive(10), ...(zeros ? [whole('uint8', 0, 256, 5)] : [])],
      attributes: { K: 40, N: 5, bits: 4, block_size: 32 }, tolerance: 1e-4,
    })),
  ]),
];

describe('every op computes what ONNX Runtime computes', () => {
  test('each of the table has a case', () => {
    const tested = new Set(cases.map(({ domain = '', op }) => `${domain}:${op}`));
    const all = Object.entries(domains).flatMap(([domain, table]) => Object.keys(table).map((op) => `${domain}:${op}`));
    expect(all.filter((op) => !tested.has(op))).toEqual([]);
    expect([...tested].filter((op) => !all.includes(op))).toEqual([]);
  });

  test.each(cases.map((c, i) => ({ ...c, i })))('$i $op $opset', async (row) => {
    const { op, domain = '', opset = 18, feeds = {}, constants = [], attributes = {}, outputs = ['y'], tolerance = 1e-5 } = row;
    const named = constants.map((t, i): [string, Tensor | null] => [t ? `k${i}` : '', t]);
    const bytes = onnxModel({
      opset,
      inputs: Object.fromEntries(Object.entries(feeds).map(([name, t]) => [name, t])),
      constants: Object.fromEntries(named.filter((entry): entry is [string, Tensor] => entry[1] !== null)),
      nodes: [{ op, domain, inputs: [...Object.keys(feeds), ...named.map(([name]) => name)], outputs, attributes }],
    });
    const expected: Tensors = await original(bytes, feeds);
    const actual = await run(runtime, programOf(imported(bytes), feeds), feeds);
    for (const [name, t] of Object.entries(expected)) {
      expect(actual[name]!.shape, name).toEqual(t.shape);
      expect(actual[name]!.dtype, name).toBe(t.dtype);
      const [got, want] = [toFloat64(actual[name]!), toFloat64(t)];
      want.forEach((v, i) => {
        const close = Object.is(got[i], v) || got[i] === v || Math.abs(got[i]! - v) <= tolerance * Math.max(1, Math.abs(v));
        expect(close, `${name}[${i}] ${got[i]} against ${v}`).toBe(true);
      });
    }
    expect(bytesOf(Object.values(expected)[0]!).length).toBeGreaterThan(0);
  });
});

describe('what is not supported of a known op is refused, and why', () => {
  test.each([
    [{ op: 'Conv', feeds: { x: x(1, 1, 3, 3, 3), w: x(1, 1, 2, 2, 2) } }, 'moves over 3 axes; supported are 1 and 2'],
    [{ op: 'MaxPool', feeds: { x: x(1, 1, 4, 4) }, attributes: { kernel_shape: [2, 2], dilations: [2, 2] } }, 'has dilations'],
    [{ op: 'Resize', feeds: { x: x(1, 1, 4, 4) }, constants: [x(8), null, i64(1, 1, 2, 2)], attributes: { coordinate_transformation_mode: 'tf_crop_and_resize' } },
      'has coordinate_transformation_mode tf_crop_and_resize; supported are half_pixel'],
    [{ op: 'Dropout', feeds: { x: x(3) }, constants: [scalar(0.5), fromFloat64('bool', [], Float64Array.of(1))] }, 'export the model in eval mode'],
    [{ op: 'BatchNormalization', opset: 15, feeds: { x: x(2, 3), w: x(3), c: x(3), m: x(3), v: positive(3) }, attributes: { training_mode: 1 } }, 'has training_mode 1'],
    [{ op: 'ReduceProd', feeds: { x: x(3) } }, 'computes a product from the data'],
    [{ op: 'NonZero', feeds: { x: x(3) } }, 'computes input 0 from the data'],
    [{ op: 'ConstantOfShape', constants: [i64(2 ** 40, 3)], feeds: {} }, undefined],
    [{ op: 'Range', constants: [int64([], [0]), int64([], [2 ** 40]), int64([], [1])] }, 'makes a constant of shape [1099511627776], which is too large'],
    [{ op: 'Range', constants: [scalar(0), scalar(1), scalar(0)] }, 'too large'],
    [{ op: 'Reshape', feeds: { x: x(2, 3) }, constants: [i64(4, -1)] }, 'reshapes [2, 3] to [4, -1]'],
    [{ op: 'Einsum', feeds: { x: x(2, 2) }, attributes: { equation: 'ii->i' } }, 'has the equation "ii->i"'],
  ] as [Case, string | undefined][])('%#', ({ op, opset = 18, feeds = {}, constants = [], attributes = {} }, message) => {
    const named = constants.map((t, i): [string, Tensor | null] => [t ? `k${i}` : '', t]);
    const bytes = onnxModel({
      opset, inputs: feeds, constants: Object.fromEntries(named.filter((entry): entry is [string, Tensor] => entry[1] !== null)),
      nodes: [{ op, inputs: [...Object.keys(feeds), ...named.map(([name]) => name)], attributes }],
    });
    const build = (): unknown => programOf(imported(bytes), feeds);
    if (message === undefined) expect(build).not.toThrow(); // a shape alone takes no memory
    else expect(build).toThrow(message);
  });
});
