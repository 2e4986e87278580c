/** Reductions over axes. */
import type { TypeInfo, Value } from '../ir/graph.js';
import type { OpAttributes } from '../ir/op-types.js';
import { numel } from '../util/tensor.js';
import * as b from './build.js';
import { type OpDef, type RefTensor, around, stridesOf, walk } from './def.js';

type Reduction = OpAttributes['ReduceSum'];

function reducedShape(shape: readonly number[], { axes, keepdims }: Reduction): number[] {
  return shape.flatMap((d, i) => (!axes.includes(i) ? [d] : keepdims ? [1] : []));
}

/** `f` of all elements that fall onto each output. */
function fold(x: RefTensor, { axes }: Reduction, f: (values: Float64Array) => number): Float64Array {
  const strides = stridesOf(x.shape);
  const kept = x.shape.map((_, i) => i).filter((i) => !axes.includes(i));
  const starts = walk(kept.map((i) => x.shape[i]!), kept.map((i) => strides[i]!));
  const inside = walk(axes.map((i) => x.shape[i]!), axes.map((i) => strides[i]!));
  return Float64Array.from(starts, (start) => f(Float64Array.from(inside, (i) => x.data[start + i]!)));
}

const sumOf = (v: Float64Array): number => v.reduce((a, c) => a + c, 0);

function reduce(
  f: (values: Float64Array) => number,
  df: (c: { x: Value; y: Value; dy: Value; axes: readonly number[] }) => Value,
): OpDef<Reduction> {
  return {
    infer: ([x], a) => [{ dtype: x!.dtype, shape: reducedShape(x!.shape, a) }],
    evaluate: ([x], a) => [fold(x!, a, f)],
    vjp: ({ inputs: [x], outputs: [y], attributes: { axes }, dy }) => [() => df({
      x: x!, axes, y: b.keepDims(y!, x!, axes), dy: b.keepDims(dy, x!, axes),
    })],
    onnx: { inputs: [{ attribute: 'axes', as: 'int64' }] },
  };
}

const count = (x: TypeInfo, axes: readonly number[]): number => numel(axes.map((i) => x.shape[i]!));

/** Elements equal to the extremum share its cotangent evenly. */
function extremum(f: (...values: number[]) => number): OpDef<Reduction> {
  return reduce((v) => v.reduce((a, c) => f(a, c)), ({ x, y, dy, axes }) => {
    const hit = b.cast(b.equal(x, y), x.dtype);
    return b.mul(hit, b.div(dy, b.reduceSum(hit, axes, 1)));
  });
}

export const reduction: {
  [T in 'ReduceSum' | 'ReduceMean' | 'ReduceMax' | 'ReduceMin' | 'ReduceSumSquare' | 'ArgMax']: OpDef<OpAttributes[T]>
} = {
  ReduceSum: reduce(sumOf, ({ x, dy }) => b.expand(dy, x.shape)),
  ReduceMean: reduce((v) => sumOf(v) / v.length, ({ x, dy, axes }) => b.expand(b.mul(dy, 1 / count(x, axes)), x.shape)),
  ReduceMax: extremum(Math.max),
  ReduceMin: extremum(Math.min),
  ReduceSumSquare: reduce((v) => v.reduce((a, c) => a + c * c, 0), ({ x, dy }) => b.mul(x, b.mul(dy, 2))),
  ArgMax: {
    infer: ([x], { axis, keepdims }) => [{ dtype: 'int64', shape: reducedShape(x!.shape, { axes: [axis], keepdims }) }],
    evaluate: ([x], { axis }) => {
      const { outer, dim, inner } = around(x!.shape, axis);
      return [Float64Array.from({ length: outer * inner }, (_, o) => {
        const at = (k: number): number => x!.data[(Math.floor(o / inner) * dim + k) * inner + (o % inner)]!;
        let best = 0;
        for (let k = 1; k < dim; k++) if (at(k) > at(best)) best = k;
        return best;
      })];
    },
    vjp: 'nondifferentiable',
  },
};
