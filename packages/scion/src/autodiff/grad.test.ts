import { describe, expect, test } from 'vitest';
import { Graph, type Value } from '../ir/graph.js';
import { printGraph } from '../ir/print.js';
import * as b from '../ops/build.js';
import { oneHot } from '../ops/composite.js';
import { evaluateGraph } from '../ops/evaluate.js';
import { Random } from '../util/random.js';
import { gradcheck } from './gradcheck.js';
import { gradients, vjp } from './grad.js';

const backward = (graph: Graph): string[] => graph.nodes.filter((n) => n.path.endsWith('backward')).map((n) => n.path);

function evaluate(
  graph: Graph, outputs: Record<string, Value>, feeds: Record<string, number[]>,
): Record<string, number[]> {
  for (const [name, v] of Object.entries(outputs)) graph.output(name, v);
  const result =
    evaluateGraph(graph, Object.fromEntries(Object.entries(feeds).map(([n, x]) => [n, Float64Array.from(x)])));
  return Object.fromEntries(Object.entries(result).map(([n, t]) => [n, [...t.data]]));
}

describe('backward nodes are built only where a trained value is reachable', () => {
  const stack = (trained: number): { graph: Graph; modules: string[] } => {
    const graph = new Graph();
    let h = graph.input('x', 'float32', [4, 3]);
    const weights = [0, 1, 2].map((i) => graph.input(`w${i}`, 'float32', [3, 3]));
    weights.forEach((w, i) => { h = graph.within(`layers.${i}`, () => b.tanh(b.matmul(h, w))); });
    gradients(graph.within('loss', () => b.reduceMean(b.mul(h, h))), [weights[trained]!]);
    return { graph, modules: [...new Set(backward(graph).map((p) => p.replace('/backward', '')))].sort() };
  };

  test('what lies below the lowest trained layer has none', () => {
    expect(stack(0).modules).toEqual(['layers.0', 'layers.1', 'layers.2', 'loss']);
    expect(stack(1).modules).toEqual(['layers.1', 'layers.2', 'loss']);
    expect(stack(2).modules).toEqual(['layers.2', 'loss']);
  });

  test('each frozen layer above costs one product, the trained one costs one', () => {
    const products = (trained: number): number =>
      stack(trained).graph.nodes.filter((n) => n.path.endsWith('backward') && n.op === 'FusedMatMul').length;
    expect([0, 1, 2].map(products)).toEqual([3, 2, 1]);
  });

  test('a frozen branch beside a trained one has none', () => {
    const graph = new Graph();
    const [x, w] = [graph.input('x', 'float32', [3]), graph.input('w', 'float32', [3])];
    const branch = graph.within('frozen', () => b.exp(b.sin(x)));
    gradients(b.reduceSum(b.mul(branch, w)), [w]);
    expect(backward(graph).filter((p) => p.startsWith('frozen'))).toEqual([]);
  });
});

describe('cotangents', () => {
  test('of a value with several uses add up', () => {
    const graph = new Graph();
    const x = graph.input('x', 'float64', [2]);
    // x·x + 3x + exp x, with x read five times
    const loss = b.reduceSum(b.add(b.add(b.mul(x, x), b.mul(x, 3)), b.exp(x)));
    const { dx } = evaluate(graph, { dx: gradients(loss, [x])[0]! }, { x: [0.5, -1] });
    [0.5, -1].forEach((v, i) => expect(dx![i]).toBeCloseTo(2 * v + 3 + Math.exp(v), 14));
  });

  test('of an inner value and of one above it are both right', () => {
    const graph = new Graph();
    const x = graph.input('x', 'float64', [2]);
    const inner = b.mul(x, x);
    const loss = b.reduceSum(b.mul(inner, inner));
    const [dx, dInner] = gradients(loss, [x, inner]);
    expect(evaluate(graph, { dx: dx!, dInner: dInner! }, { x: [2, -1] })).toEqual({ dx: [32, -4], dInner: [8, 2] });
  });

  test('of the output itself is the one handed in', () => {
    const graph = new Graph();
    const y = b.exp(graph.input('x', 'float64', [2]));
    const dy = graph.input('dy', 'float64', [2]);
    expect(vjp(y, dy, [y])).toEqual([dy]);
  });

  test('of a value that the output does not depend on are zeros of its shape', () => {
    const graph = new Graph();
    const [x, other] = [graph.input('x', 'float64', [2]), graph.input('other', 'float64', [2, 2])];
    const late = b.exp(other);
    const [, dOther, dLate] = gradients(b.reduceSum(x), [x, other, late]);
    const result = evaluate(graph, { dOther: dOther!, dLate: dLate! }, { x: [1, 2], other: [1, 2, 3, 4] });
    expect(result).toEqual({ dOther: [0, 0, 0, 0], dLate: [0, 0, 0, 0] });
    expect(dOther!.shape).toEqual([2, 2]);
  });

  test('of one output of several are joined with zeros of the others', () => {
    const graph = new Graph();
    const x = graph.input('x', 'float64', [3]);
    const [, second] = b.split(x, [1, 2], 0);
    expect(evaluate(graph, { dx: gradients(b.reduceSum(b.mul(second!, 5)), [x])[0]! }, { x: [1, 2, 3] }).dx)
      .toEqual([0, 5, 5]);
  });
});

describe('ops without a gradient', () => {
  test('on the path are named, with their module', () => {
    const graph = new Graph();
    const x = graph.input('x', 'float32', [2]);
    const rounded = graph.within('head.round', () => b.floor(x));
    expect(() => gradients(b.reduceSum(rounded), [x]))
      .toThrow('no gradient passes Floor at head.round; keep it off the path');
  });

  test('below the values that the gradient is taken of do no harm', () => {
    const graph = new Graph();
    const rounded = b.floor(graph.input('x', 'float64', [2]));
    const dr = gradients(b.reduceSum(b.mul(rounded, rounded)), [rounded])[0]!;
    expect(evaluate(graph, { dr }, { x: [1.5, 2.5] }).dr).toEqual([2, 4]);
  });

  test('beside the path do no harm: integers and conditions carry no gradient', () => {
    const graph = new Graph();
    const x = graph.input('x', 'float64', [3]);
    const best = oneHot(b.argMax(x, 0), 3, x);
    const loss = b.reduceSum(b.mul(x, best));
    expect(evaluate(graph, { dx: gradients(loss, [x])[0]! }, { x: [1, 3, 2] }).dx).toEqual([0, 1, 0]);
  });
});

test('a loss is a scalar that the graph computes, a cotangent has the shape of its output', () => {
  const graph = new Graph();
  const x = graph.input('x', 'float32', [2]);
  expect(() => gradients(b.exp(x), [x])).toThrow('a loss is a scalar, not [2]');
  expect(() => gradients(graph.input('s', 'float32', []), [x])).toThrow('computed by the graph');
  expect(() => vjp(b.exp(x), graph.input('dy', 'float32', [3]), [x])).toThrow('shape of its output');
});

test('the backward program of a small perceptron', () => {
  const graph = new Graph();
  const x = graph.input('x', 'float32', [4, 3]);
  const [w1, b1, w2] =
    [graph.input('w1', 'float32', [5, 3]), graph.input('b1', 'float32', [5]), graph.input('w2', 'float32', [2, 5])];
  const hidden = graph.within('fc1', () => b.relu(b.gemm(x, w1, b1, { transB: 1 })));
  const y = graph.within('fc2', () => b.gemm(hidden, w2, undefined, { transB: 1 }));
  const loss = graph.within('loss', () => b.reduceMean(b.mul(y, y)));
  gradients(loss, [w1, b1, w2]).forEach((g, i) => graph.output(['dw1', 'db1', 'dw2'][i]!, g));
  expect(printGraph(graph)).toMatchInlineSnapshot(`
    "input x : float32[4, 3]  (batch)
    input w1 : float32[5, 3]  (batch)
    input b1 : float32[5]  (batch)
    input w2 : float32[2, 5]  (batch)
    constant constant_9 : float32[] = {1}
    constant constant_12 : float32[] = {0.125}
    constant constant_19 : float32[] = {0}
    %4 = Gemm(x, w1, b1) alpha=1 beta=1 transA=0 transB=1 : float32[4, 5]  @ fc1
    %5 = Relu(%4) : float32[4, 5]  @ fc1
    %6 = Gemm(%5, w2) alpha=1 beta=1 transA=0 transB=1 : float32[4, 2]  @ fc2
    %7 = Mul(%6, %6) : float32[4, 2]  @ loss
    %8 = ReduceMean(%7) axes=[0, 1] keepdims=0 : float32[]  @ loss
    %10 = Reshape(%8) shape=[1, 1] : float32[1, 1]  @ loss/backward
    %11 = Reshape(constant_9) shape=[1, 1] : float32[1, 1]  @ loss/backward
    %13 = Mul(%11, constant_12) : float32[1, 1]  @ loss/backward
    %14 = Expand(%13) shape=[4, 2] : float32[4, 2]  @ loss/backward
    %15 = Mul(%14, %6) : float32[4, 2]  @ loss/backward
    %16 = Add(%15, %15) : float32[4, 2]  @ loss/backward
    %17 = FusedMatMul(%16, w2) alpha=1 transA=0 transB=0 transBatchA=0 transBatchB=0 : float32[4, 5]  @ fc2/backward
    %18 = FusedMatMul(%16, %5) alpha=1 transA=1 transB=0 transBatchA=0 transBatchB=0 : float32[2, 5]  @ fc2/backward
    %20 = Greater(%4, constant_19) : bool[4, 5]  @ fc1/backward
    %21 = Where(%20, %17, constant_19) : float32[4, 5]  @ fc1/backward
    %22 = FusedMatMul(%21, x) alpha=1 transA=1 transB=0 transBatchA=0 transBatchB=0 : float32[5, 3]  @ fc1/backward
    %23 = ReduceSum(%21) axes=[0] keepdims=1 : float32[1, 5]  @ fc1/backward
    %24 = Reshape(%23) shape=[5] : float32[5]  @ fc1/backward
    output dw1 = %22 : float32[5, 3]
    output db1 = %24 : float32[5]
    output dw2 = %18 : float32[2, 5]
    "
  `);
});

describe('gradcheck', () => {
  const x = { shape: [3, 4] };
  const random = (): Random => Random.seeded(11);

  test('passes a right gradient', () => {
    expect(gradcheck([x, x], (p, q) => [b.mul(b.sin(p), b.exp(q))], random())).toBeLessThan(1e-7);
  });

  /** v to nine digits, by way of an integer, through which no gradient goes. */
  const detached = (v: Value): Value => b.mul(b.cast(b.cast(b.mul(v, 1e9), 'int64'), 'float64'), 1e-9);

  test('catches a gradient that misses a term', () => {
    expect(gradcheck([x], (v) => [b.mul(v, detached(v))], random())).toBeGreaterThan(0.1);
  });

  test('catches a softmax whose gradient is zero, which all-ones cotangents would let pass', () => {
    expect(gradcheck([x], (v) => [b.softmax(detached(v))], random())).toBeGreaterThan(0.05);
    const graph = new Graph();
    const v = graph.input('v', 'float64', [3, 4]);
    const ones = b.full(graph, 'float64', [3, 4], 1);
    const data = Array.from({ length: 12 }, (_, i) => Math.sin(i));
    const { dv } = evaluate(graph, { dv: vjp(b.softmax(v), ones, [v])[0]! }, { v: data });
    expect(Math.max(...dv!.map(Math.abs))).toBeLessThan(1e-15);
  });

  test('NaN counts as wrong', () => {
    expect(gradcheck([{ shape: [2], draw: () => -1 }], (v) => [b.sqrt(v)], random())).toBe(Infinity);
  });
});
