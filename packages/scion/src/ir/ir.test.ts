import { describe, expect, test } from 'vitest';
import * as b from '../ops/build.js';
import { float32, int64, tensor } from '../util/tensor.js';
import { Graph, constantData, producer } from './graph.js';
import { printGraph } from './print.js';
import { verifyGraph } from './verify.js';

const weights = { path: '/models/clip/model.safetensors', offset: 1032, byteLength: 24 };

describe('hash-consing', () => {
  test('the same op on the same inputs with the same attributes is one node', () => {
    const graph = new Graph();
    const x = graph.input('x', 'float32', [2, 3]);
    expect(b.exp(x)).toBe(b.exp(x));
    expect(b.add(x, 1)).toBe(b.add(x, 1));
    expect(graph.nodes.map((n) => n.op)).toEqual(['Exp', 'Add']);
  });

  test('another order of inputs, attribute or dtype is another node', () => {
    const graph = new Graph();
    const x = graph.input('x', 'float32', [2, 3]);
    const y = graph.input('y', 'float32', [2, 3]);
    expect(b.sub(x, y)).not.toBe(b.sub(y, x));
    expect(b.softmax(x, 0)).not.toBe(b.softmax(x, 1));
    expect(b.cast(x, 'int32')).not.toBe(b.cast(x, 'int64'));
  });

  test('attributes that JSON writes alike are told apart', () => {
    const graph = new Graph();
    const x = graph.input('x', 'float32', [3]);
    const filled = [Infinity, -Infinity, NaN, 0, -0].map((fill) => b.pad(x, [0, 1], fill));
    expect(new Set(filled).size).toBe(5);
    expect(b.pad(x, [0, 1], Infinity)).toBe(filled[0]);
    expect(b.pad(x, [0, 1], -0)).toBe(filled[4]);
  });

  test('small constants of equal content are shared; -0, dtype and shape keep them apart', () => {
    const graph = new Graph();
    const zero = graph.constant(float32([], [0]));
    expect(graph.constant(float32([], [0]))).toBe(zero);
    const others = [
      graph.constant(float32([], [-0])), graph.constant(float32([1], [0])), graph.constant(int64([], [0])),
      graph.constant(float32([], [0]), 'named'), graph.constant(float32([], [NaN])),
    ];
    expect(new Set([zero, ...others]).size).toBe(6);
    expect(Object.is(constantData(others[0]!)!.data[0], -0)).toBe(true);
  });

  test('large constants are never compared', () => {
    const graph = new Graph();
    const data = float32([17], new Float32Array(17));
    expect(graph.constant(data)).not.toBe(graph.constant(data));
  });
});

test('a program as text', () => {
  const graph = new Graph();
  const x = graph.input('x', 'float32', [2, 3]);
  const w = graph.external('proj.weight', { dtype: 'float16', shape: [3, 4] }, weights);
  const y = graph.within('vision', () => graph.within('proj', () => b.matmul(x, b.cast(w, 'float32'))));
  const [top, indices] = b.topK(b.add(y, 0.5), 2);
  b.add(y, b.constant(graph, float32([20, 1, 1], new Float32Array(20))));
  graph.output('top', top);
  graph.output('indices', indices);
  expect(printGraph(graph)).toMatchInlineSnapshot(`
    "input x : float32[2, 3]  (batch)
    constant proj.weight : float16[3, 4] = /models/clip/model.safetensors at 1032
    constant constant_4 : float32[] = {0.5}
    constant constant_8 : float32[20, 1, 1] = inline
    %2 = Cast(proj.weight) to=float32 : float32[3, 4]  @ vision.proj
    %3 = MatMul(x, %2) : float32[2, 4]  @ vision.proj
    %5 = Add(%3, constant_4) : float32[2, 4]
    %6, %7 = TopK(%5) axis=1 k=2 largest=1 : float32[2, 2], int64[2, 2]
    %9 = Add(%3, constant_8) : float32[20, 2, 4]
    output top = %6 : float32[2, 2]
    output indices = %7 : int64[2, 2]
    "
  `);
  expect(printGraph(graph, { constants: false })).not.toContain('constant ');
});

test('paths nest, end with their body even where it throws, and `at` sets them anew', () => {
  const graph = new Graph();
  const x = graph.input('x', 'float32', [2]);
  const inner = graph.within('a', () => graph.within('b', () => b.exp(x)));
  expect(() => graph.within('c', () => { throw new Error('boom'); })).toThrow('boom');
  const outside = b.log(x);
  const elsewhere = graph.within('a', () => graph.at('z', () => b.sqrt(x)));
  expect([inner, outside, elsewhere].map((v) => producer(v)!.path)).toEqual(['a.b', '', 'z']);
});

describe('graphs refuse', () => {
  const setup = (): { graph: Graph; x: ReturnType<Graph['input']> } => {
    const graph = new Graph();
    return { graph, x: graph.input('x', 'float32', [2]) };
  };

  test('a second input, constant or output of a name', () => {
    const { graph, x } = setup();
    expect(() => graph.input('x', 'float32', [])).toThrow('two inputs or constants named x');
    expect(() => graph.constant(float32([], [1]), 'x')).toThrow('named x');
    expect(() => graph.external('x', x, { path: '/w', offset: 0, byteLength: 8 })).toThrow('named x');
    graph.output('y', x);
    expect(() => graph.output('y', x)).toThrow('two outputs named y');
  });

  test('values of another graph', () => {
    const { graph, x } = setup();
    const other = setup();
    expect(() => b.add(x, other.x)).toThrow('Add mixes values of two graphs');
    expect(() => graph.output('y', other.x)).toThrow('another graph');
  });

  test('types that an op does not take, by the op\'s name and types', () => {
    const { graph, x } = setup();
    const y = graph.input('y', 'float32', [3]);
    expect(() => b.add(x, y)).toThrow('Add(float32[2], float32[3])');
    expect(() => b.add(x, graph.input('i', 'int64', [2]))).toThrow('operands of float32 and int64');
  });
});

describe('verifyGraph refuses', () => {
  test('a value used before it is computed', () => {
    const graph = new Graph();
    const x = graph.input('x', 'float32', [2]);
    graph.output('y', b.log(b.exp(x)));
    verifyGraph(graph);
    graph.nodes.reverse();
    expect(() => verifyGraph(graph)).toThrow('Log uses %1 before it is computed');
  });

  test('an output whose node has gone', () => {
    const graph = new Graph();
    graph.output('y', b.exp(graph.input('x', 'float32', [2])));
    graph.nodes.pop();
    expect(() => verifyGraph(graph)).toThrow('output y is not computed');
  });

  test('an output with the name of another value that the caller knows', () => {
    const graph = new Graph();
    const x = graph.input('x', 'float32', [2]);
    graph.output('x', b.exp(x));
    expect(() => verifyGraph(graph)).toThrow('output x has the name of an input or constant');
    const same = new Graph();
    same.output('x', same.input('x', 'float32', [2]));
    expect(() => verifyGraph(same)).not.toThrow();
  });

  test('an external range that is not the size of its type', () => {
    const graph = new Graph();
    graph.external('w', { dtype: 'float16', shape: [3, 5] }, weights);
    expect(() => verifyGraph(graph)).toThrow('w: 24 bytes for float16[3, 5], expected 30');
  });
});

test('constants hold what they were given', () => {
  const graph = new Graph();
  const data = tensor('uint32', [2], Uint32Array.of(1, 2));
  expect(constantData(graph.constant(data))).toBe(data);
  expect(constantData(graph.external('w', { dtype: 'float16', shape: [3, 4] }, weights))).toBeUndefined();
  expect(constantData(graph.input('x', 'float32', []))).toBeUndefined();
});
