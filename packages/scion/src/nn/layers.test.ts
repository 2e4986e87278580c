import { expect, test } from 'vitest';
import { Graph } from '../ir/graph.js';
import { evaluateGraph } from '../ops/evaluate.js';
import { Random } from '../util/random.js';
import { attention, paddingMask } from './layers.js';

test('padding is hidden from every query and head of its text, and nothing else is', () => {
  const graph = new Graph();
  graph.output('y', paddingMask(graph.input('mask', 'float32', [2, 3]), 2));
  const { y } = evaluateGraph(graph, { mask: Float64Array.from([1, 1, 1, 1, 0, 0]) });
  expect(y!.shape).toEqual([4, 1, 3]); // row = text · heads + head
  const [seen, hidden] = [[0, 0, 0], [0, -1e9, -1e9]];
  expect([...y!.data].map((v) => v + 0)).toEqual([...seen, ...seen, ...hidden, ...hidden]);
});

const [batch, heads, width, queries] = [2, 2, 6, 3];

/** Attention of drawn rows to the keys of the given numbers, each of which is always the same. */
function mixed(keys: readonly number[], mask?: readonly number[]): number[] {
  const random = Random.seeded(6);
  const drawn = (count: number): Float64Array => Float64Array.from({ length: count }, () => random.normal());
  const row = batch * width;
  const [q, k, v] = [drawn(queries * row), drawn(9 * row), drawn(9 * row)];
  const chosen = (all: Float64Array): Float64Array =>
    Float64Array.from(keys.flatMap((key) => [...all.slice(key * row, (key + 1) * row)]));
  const graph = new Graph();
  const feed = (name: string, tokens: number) => graph.input(name, 'float32', [tokens * batch, width]);
  const known = (mask?.length ?? 0) / batch;
  const hidden = mask && paddingMask(graph.input('mask', 'float32', [batch, known]), heads);
  graph.output('y', attention(feed('q', queries), feed('k', keys.length), feed('v', keys.length), { tokens: queries, batch, heads }, hidden));
  const feeds = { q, k: chosen(k), v: chosen(v), ...(mask && { mask: Float64Array.from(mask) }) };
  return [...evaluateGraph(graph, feeds)['y']!.data];
}

const apart = (a: readonly number[], b: readonly number[]): number => Math.max(...a.map((v, i) => Math.abs(v - b[i]!)));

test('attention is what it is without the keys that are hidden', () => {
  const alike = [1, 0, 1, 0]; // of either text four keys
  expect(apart(mixed([0, 1, 2, 3], [...alike, ...alike]), mixed([0, 2]))).toBeLessThan(1e-12);
  expect(apart(mixed([0, 1, 2, 3], [...alike, ...alike]), mixed([0, 1, 2, 3]))).toBeGreaterThan(1e-2);
});

test('keys behind those that a mask knows are seen', () => {
  const mask = [1, 1, 0, 1, 1, 0];
  expect(apart(mixed([0, 1, 2, 7, 8], mask), mixed([0, 1, 7, 8]))).toBeLessThan(1e-12);
  expect(apart(mixed([0, 1, 2, 7, 8], mask), mixed([0, 1]))).toBeGreaterThan(1e-2);
});
