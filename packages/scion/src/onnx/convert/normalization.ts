/** Normalisations, softmax and reductions. */
import type { Value } from '../../ir/graph.js';
import * as b from '../../ops/build.js';
import { numel } from '../../util/tensor.js';
import { type Call, type Converter } from './call.js';

/** Up to version 12 the axes from `axis` on (absent: 1) are taken as one; from 13 on it is one axis (absent: the last). */
const softmax = (f: (x: Value, axis: number) => Value): Converter => (call) => {
  const x = call.input(0);
  if (call.opset >= 13) return f(x, call.axis(-1));
  const axis = call.axis(1);
  if (axis === x.shape.length - 1) return f(x, axis);
  const lead = numel(x.shape.slice(0, axis));
  return b.reshape(f(b.reshape(x, [lead, -1]), 1), x.shape);
};

const epsilonOf = (call: Call): number => call.number('epsilon', 1e-5);

/** The scale may be of a shape that only broadcasts to the normalised axes. */
function layerNorm(x: Value, scale: Value, bias: Value | undefined, axis: number, epsilon: number): Value {
  const normal = x.shape.slice(axis);
  const fit = (v: Value): Value => (numel(v.shape) === numel(normal) ? b.reshape(v, normal) : b.expand(v, normal));
  return b.layerNormalization(x, fit(scale), bias && fit(bias), epsilon, axis);
}

const layerNormalization: Converter = (call) => {
  if (call.node.outputs.slice(1).some((name) => name !== '')) {
    return call.refuse('gives mean and deviation, which is not supported');
  }
  return layerNorm(call.input(0), call.input(1), call.optional(2), call.axis(-1), epsilonOf(call));
};

/** `x / sqrt(mean(x²) + ε) · scale` */
function rmsNorm(x: Value, scale: Value, axes: readonly number[], epsilon: number): Value {
  const square = b.reduceMean(b.mul(x, x), axes, 1);
  return b.mul(b.div(x, b.sqrt(b.add(square, epsilon))), scale);
}

const rms: Converter = (call) => {
  const x = call.input(0);
  const axis = call.axis(-1);
  return rmsNorm(x, call.input(1), x.shape.map((_, i) => i).slice(axis), epsilonOf(call));
};

/** The sum of both inputs and a bias, normalised; the sum itself is the fourth output. */
const skipLayerNormalization = (simplified: boolean): Converter => (call) => {
  const bias = call.optional(simplified ? 3 : 4);
  const [x, skip] = [call.input(0), call.input(1)];
  const sum = b.add(bias ? b.add(x, bias) : x, skip);
  const last = sum.shape.length - 1;
  const normal = simplified
    ? rmsNorm(sum, call.input(2), [last], epsilonOf(call))
    : layerNorm(sum, call.input(2), call.optional(3), last, call.number('epsilon', 1e-12));
  return [normal, normal, normal, sum];
};

/** Scale and bias are per channel from version 21 on, and per group before. */
const groupNormalization: Converter = (call) => {
  const x = call.input(0);
  const groups = call.number('num_groups', 1);
  const channels = x.shape[1]!;
  const each = (v: Value): Value => (call.opset >= 21 || v.shape[0] === channels ? v
    : b.reshape(b.expand(b.reshape(v, [groups, 1]), [groups, channels / groups]), [channels]));
  return b.groupNormalization(x, each(call.input(1)), each(call.input(2)), groups, epsilonOf(call));
};

const batchNormalization: Converter = (call) => {
  call.only('training_mode', 0);
  call.only('spatial', 1);
  const [scale, bias, mean, variance] = [1, 2, 3, 4].map((i) => call.input(i)) as [Value, Value, Value, Value];
  return b.batchNormalization(call.input(0), scale, bias, mean, variance, epsilonOf(call));
};

/** Every channel by itself. */
const instanceNormalization: Converter = (call) => {
  const x = call.input(0);
  return b.groupNormalization(x, call.input(1), call.input(2), x.shape[1]!, epsilonOf(call));
};

const lpNormalization: Converter = (call) => {
  const [x, axis] = [call.input(0), call.axis(-1)];
  const norm = call.number('p', 2) === 1
    ? b.reduceSum(b.abs(x), [axis], 1) : b.sqrt(b.reduceSumSquare(x, [axis], 1));
  return b.div(x, norm);
};

type Reduce = (x: Value, axes: readonly number[], keepdims: 0 | 1) => Value;

/** Axes are an attribute in older versions and an input in newer ones; none are all, or by an attribute really none. */
const reduce = (f: Reduce): Converter => (call) => {
  const x = call.input(0);
  const given = call.numbers(1, 'axes') ?? [];
  if (given.length === 0 && call.number('noop_with_empty_axes', 0) === 1) return x;
  const axes = given.length > 0 ? given.map((a) => call.axisOf(a, x)) : x.shape.map((_, i) => i);
  return axes.length === 0 ? x : f(x, axes, call.number('keepdims', 1) === 1 ? 1 : 0);
};

/** Of a fixed list alone, as in arithmetic on shapes. */
const product: Converter = (call) => {
  const fixed = call.known(0, 'a product');
  if (fixed.shape.length > 1) {
    return call.refuse(`multiplies along axes of [${fixed.shape.join(', ')}]; supported is a list`);
  }
  const keep = call.number('keepdims', 1) === 1;
  return call.constant(fixed.dtype, keep ? fixed.shape.map(() => 1) : [], [fixed.data.reduce((p, v) => p * v, 1)]);
};

/** log Σ exp x, from the maximum on, so that nothing overflows. */
const logSumExp: Reduce = (x, axes, keepdims) => {
  const max = b.reduceMax(x, axes, 1);
  const sum = b.add(b.log(b.reduceSum(b.exp(b.sub(x, max)), axes, 1)), max);
  return keepdims ? sum : b.reshape(sum, x.shape.filter((_, i) => !axes.includes(i)));
};

export const normalization: Readonly<Record<string, Converter>> = {
  Softmax: softmax(b.softmax),
  LogSoftmax: softmax(b.logSoftmax),
  LayerNormalization: layerNormalization,
  RMSNormalization: rms,
  SimplifiedLayerNormalization: rms,
  GroupNormalization: groupNormalization,
  BatchNormalization: batchNormalization,
  InstanceNormalization: instanceNormalization,
  LpNormalization: lpNormalization,
  ReduceSum: reduce(b.reduceSum),
  ReduceMean: reduce(b.reduceMean),
  ReduceMax: reduce(b.reduceMax),
  ReduceMin: reduce(b.reduceMin),
  ReduceSumSquare: reduce(b.reduceSumSquare),
  ReduceL1: reduce((x, axes, keepdims) => b.reduceSum(b.abs(x), axes, keepdims)),
  ReduceL2: reduce((x, axes, keepdims) => b.sqrt(b.reduceSumSquare(x, axes, keepdims))),
  ReduceLogSum: reduce((x, axes, keepdims) => b.log(b.reduceSum(x, axes, keepdims))),
  ReduceLogSumExp: reduce(logSumExp),
  ReduceProd: product,
};

export const contribNormalization: Readonly<Record<string, Converter>> = {
  SkipLayerNormalization: skipLayerNormalization(false),
  SkipSimplifiedLayerNormalization: skipLayerNormalization(true),
};
