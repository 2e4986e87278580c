/** Inputs on which every op is checked: unequal dimensions, broadcasting, each attribute. A missing op is a type error. */
import type { GradcheckInput } from '../../autodiff/gradcheck.js';
import type { OpAttributes, OpType } from '../../ir/op-types.js';
import type { Random } from '../../util/random.js';
import type { DType } from '../../util/tensor.js';

export interface OpCase<A> {
  inputs: readonly GradcheckInput[];
  attributes: A;
  /** The dtype in which ONNX Runtime is asked, where it is not float32 (bool and integer ops). */
  dtype?: DType;
}

const x = (...shape: number[]): GradcheckInput => ({ shape });
const positive = (...shape: number[]): GradcheckInput => ({ shape, draw: (r) => r.uniform(0.3, 2) });
/** Away from 0, where the op has a kink or a pole. */
const off = (...shape: number[]): GradcheckInput => ({
  shape, draw: (r: Random) => (r.uniform() < 0.5 ? -1 : 1) * r.uniform(0.3, 2),
});
const ints = (shape: number[], values: number[]): GradcheckInput => ({ shape, fixed: { dtype: 'int64', values } });
const bools = (shape: number[], values: number[]): GradcheckInput => ({ shape, fixed: { dtype: 'bool', values } });
const fixed = (dtype: DType, shape: number[], values: number[]): GradcheckInput => ({ shape, fixed: { dtype, values } });
const plain = (...inputs: GradcheckInput[]): OpCase<Record<string, never>> => ({ inputs, attributes: {} });

const pairs = (make: (...shape: number[]) => GradcheckInput): OpCase<Record<string, never>>[] => [
  plain(make(2, 3), make(2, 3)), plain(make(2, 1, 4), make(3, 1)), plain(make(3), make(2, 3)), plain(make(), make(2, 3)),
];
const pools = [
  { kernel_shape: [2, 3], strides: [2, 1], pads: [0, 0, 0, 0] },
  { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] },
];
const product = { alpha: 1, transA: 0, transB: 0, transBatchA: 0, transBatchB: 0 } as const;
const convolution = { strides: [1, 1], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 };
const reductions = (make: (...shape: number[]) => GradcheckInput): OpCase<OpAttributes['ReduceSum']>[] => [
  { inputs: [make(2, 3, 4)], attributes: { axes: [1], keepdims: 1 } },
  { inputs: [make(2, 3, 4)], attributes: { axes: [0, 2], keepdims: 0 } },
  { inputs: [make(3, 2)], attributes: { axes: [0, 1], keepdims: 0 } },
];
const logic = (dtype: DType): OpCase<Record<string, never>> =>
  ({ ...plain(bools([2, 3], [1, 0, 1, 0, 0, 1]), bools([3], [1, 1, 0])), dtype });
/** Whole numbers all over the range of 8 bits. */
const bytes = (dtype: 'uint8' | 'int8', ...shape: number[]): GradcheckInput => fixed(dtype, shape,
  Array.from({ length: shape.reduce((a, c) => a * c, 1) }, (_, i) => ((i * 97 + 13) % 256) - (dtype === 'int8' ? 128 : 0)));
const words = (...shape: number[]): GradcheckInput => ({
  shape,
  fixed: { dtype: 'float64', values: Array.from({ length: shape.reduce((a, c) => a * c, 1) }, (_, i) => (i * 2654435761) % 2 ** 32) },
});

export const opCases: { [T in OpType]: readonly OpCase<OpAttributes[T]>[] } = {
  Abs: [plain(off(2, 3))],
  Cos: [plain(x(2, 3))],
  Erf: [plain(x(2, 3))],
  Exp: [plain(x(2, 3))],
  Floor: [plain(x(2, 3))],
  Identity: [plain(x(2, 3))],
  Log: [plain(positive(2, 3))],
  Neg: [plain(x(2, 3))],
  Not: [{ ...plain(bools([4], [1, 0, 0, 1])), dtype: 'bool' }],
  Reciprocal: [plain(off(2, 3))],
  Relu: [plain(off(2, 3))],
  Round: [plain(x(2, 3)), plain(fixed('float64', [6], [0.5, 1.5, -0.5, -1.5, 2.4, -2.6]))],
  Sigmoid: [plain(x(2, 3))],
  Sign: [plain(off(2, 3))],
  Sin: [plain(x(2, 3))],
  Softplus: [plain(x(2, 3))],
  Sqrt: [plain(positive(2, 3))],
  Tanh: [plain(x(2, 3))],
  Cast: [{ inputs: [x(2, 3)], attributes: { to: 'float64' } }, { inputs: [off(2, 3)], attributes: { to: 'int64' } }],
  Clip: [{ inputs: [x(3, 4)], attributes: { min: -0.5, max: 0.7 } }],
  Gelu: [{ inputs: [x(3, 4)], attributes: { approximate: 'none' } }, { inputs: [x(3, 4)], attributes: { approximate: 'tanh' } }],
  HardSigmoid: [{ inputs: [x(3, 4)], attributes: { alpha: 0.2, beta: 0.5 } }, { inputs: [x(3, 4)], attributes: { alpha: 1, beta: 0.3 } }],
  QuickGelu: [{ inputs: [x(3, 4)], attributes: { alpha: 1.702 } }, { inputs: [x(3, 4)], attributes: { alpha: 1 } }],
  Add: pairs(x),
  Sub: pairs(x),
  Mul: [...pairs(x), { ...plain(words(2, 3), words(3)), dtype: 'uint32' }],
  Div: [...pairs(off), { ...plain(ints([4], [7, -7, 7, -7]), ints([4], [2, 2, -2, -2])), dtype: 'int64' }],
  Pow: pairs(positive),
  Max: pairs(x),
  Min: pairs(x),
  And: [logic('bool')],
  Or: [logic('bool')],
  Equal: [plain(x(2, 3), x(3)), plain(ints([2, 2], [1, 2, 3, 4]), ints([2], [1, 4]))],
  Greater: pairs(x),
  GreaterOrEqual: pairs(x),
  Less: pairs(x),
  LessOrEqual: pairs(x),
  BitwiseXor: [{ ...plain(words(2, 3), words(3)), dtype: 'uint32' }],
  BitShift: [
    { inputs: [words(2, 3), { shape: [], fixed: { dtype: 'float64', values: [13] } }], attributes: { direction: 'RIGHT' }, dtype: 'uint32' },
    { inputs: [words(2, 3), { shape: [], fixed: { dtype: 'float64', values: [5] } }], attributes: { direction: 'LEFT' }, dtype: 'uint32' },
  ],
  Where: [plain(bools([2, 1], [1, 0]), x(2, 3), x(3)), plain(bools([3], [0, 1, 1]), x(2, 3), x())],
  MatMul: [plain(x(2, 3), x(3, 4)), plain(x(2, 3, 4), x(4, 5)), plain(x(2, 3, 4), x(2, 4, 5)), plain(x(3, 4), x(2, 4, 2)),
    plain(x(2, 1, 3, 4), x(5, 4, 2))],
  Gemm: [
    { inputs: [x(2, 3), x(3, 4)], attributes: { alpha: 1, beta: 1, transA: 0, transB: 0 } },
    { inputs: [x(3, 2), x(3, 4), x(4)], attributes: { alpha: 0.5, beta: 2, transA: 1, transB: 0 } },
    { inputs: [x(2, 3), x(4, 3), x(2, 4)], attributes: { alpha: 1, beta: 1, transA: 0, transB: 1 } },
    { inputs: [x(3, 2), x(4, 3), x(2, 1)], attributes: { alpha: 2, beta: 0.5, transA: 1, transB: 1 } },
  ],
  FusedMatMul: [
    { inputs: [x(2, 3), x(3, 4)], attributes: { ...product, alpha: 0.7 } },
    { inputs: [x(2, 4, 3), x(2, 4, 5)], attributes: { ...product, transA: 1 } },
    { inputs: [x(2, 3, 4), x(2, 5, 4)], attributes: { ...product, alpha: 2, transB: 1 } },
    { inputs: [x(2, 4, 3), x(2, 5, 4)], attributes: { ...product, transA: 1, transB: 1 } },
    { inputs: [x(2, 3, 4), x(5, 4)], attributes: { ...product, transB: 1 } },
    { inputs: [x(3, 2, 4), x(2, 4, 5)], attributes: { ...product, transBatchA: 1 } },
    { inputs: [x(3, 2, 4), x(5, 2, 4)], attributes: { ...product, alpha: 0.5, transBatchA: 1, transBatchB: 1, transB: 1 } },
    { inputs: [x(4, 2, 3), x(4, 2, 5)], attributes: { ...product, transA: 1, transBatchA: 1, transBatchB: 1 } },
    { inputs: [x(2, 3, 4), x(4, 2, 5)], attributes: { ...product, transBatchB: 1 } },
  ],
  Conv: [
    { inputs: [x(2, 3, 5, 4), x(4, 3, 3, 2), x(4)], attributes: convolution },
    { inputs: [x(2, 4, 6, 5), x(6, 2, 3, 3)], attributes: { ...convolution, strides: [2, 1], pads: [1, 0, 1, 2], group: 2 } },
    { inputs: [x(1, 2, 7, 6), x(2, 1, 2, 3)], attributes: { ...convolution, strides: [2, 2], dilations: [2, 1], group: 2 } },
    { inputs: [x(2, 2, 5, 4), x(3, 2, 3, 2)], attributes: { ...convolution, pads: [1, 0, 2, 1] } },
    { inputs: [x(2, 3, 6, 7), x(2, 3, 2, 3)], attributes: { ...convolution, strides: [2, 3], pads: [1, 1, 0, 2], dilations: [1, 2] } },
    { inputs: [x(1, 1, 9, 9), x(2, 1, 8, 8)], attributes: { ...convolution, strides: [2, 1], pads: [1, 0, 0, 0] } },
  ],
  ConvTranspose: [
    { inputs: [x(2, 3, 3, 4), x(3, 2, 2, 3), x(2)], attributes: { ...convolution, output_padding: [0, 0] } },
    { inputs: [x(1, 4, 3, 2), x(4, 1, 3, 2)], attributes: { ...convolution, strides: [2, 2], pads: [1, 0, 0, 1], group: 2, output_padding: [1, 0] } },
  ],
  MaxPool: pools.map((attributes) => ({ inputs: [x(2, 2, 6, 5)], attributes })),
  AveragePool: pools.flatMap((a) => ([0, 1] as const).map((count_include_pad) => (
    { inputs: [x(2, 2, 6, 5)], attributes: { ...a, count_include_pad } }))),
  GlobalAveragePool: [plain(x(2, 3, 4, 5))],
  LayerNormalization: [
    { inputs: [x(2, 3, 5), x(5), x(5)], attributes: { axis: 2, epsilon: 1e-5 } },
    { inputs: [x(2, 3, 4), x(3, 4)], attributes: { axis: 1, epsilon: 1e-3 } },
  ],
  GroupNormalization: [
    { inputs: [x(2, 6, 3, 2), x(6), x(6)], attributes: { num_groups: 3, epsilon: 1e-5 } },
    { inputs: [x(2, 4, 3), x(4), x(4)], attributes: { num_groups: 1, epsilon: 1e-3 } },
  ],
  BatchNormalization: [{ inputs: [x(2, 3, 2, 2), x(3), x(3), x(3), positive(3)], attributes: { epsilon: 1e-5 } }],
  Softmax: [{ inputs: [x(2, 3, 4)], attributes: { axis: 2 } }, { inputs: [x(2, 3, 4)], attributes: { axis: 1 } }],
  LogSoftmax: [{ inputs: [x(2, 3, 4)], attributes: { axis: 2 } }, { inputs: [x(3, 4)], attributes: { axis: 0 } }],
  ReduceSum: reductions(x),
  ReduceMean: reductions(x),
  ReduceMax: reductions(x),
  ReduceMin: reductions(x),
  ReduceSumSquare: reductions(x),
  ArgMax: [{ inputs: [x(2, 3, 4)], attributes: { axis: 1, keepdims: 0 } }, { inputs: [x(3, 4)], attributes: { axis: 1, keepdims: 1 } }],
  Reshape: [{ inputs: [x(2, 3, 4)], attributes: { shape: [4, 6] } }],
  Transpose: [{ inputs: [x(2, 3, 4)], attributes: { perm: [2, 0, 1] } }],
  Concat: [{ inputs: [x(2, 3), x(2, 1), x(2, 2)], attributes: { axis: 1 } }],
  Split: [{ inputs: [x(2, 6)], attributes: { axis: 1, split: [1, 3, 2] } }],
  Slice: [
    { inputs: [x(4, 5)], attributes: { starts: [1, -3], ends: [4, 5], axes: [0, 1], steps: [1, 1] } },
    { inputs: [x(4, 5)], attributes: { starts: [-1, 0], ends: [-100, 5], axes: [0, 1], steps: [-2, 2] } },
  ],
  Pad: [{ inputs: [x(2, 3)], attributes: { pads: [1, 0, 0, 2], value: 0.5 } }],
  Expand: [{ inputs: [x(3, 1)], attributes: { shape: [2, 3, 4] } }],
  Gather: [
    { inputs: [x(4, 3), ints([2, 2], [3, 0, 3, 1])], attributes: { axis: 0 } },
    { inputs: [x(2, 4, 3), ints([3], [0, -1, 0])], attributes: { axis: 1 } },
  ],
  GatherElements: [{ inputs: [x(3, 4), ints([3, 2], [0, 0, 3, 1, -1, 2])], attributes: { axis: 1 } }],
  GatherND: [plain(x(3, 4, 2), ints([2, 2], [0, 1, 2, 3])), plain(x(3, 4), ints([4, 1], [2, 2, 0, 1]))],
  ScatterElements: [
    { inputs: [x(3, 4), ints([2, 2], [0, 1, 2, 0]), x(2, 2)], attributes: { axis: 0, reduction: 'none' } },
    { inputs: [x(3, 4), ints([3, 3], [0, 0, 1, 2, 2, 2, 3, 1, 3]), x(3, 3)], attributes: { axis: 1, reduction: 'add' } },
  ],
  ScatterND: [
    { inputs: [x(4, 3), ints([2, 1], [2, 0]), x(2, 3)], attributes: { reduction: 'none' } },
    { inputs: [x(4, 3), ints([3, 1], [2, 0, 2]), x(3, 3)], attributes: { reduction: 'add' } },
  ],
  TopK: [
    { inputs: [x(3, 5)], attributes: { axis: 1, k: 2, largest: 1 } },
    { inputs: [x(5, 2)], attributes: { axis: 0, k: 3, largest: 0 } },
  ],
  DynamicQuantizeLinear: [plain(x(3, 4)), plain(positive(5)), plain({ shape: [2], draw: () => 0 })],
  MatMulInteger: [
    plain(bytes('uint8', 2, 3), bytes('int8', 3, 4), fixed('uint8', [], [7]), fixed('int8', [], [-3])),
    plain(bytes('uint8', 2, 2, 3), bytes('int8', 3, 2), fixed('uint8', [], [250]), fixed('int8', [2], [5, 0])),
  ],
  ConvInteger: [{
    inputs: [bytes('uint8', 1, 2, 5, 4), bytes('uint8', 3, 2, 3, 2), fixed('uint8', [], [9]), fixed('uint8', [], [128])],
    attributes: { ...convolution, strides: [2, 1], pads: [1, 0, 1, 1] },
  }],
};
