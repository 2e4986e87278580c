/** Normalisations and softmax. */
import type { Value } from '../ir/graph.js';
import type { OpAttributes } from '../ir/op-types.js';
import { assert } from '../util/errors.js';
import { numel } from '../util/tensor.js';
import * as b from './build.js';
import { type OpDef, type RefTensor, around } from './def.js';

/** Replaces every slice along the axis by `f(slice)`. */
function mapSlices(x: RefTensor, axis: number, f: (slice: Float64Array) => Float64Array): Float64Array {
  const { outer, dim, inner } = around(x.shape, axis);
  const out = new Float64Array(x.data.length);
  for (let o = 0; o < outer; o++) for (let i = 0; i < inner; i++) {
    const at = (k: number): number => (o * dim + k) * inner + i;
    f(Float64Array.from({ length: dim }, (_, k) => x.data[at(k)]!)).forEach((v, k) => { out[at(k)] = v; });
  }
  return out;
}

function softmaxOf(v: Float64Array): Float64Array {
  const max = v.reduce((a, c) => Math.max(a, c), -Infinity);
  const e = v.map((x) => Math.exp(x - max));
  const sum = e.reduce((a, c) => a + c, 0);
  return e.map((x) => x / sum);
}

const meanOf = (v: Float64Array): number => v.reduce((a, c) => a + c, 0) / v.length;

/**
 * The gradient through `(x - mean) · rstd` over `axes`, for a cotangent h of the normalised value:
 * `rstd · (h - mean(h) - xhat · mean(h · xhat))`.
 */
function normalisedGrad(h: Value, xhat: Value, rstd: Value, axes: readonly number[]): Value {
  const centred = b.sub(h, b.reduceMean(h, axes, 1));
  return b.mul(b.sub(centred, b.mul(xhat, b.reduceMean(b.mul(h, xhat), axes, 1))), rstd);
}

/** [C] as [1, C, 1, ...] beside x [N, C, ...]. */
const perChannel = (v: Value, x: Value): Value =>
  b.reshape(v, x.shape.map((d, i) => (i === 1 ? d : 1)));

const exceptChannel = (x: Value): number[] => x.shape.map((_, i) => i).filter((i) => i !== 1);

export const normalization: {
  [T in 'LayerNormalization' | 'GroupNormalization' | 'BatchNormalization' | 'Softmax' | 'LogSoftmax']:
  OpDef<OpAttributes[T]>
} = {
  LayerNormalization: {
    // the second and third output are the mean and the inverse deviation, which the vjp reads
    infer: ([x, weight], { axis }) => {
      const normalised = x!.shape.slice(axis);
      assert(weight!.shape.join() === normalised.join(),
        `LayerNormalization weight [${weight!.shape.join(', ')}] for [${x!.shape.join(', ')}] from axis ${axis}`);
      const reduced = { dtype: x!.dtype, shape: x!.shape.map((d, i) => (i < axis ? d : 1)) };
      return [x!, reduced, reduced];
    },
    evaluate: ([x, weight, bias], { axis, epsilon }) => {
      const size = numel(x!.shape.slice(axis));
      const rows = numel(x!.shape) / size;
      const [out, means, inverse] = [new Float64Array(numel(x!.shape)), new Float64Array(rows), new Float64Array(rows)];
      for (let r = 0; r < rows; r++) {
        const row = x!.data.subarray(r * size, (r + 1) * size);
        const mean = (means[r] = meanOf(row));
        const rstd = (inverse[r] = 1 / Math.sqrt(meanOf(row.map((v) => (v - mean) ** 2)) + epsilon));
        row.forEach((v, i) => { out[r * size + i] = (v - mean) * rstd * weight!.data[i]! + (bias?.data[i] ?? 0); });
      }
      return [out, means, inverse];
    },
    vjp: ({ inputs: [x, weight, bias], outputs: [, mean, rstd], attributes: { axis }, dy, cotangent, reached }) => {
      const lead = x!.shape.map((_, i) => i).slice(0, axis);
      const axes = x!.shape.map((_, i) => i).slice(axis);
      const xhat = (): Value => b.mul(b.sub(x!, mean!), rstd!);
      return [
        () => {
          let dx = normalisedGrad(b.mul(dy, weight!), xhat(), rstd!, axes);
          // the statistics are outputs too, though hardly ever used as such
          const share = 1 / numel(axes.map((i) => x!.shape[i]!));
          if (reached(1)) dx = b.add(dx, b.mul(cotangent(1), share));
          if (reached(2)) dx = b.sub(dx, b.mul(xhat(), b.mul(cotangent(2), b.mul(b.mul(rstd!, rstd!), share))));
          return dx;
        },
        () => b.reduceSum(b.mul(dy, xhat()), lead),
        ...(bias ? [() => b.reduceSum(dy, lead)] : []),
      ];
    },
    onnx: { fixed: { stash_type: 1 }, outputs: 1 },
  },
  GroupNormalization: {
    infer: ([x, weight], { num_groups }) => {
      assert(x!.shape.length >= 2 && x!.shape[1]! % num_groups === 0 && weight!.shape[0] === x!.shape[1],
        `GroupNormalization of [${x!.shape.join(', ')}] in ${num_groups} groups`);
      return [x!];
    },
    evaluate: ([x, weight, bias], { num_groups, epsilon }) => {
      const [N, C] = x!.shape as [number, number];
      const size = numel(x!.shape) / (N * num_groups);
      const plane = size / (C / num_groups);
      const out = new Float64Array(numel(x!.shape));
      for (let group = 0; group < N * num_groups; group++) {
        const part = x!.data.subarray(group * size, (group + 1) * size);
        const mean = meanOf(part);
        const rstd = 1 / Math.sqrt(meanOf(part.map((v) => (v - mean) ** 2)) + epsilon);
        part.forEach((v, i) => {
          const at = group * size + i;
          const channel = Math.floor(at / plane) % C;
          out[at] = (v - mean) * rstd * weight!.data[channel]! + bias!.data[channel]!;
        });
      }
      return [out];
    },
    vjp: ({ inputs: [x, weight], attributes: { num_groups, epsilon }, dy }) => {
      const grouped = b.reshape(x!, [x!.shape[0]!, num_groups, -1]);
      const centred = b.sub(grouped, b.reduceMean(grouped, [2], 1));
      const variance = b.reduceMean(b.mul(centred, centred), [2], 1);
      const rstd = b.reciprocal(b.sqrt(b.add(variance, epsilon)));
      const xhat = b.mul(centred, rstd);
      return [
        () => {
          const h = b.reshape(b.mul(dy, perChannel(weight!, x!)), grouped.shape);
          return b.reshape(normalisedGrad(h, xhat, rstd, [2]), x!.shape);
        },
        () => b.reduceSum(b.mul(dy, b.reshape(xhat, x!.shape)), exceptChannel(x!)),
        () => b.reduceSum(dy, exceptChannel(x!)),
      ];
    },
  },
  BatchNormalization: {
    infer: ([x, weight]) => {
      assert(weight!.shape[0] === x!.shape[1], `BatchNormalization of [${x!.shape.join(', ')}]`);
      return [x!];
    },
    evaluate: ([x, weight, bias, mean, variance], { epsilon }) => {
      const C = x!.shape[1]!;
      const plane = numel(x!.shape.slice(2));
      return [x!.data.map((v, i) => {
        const c = Math.floor(i / plane) % C;
        return (v - mean!.data[c]!) / Math.sqrt(variance!.data[c]! + epsilon) * weight!.data[c]! + bias!.data[c]!;
      })];
    },
    vjp: ({ inputs: [x, weight, , mean, variance], attributes: { epsilon }, dy }) => {
      const rstd = b.reciprocal(b.sqrt(b.add(variance!, epsilon)));
      const channels = exceptChannel(x!);
      const sum = (): Value => b.reduceSum(dy, channels);
      const correlation = (): Value => b.reduceSum(b.mul(dy, b.sub(x!, perChannel(mean!, x!))), channels);
      const scale = b.mul(weight!, rstd);
      return [
        () => b.mul(dy, perChannel(scale, x!)),
        () => b.mul(correlation(), rstd),
        sum,
        () => b.neg(b.mul(sum(), scale)),
        () => b.mul(b.mul(correlation(), b.mul(scale, b.mul(rstd, rstd))), -0.5),
      ];
    },
  },
  Softmax: {
    infer: ([x]) => [x!],
    evaluate: ([x], { axis }) => [mapSlices(x!, axis, softmaxOf)],
    vjp: ({ outputs: [y], attributes: { axis }, dy }) => [
      () => b.mul(y!, b.sub(dy, b.reduceSum(b.mul(dy, y!), [axis], 1))),
    ],
  },
  LogSoftmax: {
    infer: ([x]) => [x!],
    evaluate: ([x], { axis }) => [mapSlices(x!, axis, (v) => softmaxOf(v).map((p, i) => {
      const max = v.reduce((a, c) => Math.max(a, c), -Infinity);
      // log of a probability that underflows is taken from the logits
      return p > 1e-300 ? Math.log(p) : v[i]! - max - Math.log(v.reduce((s, z) => s + Math.exp(z - max), 0));
    }))],
    vjp: ({ outputs: [y], attributes: { axis }, dy }) => [
      () => b.sub(dy, b.mul(b.exp(y!), b.reduceSum(dy, [axis], 1))),
    ],
  },
};
