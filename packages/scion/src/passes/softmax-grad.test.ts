import { describe, expect, test } from 'vitest';
import { vjp } from '../autodiff/grad.js';
import { type Value } from '../ir/graph.js';
import { attention } from '../nn/layers.js';
import * as b from '../ops/build.js';
import { Random } from '../util/random.js';
import type { Shape } from '../util/tensor.js';
import { simplify } from './simplify.js';
import { attentionGrad } from './softmax-grad.js';
import { Program, change } from './testing/programs.js';

/** Widths of what is summed over its last axis: the pairs of tokens, or the head width. */
const sums = (graph: Program['graph']): number[] =>
  graph.nodes.filter((n) => n.op === 'ReduceSum').map((n) => n.inputs[0]!.shape.at(-1)!);

/** Before and after, for the gradients of `body` with respect to all its inputs. */
function rewritten(
  shapes: readonly Shape[], body: (...inputs: Value[]) => Value,
): { before: number[]; after: number[]; change: number } {
  const p = new Program(Random.seeded(9));
  const inputs = shapes.map((s) => p.input(s));
  const y = body(...inputs);
  p.graph.output('y', y);
  vjp(y, p.input(y.shape), inputs).forEach((g, i) => p.graph.output(`dx${i}`, g));
  const result = attentionGrad(simplify(p.graph));
  return { before: sums(p.graph), after: sums(result), change: change(p, result) };
}

const multiHead = (tokens: number, batch: number, heads: number, width: number): ReturnType<typeof rewritten> => {
  const shape = [tokens * batch, width];
  return rewritten([shape, shape, shape], (q, k, v) => attention(q, k, v, { tokens, batch, heads }));
};

describe('fires', () => {
  test('on the gradient of multi-head attention, with heads read by transBatch', () => {
    const { before, after, change } = multiHead(7, 3, 2, 8);
    expect([before, after]).toEqual([[7], [4]]);
    expect(change).toBeLessThan(1e-12);
  });

  test('on plain products, batched or not, and with a factor on either', () => {
    for (const [alpha, beta] of [[1, 1], [0.5, 4], [-2, 0.25]] as const) {
      const { before, after, change } = rewritten([[4, 6, 3], [4, 5, 3], [4, 5, 2]], (q, k, v) =>
        b.mul(b.matmul(b.softmax(b.mul(b.matmul(q, b.swapLast(k)), alpha)), v), beta));
      expect([before, after]).toEqual([[5], [2]]);
      expect(change).toBeLessThan(1e-12);
    }
  });

  test('where values are stored transposed', () => {
    const { after, change } =
      rewritten([[6, 5], [2, 5]], (scores, v) => b.fusedMatMul(b.softmax(scores), v, { transB: 1 }));
    expect(after).toEqual([2]);
    expect(change).toBeLessThan(1e-12);
  });
});

describe('does not fire', () => {
  test('where attention has no more columns than the head is wide', () => {
    for (const tokens of [4, 3]) {
      const { before, after, change } = multiHead(tokens, 3, 2, 8);
      expect(after).toEqual(before);
      expect(after).toEqual([tokens]);
      expect(change).toBeLessThan(1e-12);
    }
  });

  /** `rowsum((dO Wᵀ) ∘ P)` beside `P V`. */
  const byHand = (body: (p: Program, dO: Value, V: Value, P: Value) => Value): { after: number[]; change: number } => {
    const p = new Program(Random.seeded(10));
    const [dO, V] = [p.input([6, 2]), p.input([5, 2])];
    const P = b.softmax(p.input([6, 5]));
    p.graph.output('O', b.matmul(P, V));
    p.graph.output('sum', body(p, dO, V, P));
    const result = attentionGrad(p.graph);
    return { after: sums(result), change: change(p, result) };
  };
  const rowSum = (dP: Value, P: Value, axis = 1, keepdims: 0 | 1 = 1): Value =>
    b.reduceSum(b.mul(dP, P), [axis], keepdims);

  test('(though it does with these very operands)', () => {
    const { after, change } = byHand((_, dO, V, P) => rowSum(b.fusedMatMul(dO, V, { transB: 1 }), P));
    expect(after).toEqual([2]);
    expect(change).toBeLessThan(1e-12);
  });

  test('where dP was made with other values than the product', () => {
    const { after, change } = byHand((p, dO, _, P) => rowSum(b.fusedMatMul(dO, p.input([5, 2]), { transB: 1 }), P));
    expect(after).toEqual([5]);
    expect(change).toBe(0);
  });

  test('where the sum is over another axis, drops it, or is of another matrix than P', () => {
    const dP = (dO: Value, V: Value): Value => b.fusedMatMul(dO, V, { transB: 1 });
    for (const [body, width] of [
      [(_, dO, V, P) => rowSum(dP(dO, V), P, 0), 5],
      [(_, dO, V, P) => rowSum(dP(dO, V), P, 1, 0), 5],
      [(p, dO, V) => rowSum(dP(dO, V), b.softmax(p.input([6, 5]))), 5],
      [(_, dO, V, P) => rowSum(b.sin(dP(dO, V)), P), 5],
    ] as [Parameters<typeof byHand>[0], number][]) {
      const { after, change } = byHand(body);
      expect(after).toEqual([width]);
      expect(change).toBe(0);
    }
  });

  test('where V is read as it is, not transposed, in dP (square, so that the shapes allow it)', () => {
    const p = new Program(Random.seeded(12));
    const [dO, V] = [p.input([6, 5]), p.input([5, 5])];
    const P = b.softmax(p.input([6, 5]));
    p.graph.output('O', b.slice(b.matmul(P, V), 1, 0, 2));
    p.graph.output('sum', rowSum(b.fusedMatMul(dO, V), P));
    expect(change(p, attentionGrad(p.graph))).toBe(0);
  });
});
