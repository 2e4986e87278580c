/**
 * Checks a vjp against central differences on the float64 reference evaluator. The cotangent is random: an all-ones
 * cotangent would let a softmax rule pass that returns zero.
 */
import { Graph, type Value } from '../ir/graph.js';
import { evaluateGraph } from '../ops/evaluate.js';
import type { Random } from '../util/random.js';
import { type DType, type Shape, numel } from '../util/tensor.js';
import { vjp } from './grad.js';

export interface GradcheckInput {
  shape: Shape;
  /** Draws one element; standard normal where absent. */
  draw?: (random: Random) => number;
  /** Values that the gradient is not taken of (indices, conditions): fixed, of this dtype. */
  fixed?: { dtype: DType; values: readonly number[] };
}

/**
 * The largest relative error over all elements of all inputs, `|analytic - numeric| / max(1, |numeric|)`.
 * `body` builds one or more outputs from the inputs, in float64.
 */
export function gradcheck(
  inputs: readonly GradcheckInput[], body: (...values: Value[]) => readonly Value[], random: Random, step = 1e-5,
): number {
  const graph = new Graph();
  const values = inputs.map((x, i) => graph.input(`x${i}`, x.fixed?.dtype ?? 'float64', x.shape));
  const feeds: Record<string, Float64Array> = {};
  inputs.forEach((x, i) => {
    const draw = x.draw ?? ((r: Random) => r.normal());
    feeds[`x${i}`] = x.fixed
      ? Float64Array.from(x.fixed.values)
      : Float64Array.from({ length: numel(x.shape) }, () => draw(random));
  });
  const free = inputs.flatMap((x, i) => (x.fixed ? [] : [i]));
  const outputs = body(...values).filter((v) => v.dtype === 'float64');
  // random cotangents for every output, and the sum over outputs as the scalar that both sides differentiate
  const cotangents = outputs.map((v, i) => {
    feeds[`dy${i}`] = Float64Array.from({ length: numel(v.shape) }, () => random.normal());
    return graph.input(`dy${i}`, 'float64', v.shape);
  });
  outputs.forEach((v, i) => graph.output(`y${i}`, v));
  const forward = new Graph();
  const again = body(...inputs.map((x, i) => forward.input(`x${i}`, x.fixed?.dtype ?? 'float64', x.shape)));
  again.filter((v) => v.dtype === 'float64').forEach((v, i) => forward.output(`y${i}`, v));
  outputs.forEach((v, i) => {
    vjp(v, cotangents[i]!, free.map((k) => values[k]!)).forEach((g, k) => graph.output(`dx${free[k]}_${i}`, g));
  });
  const analytic = evaluateGraph(graph, feeds);
  const value = (): number => {
    const y = evaluateGraph(forward, feeds);
    return outputs.reduce((s, _, i) =>
      s + feeds[`dy${i}`]!.reduce((t, c, j) => t + c * y[`y${i}`]!.data[j]!, 0), 0);
  };
  let worst = 0;
  for (const k of free) {
    const x = feeds[`x${k}`]!;
    for (let j = 0; j < x.length; j++) {
      const at = x[j]!;
      x[j] = at + step;
      const above = value();
      x[j] = at - step;
      const below = value();
      x[j] = at;
      const numeric = (above - below) / (2 * step);
      const exact = outputs.reduce((s, _, i) => s + analytic[`dx${k}_${i}`]!.data[j]!, 0);
      const error = Math.abs(exact - numeric) / Math.max(1, Math.abs(numeric));
      worst = Math.max(worst, Number.isNaN(error) ? Infinity : error);
    }
  }
  return worst;
}
