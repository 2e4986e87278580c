import { afterAll, describe, expect, test } from 'vitest';
import { gradients } from '../autodiff/grad.js';
import { Graph, type Value } from '../ir/graph.js';
import { encodeModel } from '../onnx/encode.js';
import * as b from '../ops/build.js';
import { evaluateGraph } from '../ops/evaluate.js';
import { simplify } from '../passes/simplify.js';
import { nodeRuntime } from '../runtime/node.js';
import { type Shape, float32, numel, tensor } from '../util/tensor.js';
import { dropout } from './dropout.js';

const runtime = nodeRuntime();
afterAll(() => runtime.close());

const shape = [37, 50]; // 50 columns: counters skip from 49 to 64
const count = numel(shape);
const seedA = 7;

function build(p: number, name = 'layers.0', of: Shape = shape): { graph: Graph; x: Value; y: Value } {
  const graph = new Graph();
  const x = graph.input('x', 'float32', of);
  const y = dropout(x, p, graph.input('seed', 'uint32', []), graph.input('step', 'uint32', []), name);
  graph.output('y', y);
  return { graph, x, y };
}

/** 1 where an element of ones is kept, by the reference evaluator. */
function mask(p: number, seed: number, step: number, name?: string, of: Shape = shape): Float64Array {
  const { y } = evaluateGraph(build(p, name, of).graph, {
    x: new Float64Array(numel(of)).fill(1), seed: Float64Array.of(seed), step: Float64Array.of(step),
  });
  return y!.data.map((v) => (v === 0 ? 0 : 1));
}

function correlation(a: Float64Array, c: Float64Array): number {
  const mean = (v: Float64Array): number => v.reduce((s, x) => s + x, 0) / v.length;
  const [ma, mc] = [mean(a), mean(c)];
  const dot = (u: Float64Array, mu: number, v: Float64Array, mv: number): number =>
    u.reduce((s, x, i) => s + (x - mu) * (v[i]! - mv), 0);
  return dot(a, ma, c, mc) / Math.sqrt(dot(a, ma, a, ma) * dot(c, mc, c, mc));
}
/** Four standard deviations of the correlation of n independent pairs. */
const bound = (n = count): number => 4 / Math.sqrt(n);

describe('a mask', () => {
  test('is the same in every session and in the reference evaluator, bit for bit', async () => {
    const { graph } = build(0.3);
    const x = Float32Array.from({ length: count }, (_, i) => i + 1);
    const run = async (program: Graph, step: number): Promise<Float32Array> => {
      const session = await runtime.load(encodeModel(program));
      try {
        const scalar = (v: number): ReturnType<typeof tensor> => tensor('uint32', [], Uint32Array.of(v));
        const { y } = await session.run({ x: float32(shape, x), seed: scalar(0xfffffff1), step: scalar(step) });
        return y!.data as Float32Array;
      } finally {
        await session.release();
      }
    };
    for (const step of [0, 1, 0xffffffff]) {
      const first = await run(graph, step);
      expect(await run(graph, step)).toEqual(first);
      expect(await run(simplify(graph), step)).toEqual(first);
      const { y } = evaluateGraph(graph, {
        x: Float64Array.from(x), seed: Float64Array.of(0xfffffff1), step: Float64Array.of(step),
      });
      expect(first.map((v) => Number(v !== 0))).toEqual(Float32Array.from(y!.data, (v) => Number(v !== 0)));
      const scale = Math.fround(1 / 0.7);
      expect(first.every((v, i) => v === 0 || v === Math.fround(x[i]! * scale))).toBe(true);
    }
  });

  test.each([0.01, 0.1, 0.5, 0.9])('drops with probability %d', (p) => {
    const large = [200, 300];
    const dropped = mask(p, seedA, 3, 'rate', large).reduce((s, v) => s + 1 - v, 0) / numel(large);
    expect(Math.abs(dropped - p)).toBeLessThan(4 * Math.sqrt(p * (1 - p) / numel(large)));
  });

  test('is another one for another step, seed or name', () => {
    const base = mask(0.5, seedA, 3);
    const others = [
      mask(0.5, seedA, 4), mask(0.5, seedA + 1, 3), mask(0.5, 3, seedA), mask(0.5, seedA, 3, 'layers.1'),
      mask(0.5, 0, 0),
    ];
    for (const other of others) expect(Math.abs(correlation(base, other))).toBeLessThan(bound());
  });

  test('has uncorrelated neighbours, in rows and in columns', () => {
    const [rows, columns] = [64, 64];
    const m = mask(0.5, seedA, 9, 'neighbours', [rows, columns]);
    for (const distance of [1, 2, columns, columns + 1, 2 * columns]) {
      const r = correlation(m.slice(0, -distance), m.slice(distance));
      expect(Math.abs(r), `distance ${distance}`).toBeLessThan(bound(m.length - distance));
    }
  });

  test('is uncorrelated with those of the next steps, and no element stays dropped', () => {
    const steps = Array.from({ length: 64 }, (_, s) => mask(0.5, seedA, s));
    const all = (from: number, to: number): Float64Array =>
      Float64Array.from(steps.slice(from, to).flatMap((m) => [...m]));
    for (const lag of [1, 2, 8]) {
      expect(Math.abs(correlation(all(0, 64 - lag), all(lag, 64))), `lag ${lag}`)
        .toBeLessThan(bound(count * (64 - lag)));
    }
    // how often each element is kept: binomial with 64 draws, so the variance over elements is 16
    const kept = Array.from({ length: count }, (_, i) => steps.reduce((s, m) => s + m[i]!, 0));
    const variance = kept.reduce((s, k) => s + (k - 32) ** 2, 0) / count;
    expect(Math.abs(variance - 16)).toBeLessThan(4 * 16 * Math.sqrt(2 / count));
  });
});

test('gradients pass kept elements only, scaled as they are', () => {
  const { graph, x, y } = build(0.25);
  graph.output('dx', gradients(b.reduceSum(b.mul(y, y)), [x])[0]!);
  const data = Float64Array.from({ length: count }, (_, i) => i + 1);
  const { dx, y: out } = evaluateGraph(graph, { x: data, seed: Float64Array.of(1), step: Float64Array.of(2) });
  const scale = Math.fround(1 / 0.75);
  dx!.data.forEach((g, i) => {
    const expected = out!.data[i] === 0 ? 0 : 2 * scale * scale * data[i]!;
    expect(Math.abs(g - expected)).toBeLessThanOrEqual(1e-9 * expected);
  });
});

test('probability 0 is the identity, without a node', () => {
  const { graph, x, y } = build(0);
  expect(y).toBe(x);
  expect(graph.nodes).toEqual([]);
});

test.each([1, -0.1, NaN])('probability %d is refused', (p) => {
  expect(() => build(p)).toThrow('expected 0 ≤ p < 1');
});

test('places of one shape share their counters; a mask of any rank is drawn', () => {
  const graph = new Graph();
  const [seed, step] = [graph.input('seed', 'uint32', []), graph.input('step', 'uint32', [])];
  const x = graph.input('x', 'float32', [40, 3, 50]);
  graph.output('y', dropout(dropout(x, 0.5, seed, step, 'a'), 0.5, seed, step, 'b'));
  const held = graph.constants.reduce((n, v) => n + numel(v.shape), 0);
  expect(held).toBeLessThan(40 * 3 + 50 + 20);
  for (const of of [[], [5], [1, 1], [2, 3, 4, 5], [300, 1]]) {
    expect(mask(0.5, 1, 1, 'rank', of).length).toBe(numel(of));
  }
});
