import { describe, expect, test } from 'vitest';
import { type Value, constantData, producer } from '../ir/graph.js';
import { printGraph } from '../ir/print.js';
import * as b from '../ops/build.js';
import { Random } from '../util/random.js';
import { int64, tensor } from '../util/tensor.js';
import { simplify } from './simplify.js';
import { Program, change, opsOf } from './testing/programs.js';

/** Ops left of `body(x)` for x [2, 3], y [2, 3], w [3, 4]; the meaning must be the same. */
function left(body: (p: Program, x: Value, y: Value, w: Value) => Value | readonly Value[]): string[] {
  const p = new Program(Random.seeded(1));
  const outputs = [body(p, p.input([2, 3]), p.input([2, 3]), p.input([3, 4]))].flat();
  outputs.forEach((v, i) => p.graph.output(`y${i}`, v));
  const result = simplify(p.graph);
  expect(change(p, result)).toBeLessThan(1e-6); // folded constants are rounded to float32
  expect([...result.outputs.values()].map((v) => v.shape)).toEqual(outputs.map((v) => v.shape));
  return opsOf(result);
}

/** The attributes of the only product that is left. */
function onlyProduct(body: (x: Value, w: Value, p: Program) => Value): object {
  const p = new Program(Random.seeded(2));
  p.graph.output('y', body(p.input([2, 3]), p.input([3, 4]), p));
  const result = simplify(p.graph);
  expect(change(p, result)).toBeLessThan(1e-6);
  expect(opsOf(result)).toEqual(['FusedMatMul']);
  return result.nodes[0]!.attributes;
}

describe('neutral elements', () => {
  test('x · 1, 1 · x, x / 1, x + 0, 0 + x, x + -0 and -(-x) are x', () => {
    expect(left((_, x) => [
      b.mul(x, 1), b.mul(1, x), b.div(x, 1), b.add(x, 0), b.add(0, x), b.add(x, -0), b.neg(b.neg(x)),
    ])).toEqual([]);
  });

  test('1 and 0 in every element, inline or expanded', () => {
    expect(left((p, x) => [
      b.mul(x, b.full(p.graph, 'float32', [2, 3], 1)), b.add(b.full(p.graph, 'float32', [3], 0), x),
    ])).toEqual([]);
  });

  test('stay where they broadcast x to another shape', () => {
    expect(left((p, x) => b.mul(x, p.constant([1, 1, 1], [1])))).toEqual(['Mul']);
    expect(left((p, x) => b.add(x, p.constant([1, 1, 1], [0])))).toEqual(['Add']);
    expect(left((p, x) => b.div(x, p.constant([1, 1, 1], [2])))).toEqual(['Div']);
    expect(left((p, x) => b.add(x, b.full(p.graph, 'float32', [4, 2, 3], 0)))).toContain('Add');
  });

  test('0 - x and 1 / x are not x, x · 0 is not dropped', () => {
    expect(left((_, x) => [b.sub(0, x), b.div(1, x)])).toEqual(['Sub', 'Div']);
    expect(left((_, x) => b.mul(x, 0))).toEqual(['Mul']);
  });
});

describe('chains of scalar factors', () => {
  test('become one factor', () => {
    expect(left((_, x) => b.mul(b.mul(b.mul(x, 2), 0.3), 5))).toEqual(['Mul']);
    expect(left((_, x) => b.div(b.mul(0.5, x), 4))).toEqual(['Mul']);
    expect(left((_, x) => b.mul(b.mul(x, 4), 0.25))).toEqual([]);
  });

  test('keep a factor that broadcasts', () => {
    expect(left((p, x) => b.mul(b.mul(x, p.constant([1, 1, 1], [2])), 3))).toEqual(['Mul', 'Mul']);
  });

  test('stay apart where their product is no float32', () => {
    expect(left((_, x) => b.mul(b.mul(x, 1e30), 1e30))).toEqual(['Mul', 'Mul']);
    expect(left((_, x) => b.mul(b.mul(x, 1e-30), 1e-30))).toEqual(['Mul', 'Mul']);
  });

  test('division by a constant 0, or by one whose inverse is no float32, stays a division', () => {
    expect(left((_, x) => b.div(x, 0))).toEqual(['Div']);
    expect(left((_, x) => b.div(x, -0))).toEqual(['Div']);
    expect(left((_, x) => b.div(x, 2 ** -140))).toEqual(['Div']);
    expect(left((_, x) => b.div(x, 3))).toEqual(['Mul']);
  });
});

describe('matrix products', () => {
  test('take a factor as alpha', () => {
    expect(onlyProduct((x, w) => b.mul(b.matmul(x, w), 0.25))).toMatchObject({ alpha: 0.25, transA: 0, transB: 0 });
    expect(onlyProduct((x, w) => b.div(b.mul(2, b.fusedMatMul(x, w, { alpha: 3 })), 4))).toMatchObject({ alpha: 1.5 });
  });

  test('are not computed twice for it', () => {
    expect(left((_, x, _y, w) => {
      const product = b.matmul(x, w);
      return [product, b.mul(product, 0.25)];
    })).toEqual(['MatMul', 'Mul']);
    expect(left((_, x, _y, w) => {
      const product = b.matmul(x, w);
      return b.add(b.mul(product, 0.25), b.sin(product));
    }).filter((op) => /MatMul/.test(op))).toHaveLength(1);
  });

  test('read transposed operands in place', () => {
    expect(onlyProduct((x, w) => b.matmul(b.swapLast(w), b.swapLast(x)))).toMatchObject({ transA: 1, transB: 1 });
    expect(onlyProduct((x) => b.matmul(x, b.swapLast(x)))).toMatchObject({ transA: 0, transB: 1 });
    expect(onlyProduct((x) => b.fusedMatMul(b.swapLast(x), x, { transA: 1, transB: 1, alpha: 2 })))
      .toMatchObject({ transA: 0, transB: 1, alpha: 2 });
    expect(onlyProduct((_, _w, p) => b.matmul(p.input([5, 2, 3]), b.swapLast(p.input([5, 4, 3])))))
      .toMatchObject({ transB: 1 });
  });

  test('leave other permutations and operands read with transBatch alone', () => {
    expect(left((p) => b.matmul(b.transpose(p.input([3, 2, 4]), [1, 0, 2]), p.input([4, 5]))))
      .toEqual(['Transpose', 'MatMul']);
    expect(left((p) => b.fusedMatMul(b.swapLast(p.input([3, 4, 2])), p.input([2, 4, 5]), { transBatchA: 1 })))
      .toEqual(['Transpose', 'FusedMatMul']);
  });

  test('of integers stay as they are, since FusedMatMul has none', () => {
    const p = new Program(Random.seeded(3));
    const x = p.input([2, 3], 'batch', (r) => r.integer(9), 'int64');
    p.graph.output('y', b.matmul(x, b.swapLast(x)));
    expect(opsOf(simplify(p.graph))).toEqual(['Transpose', 'MatMul']);
  });
});

describe('moves of elements', () => {
  test('transposes, reshapes and expansions in a row are one', () => {
    expect(left((p) => b.transpose(b.transpose(p.input([2, 3, 4]), [2, 0, 1]), [1, 0, 2]))).toEqual(['Transpose']);
    expect(left((p) => b.transpose(b.transpose(p.input([2, 3, 4]), [2, 0, 1]), [1, 2, 0]))).toEqual([]);
    expect(left((_, x) => b.reshape(b.reshape(x, [6]), [3, 2]))).toEqual(['Reshape']);
    expect(left((_, x) => b.reshape(b.reshape(x, [6]), [2, 3]))).toEqual([]);
    expect(left((_, x) => b.expand(b.expand(x, [4, 2, 3]), [5, 4, 2, 3]))).toEqual(['Expand']);
  });

  test('an expanded operand is used as it was, where the result keeps its shape', () => {
    const row = (p: Program): Value => p.input([3]);
    expect(left((p, x) => b.add(x, b.expand(row(p), [2, 3])))).toEqual(['Add']);
    expect(left((p, x) => b.div(b.expand(row(p), [2, 3]), x))).toEqual(['Div']);
    expect(left((p, x, y) => b.where(b.greater(x, 0), b.expand(row(p), [2, 3]), y))).toEqual(['Greater', 'Where']);
    expect(left((p, x) => b.sub(x, b.expand(row(p), [4, 2, 3])))).toEqual(['Expand', 'Sub']);
    expect(left((p) => b.mul(b.expand(row(p), [2, 3]), b.expand(row(p), [2, 3])))).toEqual(['Expand', 'Expand', 'Mul']);
  });
});

describe('constant folding', () => {
  const folded = (body: (p: Program) => Value): unknown[] | string => {
    const p = new Program(Random.seeded(4));
    p.graph.output('y', body(p));
    const result = simplify(p.graph).outputs.get('y')!;
    const data = constantData(result);
    return data ? Array.from(data.data as ArrayLike<number>) : producer(result)!.op;
  };
  const ints = (p: Program, ...values: number[]): Value => p.graph.constant(int64([values.length], values));

  test('computes what depends on small constants alone', () => {
    expect(folded((p) => b.sqrt(b.add(p.constant([3], [3, 8, 15]), 1)))).toEqual([2, 3, 4]);
    expect(folded((p) => b.greater(p.constant([2], [1, 3]), 2))).toEqual([0, 1]);
    expect(folded((p) => b.mul(ints(p, 3, -4), ints(p, 5, 6)))).toEqual([15n, -24n]);
    expect(folded((p) => b.div(ints(p, 7, -7), ints(p, 2, 2)))).toEqual([3n, -3n]);
  });

  test('keeps the sign of zero', () => {
    expect((folded((p) => b.neg(p.constant([1], [0]))) as number[]).map((x) => Object.is(x, -0))).toEqual([true]);
  });

  test('leaves integers that doubles do not hold, and integer division by 0, to the runtime', () => {
    expect(folded((p) => b.mul(ints(p, 2 ** 31), ints(p, 2 ** 31)))).toBe('Mul');
    const big = (p: Program, n: bigint): Value => p.graph.constant(tensor('int64', [1], BigInt64Array.of(n)));
    expect(folded((p) => b.sub(big(p, 2n ** 53n + 1n), big(p, 2n ** 53n)))).toBe('Sub');
    expect(folded((p) => b.div(ints(p, 1), ints(p, 0)))).toBe('Div');
  });

  test('leaves large results and other integer types alone', () => {
    expect(folded((p) => b.exp(p.constant([4097], new Array<number>(4097).fill(0))))).toBe('Exp');
    const unsigned = (p: Program, n: number): Value => p.graph.constant(tensor('uint32', [1], Uint32Array.of(n)));
    expect(folded((p) => b.mul(unsigned(p, 3), unsigned(p, 4)))).toBe('Mul');
  });
});

test('integer arithmetic keeps its neutral elements: the rules are about floats', () => {
  const p = new Program(Random.seeded(5));
  const i = p.input([2], 'batch', (r) => r.integer(100), 'int64');
  p.graph.output('y', b.mul(b.div(i, 2), 2)); // not i · (1/2) · 2
  const result = simplify(p.graph);
  expect(opsOf(result)).toEqual(['Div', 'Mul']);
});

test('dead nodes, inputs and constants go; module paths stay', () => {
  const p = new Program(Random.seeded(6));
  const [x, unused] = [p.input([2]), p.input([3])];
  b.exp(unused);
  p.graph.output('y', p.graph.within('head', () => b.sin(x)));
  expect(printGraph(simplify(p.graph))).toBe(
    'input x0 : float32[2]  (batch)\n%1 = Sin(x0) : float32[2]  @ head\noutput y = %1 : float32[2]\n');
});

test('constants without a name of their own never clash with those of the graph they came from', () => {
  const p = new Program(Random.seeded(7));
  const x = p.input([20]); // value 0
  const small = p.constant([20], new Array<number>(20).fill(2)); // value 1, constant_1
  const scale = p.constant([], [3]); // value 2
  const large = p.constant([20], new Array<number>(20).fill(5)); // value 3, constant_3
  const late = p.input([20]); // moves the numbers of all constants up by one
  p.graph.output('y', b.add(b.mul(b.mul(x, scale), small), b.mul(late, large)));
  expect(change(p, simplify(simplify(p.graph)))).toBeLessThan(1e-6);
});
