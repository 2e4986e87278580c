import { expect, test } from 'vitest';
import { Graph } from '../ir/graph.js';
import { evaluateGraph } from '../ops/evaluate.js';
import { type Shape } from '../util/tensor.js';
import { Conv2d, FrozenBatchNorm2d } from './conv.js';
import { Embedding } from './embedding.js';
import { init, trained } from './parameter.js';

const drawn = (_: string, shape: Shape) => trained(shape, init.zeros);
const counted = (n: number): Float64Array => Float64Array.from({ length: n }, (_, i) => i);

test('a convolution has stride and padding on both axes, and no bias', () => {
  const graph = new Graph();
  const layer = new Conv2d(drawn, 1, 2, 3, { stride: 2, padding: 1 });
  graph.output('y', layer.forward(graph.input('x', 'float32', [1, 1, 4, 5])));
  // the second kernel reads the middle alone, the first adds up its window
  const weight = Float64Array.from([...new Array<number>(9).fill(1), 0, 0, 0, 0, 1, 0, 0, 0, 0]);
  const { y } = evaluateGraph(graph, { x: counted(20), weight });
  expect(y!.shape).toEqual([1, 2, 2, 3]);
  expect([...y!.data]).toEqual([12, 27, 24, 63, 108, 81, 0, 2, 4, 10, 12, 14]);
  expect([...layer.parameters()].map(([name]) => name)).toEqual(['weight']);
});

test('batch normalisation takes the stored statistics of each channel', () => {
  const graph = new Graph();
  const layer = new FrozenBatchNorm2d(drawn, 2, 0.5);
  graph.output('y', layer.forward(graph.input('x', 'float32', [1, 2, 1, 2])));
  const { y } = evaluateGraph(graph, {
    x: counted(4), weight: Float64Array.of(2, 3), bias: Float64Array.of(1, -1), running_mean: Float64Array.of(1, 2),
    running_var: Float64Array.of(3.5, 0.5),
  });
  expect([...y!.data]).toEqual([0, 1, -1, 2]); // (x - mean) / √(variance + ε) · weight + bias
});

test('an embedding looks rows up, in the shape of the indices', () => {
  const graph = new Graph();
  graph.output('y', new Embedding(drawn, 4, 2).forward(graph.input('i', 'int64', [1, 3])));
  const { y } = evaluateGraph(graph, { i: Float64Array.of(3, 0, 3), weight: counted(8) });
  expect(y!.shape).toEqual([1, 3, 2]);
  expect([...y!.data]).toEqual([6, 7, 0, 1, 6, 7]);
});
