import { describe, expect, test } from 'vitest';
import { Graph } from '../ir/graph.js';
import { evaluateGraph } from '../ops/evaluate.js';
import { interpolatePlaces } from './patches.js';

/** Embeddings [side², 2] for a grid of rows × columns. */
function interpolated(values: readonly number[], rows: number, columns: number): number[] {
  const graph = new Graph();
  const places = graph.input('places', 'float32', [values.length / 2, 2]);
  graph.output('y', interpolatePlaces(places, rows, columns));
  const { y } = evaluateGraph(graph, { places: Float64Array.from(values) });
  expect(y!.shape).toEqual([rows * columns, 2]);
  return [...y!.data];
}

describe('places of another grid', () => {
  test('are those of the grid where it is the same', () => {
    const values = Array.from({ length: 18 }, (_, i) => i * i);
    expect(interpolated(values, 3, 3)).toEqual(values);
  });

  test('keep what is constant', () => {
    for (const v of interpolated(new Array<number>(2 * 64).fill(7), 16, 5)) expect(v).toBeCloseTo(7, 5);
  });

  // torch.nn.functional.interpolate(x, size=(4, 2), mode='bicubic', align_corners=False) of
  // x = [[0, 1, 4], [9, 16, 25], [36, 49, 64]]
  test('are those of PyTorch', () => {
    const y = interpolated([0, 1, 4, 9, 16, 25, 36, 49, 64].flatMap((v) => [v, -v]), 4, 2);
    const expected = [-0.607334, 1.930576, 3.520046, 11.894993, 21.527805, 39.027863, 40.438385, 63.775475];
    y.forEach((v, i) => expect(v).toBeCloseTo(expected[Math.floor(i / 2)]! * (i % 2 ? -1 : 1), 4));
  });
});
