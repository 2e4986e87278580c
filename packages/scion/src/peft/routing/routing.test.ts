/** Routing functions: the definitions, their gradients, and how the methods use them. */
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { gradcheck } from '../../autodiff/gradcheck.js';
import { Graph, type Value } from '../../ir/graph.js';
import { dropoutInTraining, enableDropout } from '../../nn/dropout.js';
import * as f from '../../nn/functional.js';
import { type Routes, setRoutes } from '../../nn/routes.js';
import { evaluateGraph } from '../../ops/evaluate.js';
import { checkParity } from '../../trainer/parity.js';
import { Random } from '../../util/random.js';
import { numel } from '../../util/tensor.js';
import { type Route, type RoutingFunction, routed, routingFunctions } from './layer.js';
import { naiveRouting } from './testing/naive.js';

const names = Object.keys(routingFunctions) as RoutingFunction[];
const [tokens, batch, r] = [5, 3, 4];
const random = Random.seeded(21);
const draw = (n: number): Float64Array => Float64Array.from({ length: n }, () => random.normal());

/** Rows of one example of [rows, batch, columns]. */
const rowsOf = (data: Float64Array, example: number, examples: number, columns: number): number[][] =>
  Array.from({ length: data.length / examples / columns }, (_, i) =>
    [...data.subarray((i * examples + example) * columns, (i * examples + example + 1) * columns)]);

/** [rows, batch, columns] of the examples, one after the other. */
const together = (examples: readonly (readonly (readonly number[])[])[]): number[] =>
  examples[0]!.flatMap((_, i) => examples.flatMap((rows) => rows[i]!));

function expectNear(actual: ArrayLike<number>, wanted: ArrayLike<number>, tolerance = 1e-9): void {
  expect(actual.length).toBe(wanted.length);
  const far = Array.from(actual).filter((v, i) => !(Math.abs(v - wanted[i]!) <= tolerance * Math.max(1, Math.abs(wanted[i]!))));
  expect(far).toEqual([]);
}

describe.each(names)('%s', (name) => {
  test.each([1, 3])('is what the paper writes, of %i rows of the picture', (n) => {
    const graph = new Graph();
    const t = graph.input('t', 'float64', [tokens, batch, r]);
    const v = graph.input('v', 'float64', [n, batch, r]);
    graph.output('y', routingFunctions[name](t, v));
    const feeds = { t: draw(tokens * batch * r), v: draw(n * batch * r) };
    const wanted = Array.from({ length: batch }, (_, example) =>
      naiveRouting(name, rowsOf(feeds.t, example, batch, r), rowsOf(feeds.v, example, batch, r)));
    expectNear(evaluateGraph(graph, feeds)['y']!.data, together(wanted));
  });

  test.each([1, 3])('has the gradients of its values, of %i rows of the picture', (n) => {
    const error = gradcheck(
      [{ shape: [tokens, batch, r] }, { shape: [n, batch, r] }], (t, v) => [routingFunctions[name](t, v)], random);
    expect(error).toBeLessThan(1e-7);
  });
});

/** `routed` in a graph of its own with W₁ [width, r] and W₂ [r, width] drawn, in float64. */
function trial(route: Route, routes: (graph: Graph) => Routes): { y: Float64Array; feeds: Record<string, Float64Array> } {
  const width = 6;
  const graph = new Graph();
  const x = graph.input('x', 'float64', [tokens * batch, width]);
  const [down, up] = [graph.input('down', 'float64', [width, r]), graph.input('up', 'float64', [r, width])];
  setRoutes(graph, { batch, ...routes(graph) });
  graph.output('y', routed(x, route, (rows) => f.matmul(rows, down), (rows) => f.matmul(rows, up)));
  const feeds = Object.fromEntries(graph.inputs.map(({ source, shape }) =>
    [source.kind === 'input' ? source.name : '', draw(numel(shape))]));
  if (feeds['mask']) feeds['mask'] = Float64Array.from([1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1]); // [batch, tokens]
  return { y: evaluateGraph(graph, feeds)['y']!.data, feeds };
}

const matrix = (a: number[][], b: Float64Array, columns: number): number[][] => a.map((row) =>
  Array.from({ length: columns }, (_, j) => row.reduce((sum, value, k) => sum + value * b[k * columns + j]!, 0)));

/** What `trial` should give, from the rows of each example that are routed. */
function expected(route: Route, feeds: Record<string, Float64Array>, feature: (example: number) => number[][]): number[] {
  const down = (rows: number[][]): number[][] => matrix(rows, feeds['down']!, r);
  const up = (rows: number[][]): number[][] => matrix(rows, feeds['up']!, 6);
  return together(Array.from({ length: batch }, (_, example) => {
    const [t, v] = [rowsOf(feeds['x']!, example, batch, 6), feature(example)];
    return route.position === 'after'
      ? naiveRouting(route.function, up(down(t)), up(down(v))) as number[][]
      : up(naiveRouting(route.function, down(t), down(v)) as number[][]);
  }));
}

const input = (name: string, shape: readonly number[]) => (graph: Graph): Routes =>
  ({ [name]: graph.input(name, 'float64', shape) });

describe.each(['bottleneck', 'after'] as const)('with the function at %s', (position) => {
  test.each(names)('%s of the picture', (name) => {
    const route: Route = { function: name, feature: 'visual', position };
    const { y, feeds } = trial(route, input('visual', [2, batch, 6]));
    expectNear(y, expected(route, feeds, (example) => rowsOf(feeds['visual']!, example, batch, 6)));
  });
});

const meanOf = (rows: number[][], weights: number[]): number[] =>
  rows[0]!.map((_, j) => rows.reduce((sum, row, i) => sum + row[j]! * weights[i]!, 0) / weights.reduce((a, b) => a + b));

test.each(['text', 'encoder'] as const)('the feature of the %s is a mean without padding', (feature) => {
  const route: Route = { function: 'mul', feature, position: 'bottleneck' };
  const states = feature === 'text' ? 'x' : 'encoder';
  const shape = [tokens, batch, 6];
  const plain = trial(route, feature === 'text' ? () => ({}) : input('encoder', shape));
  expectNear(plain.y, expected(route, plain.feeds, (example) =>
    [meanOf(rowsOf(plain.feeds[states]!, example, batch, 6), Array.from({ length: tokens }, () => 1))]));
  const masked = trial(route, (graph) => ({
    ...(feature === 'encoder' && input('encoder', shape)(graph)), ...input('mask', [batch, tokens])(graph),
  }));
  expectNear(masked.y, expected(route, masked.feeds, (example) => [meanOf(rowsOf(masked.feeds[states]!, example, batch, 6),
    [...masked.feeds['mask']!.subarray(example * tokens, (example + 1) * tokens)])]));
});

test('what is routed has a dropout mask of its own', () => {
  const graph = new Graph();
  enableDropout(graph);
  const x = graph.input('x', 'float64', [batch, 64]);
  setRoutes(graph, { visual: f.reshape(x, [1, batch, 64]) });
  const down = (rows: Value, part: string): Value => dropoutInTraining(rows, 0.5, `layer${part}`);
  graph.output('y', routed(x, { function: 'add', feature: 'visual', position: 'bottleneck' }, down, (rows) => rows));
  const { y } = evaluateGraph(graph, {
    x: new Float64Array(batch * 64).fill(1), 'dropout.seed': Float64Array.of(1), 'dropout.step': Float64Array.of(2),
  });
  // each of the two is 0 or 2; the same mask would leave no 2
  expect(new Set(y!.data)).toEqual(new Set([0, 2, 4]));
});

test('reference files: every output and gradient', async () => {
  const folder = fileURLToPath(new URL('../../../../../fixtures/methods', import.meta.url));
  const results = (await checkParity(folder)).filter(({ file }) => file.startsWith('routing-'));
  expect(results).toHaveLength(2 * names.length);
  for (const { file, tensors } of results) {
    expect(tensors.map((t) => t.name).sort()).toEqual(['output', 'grad_hidden_states', 'grad_visual_states',
      ...(file.startsWith('routing-lora') ? ['grad_lora_A', 'grad_lora_B']
        : ['grad_down_weight', 'grad_down_bias', 'grad_up_weight', 'grad_up_bias'])].sort());
    for (const t of tensors) expect(t.ok, `${file} ${t.name} ${t.error}`).toBe(true);
  }
});
