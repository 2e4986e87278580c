/**
 * The ops of the IR and their attributes. Names and meanings are ONNX's (opset 21) and those of `com.microsoft`.
 *
 * Two differences make graphs easier to build and to rewrite: every attribute is always present, and what ONNX passes
 * as a constant int64 input (`Reshape`'s shape, `ReduceSum`'s axes) is an attribute here, since shapes are static.
 */
import type { DType } from '../util/tensor.js';

type None = Record<string, never>;
export interface Reduction { axes: readonly number[]; keepdims: 0 | 1 }
export interface Axis { axis: number }
export interface Window { kernel_shape: readonly number[]; strides: readonly number[]; pads: readonly number[] }
export interface Convolution {
  strides: readonly number[];
  pads: readonly number[];
  dilations: readonly number[];
  group: number;
}

export interface OpAttributes {
  // elementwise, one input
  Abs: None; Cos: None; Erf: None; Exp: None; Floor: None; Identity: None; Log: None; Neg: None; Not: None;
  Reciprocal: None; Relu: None; Round: None; Sigmoid: None; Sign: None; Sin: None; Softplus: None; Sqrt: None;
  Tanh: None;
  Cast: { to: DType };
  Clip: { min: number; max: number };
  Gelu: { approximate: 'none' | 'tanh' };
  HardSigmoid: { alpha: number; beta: number };
  QuickGelu: { alpha: number };
  // elementwise with broadcasting
  Add: None; Sub: None; Mul: None; Div: None; Pow: None; Max: None; Min: None;
  And: None; Or: None; Equal: None; Greater: None; GreaterOrEqual: None; Less: None; LessOrEqual: None;
  BitwiseXor: None;
  BitShift: { direction: 'LEFT' | 'RIGHT' };
  Where: None;
  // matrix products
  MatMul: None;
  Gemm: { alpha: number; beta: number; transA: 0 | 1; transB: 0 | 1 };
  FusedMatMul: { alpha: number; transA: 0 | 1; transB: 0 | 1; transBatchA: 0 | 1; transBatchB: 0 | 1 };
  // convolution and pooling, [N, C, H, W]
  Conv: Convolution;
  ConvTranspose: Convolution & { output_padding: readonly number[] };
  MaxPool: Window;
  AveragePool: Window & { count_include_pad: 0 | 1 };
  GlobalAveragePool: None;
  // normalisation
  LayerNormalization: { axis: number; epsilon: number };
  GroupNormalization: { num_groups: number; epsilon: number };
  BatchNormalization: { epsilon: number };
  Softmax: Axis;
  LogSoftmax: Axis;
  // reductions
  ReduceSum: Reduction; ReduceMean: Reduction; ReduceMax: Reduction; ReduceMin: Reduction;
  ReduceSumSquare: Reduction;
  ArgMax: { axis: number; keepdims: 0 | 1 };
  // shape
  Reshape: { shape: readonly number[] };
  Transpose: { perm: readonly number[] };
  Concat: Axis;
  Split: { axis: number; split: readonly number[] };
  Slice: { starts: readonly number[]; ends: readonly number[]; axes: readonly number[]; steps: readonly number[] };
  Pad: { pads: readonly number[]; value: number };
  Expand: { shape: readonly number[] };
  // indexing
  Gather: Axis;
  GatherElements: Axis;
  GatherND: None;
  ScatterElements: { axis: number; reduction: 'none' | 'add' };
  ScatterND: { reduction: 'none' | 'add' };
  TopK: { axis: number; k: number; largest: 0 | 1 };
  // whole numbers of 8 bits; zero points are always given
  DynamicQuantizeLinear: None;
  MatMulInteger: None;
  ConvInteger: Convolution;
}

export type OpType = keyof OpAttributes;
