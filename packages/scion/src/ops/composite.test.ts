import { describe, expect, test } from 'vitest';
import { type GradcheckInput, gradcheck } from '../autodiff/gradcheck.js';
import { vjp } from '../autodiff/grad.js';
import { Graph, type Value } from '../ir/graph.js';
import { Random } from '../util/random.js';
import { type DType, type Shape, numel } from '../util/tensor.js';
import * as b from './build.js';
import { binaryCrossEntropy, crossEntropy, einsum, l2Normalize, oneHot, weightedMean } from './composite.js';
import { evaluateGraph } from './evaluate.js';

interface Operand { shape: Shape; values: readonly number[]; dtype?: DType }

function evaluate(operands: readonly Operand[], body: (...values: Value[]) => Value): number[] {
  const graph = new Graph();
  const values = operands.map((x, i) => graph.input(`x${i}`, x.dtype ?? 'float64', x.shape));
  graph.output('y', body(...values));
  const feeds = Object.fromEntries(operands.map((x, i) => [`x${i}`, Float64Array.from(x.values)]));
  return [...evaluateGraph(graph, feeds).y!.data];
}

const random = Random.seeded(21);
const normal = (...shape: number[]): Operand =>
  ({ shape, values: Array.from({ length: numel(shape) }, () => random.normal()) });
const fixed = (shape: number[], values: number[], dtype: 'int64' | 'float64' = 'float64'): GradcheckInput =>
  ({ shape, fixed: { dtype, values } });

function expectClose(actual: readonly number[], expected: readonly number[], tolerance = 1e-12): void {
  expect(actual.length).toBe(expected.length);
  expected.forEach((e, i) => expect(Math.abs(actual[i]! - e), `[${i}] ${actual[i]} for ${e}`).toBeLessThan(tolerance));
}

describe('l2Normalize', () => {
  test('gives rows of length 1, whatever their scale', () => {
    const y = evaluate([{ shape: [3, 2], values: [3, 4, -3e8, 4e8, 3e-6, 4e-6] }], (x) => l2Normalize(x));
    expectClose(y, [0.6, 0.8, -0.6, 0.8, 0.6, 0.8]);
  });

  test('leaves a zero row zero, with a finite gradient', () => {
    const graph = new Graph();
    const x = graph.input('x', 'float64', [2, 3]);
    const y = l2Normalize(x);
    graph.output('y', y);
    graph.output('dx', vjp(y, graph.input('dy', 'float64', [2, 3]), [x])[0]!);
    const { y: out, dx } = evaluateGraph(graph, {
      x: Float64Array.of(0, 0, 0, 1, 2, 2), dy: Float64Array.of(1, -2, 3, 0.5, 0.5, 0),
    });
    expectClose([...out!.data], [0, 0, 0, 1 / 3, 2 / 3, 2 / 3]);
    expect([...dx!.data].every(Number.isFinite)).toBe(true);
    // the other row is not touched by it: (dy - y (y·dy)) / 3
    expectClose([...dx!.data.slice(3)], [0.5, 0.5, 0].map((d, i) => (d - [1, 2, 2][i]! / 3 * 0.5) / 3));
  });

  test('has the right gradient', () => {
    expect(gradcheck([{ shape: [2, 3, 4] }], (x) => [l2Normalize(x)], random)).toBeLessThan(1e-7);
  });
});

test('oneHot of indices of any shape', () => {
  const indices: Operand = { shape: [2, 2], values: [0, 2, 1, 1], dtype: 'int64' };
  expect(evaluate([indices, normal(1)], (i, like) => oneHot(i, 3, like))).toEqual([1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0]);
});

describe('weightedMean', () => {
  test('is the mean without weights and ignores elements of weight 0', () => {
    expect(evaluate([{ shape: [2, 2], values: [1, 2, 3, 6] }], (x) => weightedMean(x))).toEqual([3]);
    const [x, w] = [{ shape: [3], values: [1, 5, 1e9] }, { shape: [3], values: [3, 1, 0] }];
    expect(evaluate([x, w], weightedMean)).toEqual([2]);
  });
});

describe('crossEntropy', () => {
  const [rows, classes] = [4, 3];
  const logits = normal(rows, classes);
  const labels: Operand = { shape: [rows], values: [2, 0, 1, 2], dtype: 'int64' };
  const weights: Operand = { shape: [rows], values: [1, 0.5, 2, 0] };

  /** By the definition: the target distribution against the logarithm of the softmax, row by row. */
  function expected(smoothing: number, w: readonly number[]): number {
    let [total, weight] = [0, 0];
    for (let r = 0; r < rows; r++) {
      const row = logits.values.slice(r * classes, (r + 1) * classes);
      const logSum = Math.log(row.reduce((s, v) => s + Math.exp(v), 0));
      const loss = row.reduce((s, v, c) => {
        const target = (c === labels.values[r] ? 1 - smoothing : 0) + smoothing / classes;
        return s - target * (v - logSum);
      }, 0);
      total += w[r]! * loss;
      weight += w[r]!;
    }
    return total / weight;
  }

  test.each([0, 0.1, 1])('label smoothing %d, with and without weights', (labelSmoothing) => {
    const plain = evaluate([logits, labels], (x, y) => crossEntropy(x, y, { labelSmoothing }));
    expectClose(plain, [expected(labelSmoothing, [1, 1, 1, 1])]);
    expectClose(
      evaluate([logits, labels, weights], (x, y, w) => crossEntropy(x, y, { labelSmoothing, weights: w })),
      [expected(labelSmoothing, weights.values)]);
  });

  test('large logits neither overflow nor lose the loss', () => {
    const large: Operand = { shape: [2, 2], values: [1000, -1000, 1000, -1000] };
    const zeroOne: Operand = { shape: [2], values: [0, 1], dtype: 'int64' };
    expectClose(evaluate([large, zeroOne], (x, y) => crossEntropy(x, y)), [1000]);
  });

  test('has the right gradient, none for rows of weight 0', () => {
    const inputs = [{ shape: [rows, classes] }, fixed([rows], [2, 0, 1, 2], 'int64'), fixed([rows], [1, 0.5, 2, 0])];
    for (const labelSmoothing of [0, 0.2]) {
      const body = (x: Value, y: Value, w: Value): Value[] => [crossEntropy(x, y, { weights: w, labelSmoothing })];
      expect(gradcheck(inputs, body, random)).toBeLessThan(1e-7);
    }
    const graph = new Graph();
    const x = graph.input('x', 'float64', [2, 3]);
    const loss = crossEntropy(x, graph.input('y', 'int64', [2]), { weights: graph.input('w', 'float64', [2]) });
    graph.output('dx', vjp(loss, b.full(graph, 'float64', [], 1), [x])[0]!);
    const { dx } = evaluateGraph(graph, {
      x: Float64Array.of(1, 2, 3, 1, 2, 3), y: Float64Array.of(0, 0), w: Float64Array.of(1, 0),
    });
    expect([...dx!.data.slice(3)].map(Math.abs)).toEqual([0, 0, 0]);
    expect(Math.abs(dx!.data[0]!)).toBeGreaterThan(0.1);
  });
});

describe('binaryCrossEntropy', () => {
  const logits: Operand = { shape: [2, 3], values: [0.3, -1.2, 2, 0, 4, -3] };
  const targets: Operand = { shape: [2, 3], values: [1, 0, 0.25, 0.5, 1, 1] };
  const rowLosses = [0, 1].map((r) => [0, 1, 2].reduce((s, c) => {
    const [x, t] = [logits.values[r * 3 + c]!, targets.values[r * 3 + c]!];
    const p = 1 / (1 + Math.exp(-x));
    return s - t * Math.log(p) - (1 - t) * Math.log(1 - p);
  }, 0));

  test('is the sum over classes and the (weighted) mean over rows', () => {
    expectClose(evaluate([logits, targets], (x, t) => binaryCrossEntropy(x, t)), [(rowLosses[0]! + rowLosses[1]!) / 2]);
    const weights: Operand = { shape: [2], values: [3, 1] };
    expectClose(evaluate([logits, targets, weights], (x, t, w) => binaryCrossEntropy(x, t, { weights: w })),
      [(3 * rowLosses[0]! + rowLosses[1]!) / 4]);
  });

  test('large logits neither overflow nor lose small terms', () => {
    const of = (x: number, t: number): number =>
      evaluate([{ shape: [1, 1], values: [x] }, { shape: [1, 1], values: [t] }], (a, c) =>
        binaryCrossEntropy(a, c))[0]!;
    expect(of(800, 0)).toBe(800);
    expect(of(-800, 1)).toBe(800);
    expect(of(-40, 0) / Math.exp(-40)).toBeCloseTo(1, 12);
  });

  test('has the right gradient', () => {
    const body = (x: Value, t: Value): Value[] => [binaryCrossEntropy(x, t)];
    const inputs = [{ shape: [2, 3] }, fixed([2, 3], [...targets.values])];
    expect(gradcheck(inputs, body, random)).toBeLessThan(1e-7);
  });

  test('of one column keeps the rows apart from the mean', () => {
    const [x, t] = [{ shape: [2], values: [0.5, -0.5] }, { shape: [2], values: [1, 0] }];
    expectClose(evaluate([x, t], (a, c) => binaryCrossEntropy(a, c)), [Math.log1p(Math.exp(-0.5))]);
  });
});

test('a reduction over no axes is the value itself, not a reduction over all as ONNX would read it', () => {
  const x = normal(2, 3);
  expect(evaluate([x], (v) => b.reduceMean(v, []))).toEqual(x.values);
  expect(evaluate([x], (v) => b.reduceSumSquare(v, []))).toEqual(x.values.map((v) => v * v));
});

describe('einsum', () => {
  const dims: Record<string, number> = { a: 2, b: 3, c: 4, d: 5, e: 2, f: 3 };
  const shapeOf = (letters: string): number[] => [...letters].map((l) => dims[l]!);

  /** The definition: a loop over every index of the equation. */
  function naive(equation: string, x: readonly number[], y: readonly number[]): number[] {
    const [left, right, out] = equation.split(/,|->/) as [string, string, string];
    const letters = [...new Set(left + right)];
    const flat = (term: string, at: Record<string, number>): number =>
      [...term].reduce((s, l) => s * dims[l]! + at[l]!, 0);
    const result = new Array<number>(numel(shapeOf(out))).fill(0);
    const visit = (depth: number, at: Record<string, number>): void => {
      const letter = letters[depth];
      if (letter === undefined) result[flat(out, at)]! += x[flat(left, at)]! * y[flat(right, at)]!;
      else for (let i = 0; i < dims[letter]!; i++) visit(depth + 1, { ...at, [letter]: i });
    };
    visit(0, {});
    return result;
  }

  const equations = [
    'ab,bc->ac', 'ab,bc->ca', 'ba,cb->ac', 'abc,abd->acd', 'abc,adc->abd', 'abcd,aecd->abe', 'acb,dab->bdc',
    'ab,cd->abcd', 'ab,cd->dbca', 'ab,ab->ab', 'ab,ba->', 'ab,b->a', 'a,bc->cab', 'abc,cd->bad', 'abcf,dcae->ebdf',
  ];

  test.each(equations)('%s', (equation) => {
    const [left, right, out] = equation.split(/,|->/) as [string, string, string];
    const [x, y] = [normal(...shapeOf(left)), normal(...shapeOf(right))];
    expectClose(evaluate([x, y], (p, q) => {
      const value = einsum(equation, p, q);
      expect(value.shape).toEqual(shapeOf(out));
      return value;
    }), naive(equation, x.values, y.values), 1e-11);
    const body = (p: Value, q: Value): Value[] => [einsum(equation, p, q)];
    expect(gradcheck([x, y].map(({ shape }) => ({ shape })), body, random)).toBeLessThan(1e-7);
  });

  test.each([
    ['ab,bc', [2, 3], [3, 4], 'expected "ab,bc->ac"'],
    ['ab,bc,cd->ad', [2, 3], [3, 4], 'expected "ab,bc->ac"'],
    ['abc,bc->a', [2, 3], [3, 4], '"abc" for a value of rank 2'],
    ['aa,ab->b', [2, 2], [2, 4], '"aa" for a value of rank 2'],
    ['ab,bc->ac', [2, 3], [4, 5], '"b" is 3 and 4'],
    ['ab,bc->c', [2, 3], [3, 4], 'every index of one operand alone must be in the output'],
    ['ab,bc->acd', [2, 3], [3, 4], 'must be in the output'],
    ['ab,bc->aa', [2, 3], [3, 4], 'must be in the output'],
  ] as const)('%s of %j and %j is refused', (equation, left, right, message) => {
    expect(() => evaluate([normal(...left), normal(...right)], (x, y) => einsum(equation, x, y))).toThrow(message);
  });
});
