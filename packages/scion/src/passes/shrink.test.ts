import { describe, expect, test } from 'vitest';
import { gradients } from '../autodiff/grad.js';
import type { Value } from '../ir/graph.js';
import { attention } from '../nn/layers.js';
import * as b from '../ops/build.js';
import { Random } from '../util/random.js';
import { shrink } from './shrink.js';
import { Program, change, opsOf } from './testing/programs.js';

/** Shapes of what each op still computes, after the pass; the meaning must be the same to the bit. */
function left(body: (p: Program) => Value | readonly Value[]): string[] {
  const p = new Program(Random.seeded(3));
  [body(p)].flat().forEach((v, i) => p.graph.output(`y${i}`, v));
  const result = shrink(p.graph);
  expect(change(p, result)).toBe(0);
  return result.nodes.map((n) => `${n.op}[${n.outputs[0]!.shape.join()}]`);
}

describe('a slice moves up', () => {
  test('through elementwise ops, and leaves broadcast operands whole', () => {
    expect(left((p) => b.slice(b.tanh(b.add(p.input([5, 3]), p.input([3]))), 0, 1, 3)))
      .toEqual(['Slice[2,3]', 'Add[2,3]', 'Tanh[2,3]']);
    expect(left((p) => b.slice(b.mul(p.input([5, 1]), p.input([4, 1, 3])), 1, -2, 5)))
      .toEqual(['Slice[2,1]', 'Mul[4,2,3]']);
    expect(left((p) => b.slice(b.mul(p.input([1, 3]), p.input([3])), 0, 0, 1))).toContain('Mul[1,3]');
  });

  test('through the rows of matrix products, however their operands are stored', () => {
    expect(left((p) => b.slice(b.gemm(p.input([5, 3]), p.input([4, 3]), p.input([4]), { transB: 1 }), 0, 0, 2)))
      .toEqual(['Slice[2,3]', 'Gemm[2,4]']);
    expect(left((p) => b.slice(b.gemm(p.input([3, 5]), p.input([3, 4]), p.input([5, 1]), { transA: 1 }), 0, 3, 5)))
      .toEqual(['Slice[3,2]', 'Slice[2,1]', 'Gemm[2,4]']);
    expect(left((p) => b.slice(b.matmul(p.input([2, 5, 3]), p.input([3, 4])), 1, 1, 2)))
      .toEqual(['Slice[2,1,3]', 'MatMul[2,1,4]']);
    for (const flags of [{ transA: 1 }, { transBatchA: 1 }, { transBatchA: 1, transA: 1 }] as const) {
      const shape = ({ '10': [2, 3, 5], '01': [5, 2, 3], '11': [3, 2, 5] } as Record<string, number[]>)[`${'transA' in flags ? 1 : 0}${'transBatchA' in flags ? 1 : 0}`]!;
      expect(left((p) => b.slice(b.fusedMatMul(p.input(shape), p.input([2, 3, 4]), flags), 1, 2, 4)))
        .toContain('FusedMatMul[2,2,4]');
    }
  });

  test('through normalisations across another axis, transposes, and reshapes of whole rows', () => {
    expect(left((p) => b.slice(b.softmax(p.input([4, 3])), 0, 1, 2))).toEqual(['Slice[1,3]', 'Softmax[1,3]']);
    expect(left((p) => b.slice(b.layerNormalization(p.input([4, 3]), p.input([3]), p.input([3])), 0, 1, 2)))
      .toEqual(['Slice[1,3]', 'LayerNormalization[1,3]']);
    expect(left((p) => b.slice(b.transpose(p.input([4, 3, 2]), [2, 0, 1]), 1, 1, 3)))
      .toEqual(['Slice[2,3,2]', 'Transpose[2,2,3]']);
    expect(left((p) => b.slice(b.reshape(b.exp(p.input([6, 2])), [3, 4]), 0, 1, 2)))
      .toEqual(['Slice[2,2]', 'Exp[2,2]', 'Reshape[1,4]']);
    expect(left((p) => b.slice(b.reshape(b.exp(p.input([3, 4])), [6, 2]), 0, 2, 4)))
      .toEqual(['Slice[1,4]', 'Exp[1,4]', 'Reshape[2,2]']);
  });

  test('so that attention has only the queries that are read', () => {
    const [tokens, batch, heads, width] = [7, 2, 3, 12];
    const ops = left((p) => {
      const x = p.input([tokens * batch, width]);
      const project = (v: Value): Value => b.gemm(v, p.input([width, width]), p.input([width]), { transB: 1 });
      const y = b.add(x, project(attention(project(x), project(x), project(x), { tokens, batch, heads })));
      return b.slice(b.reshape(y, [tokens, batch, width]), 0, 0, 1);
    });
    expect(ops.filter((op) => op === 'Gemm[2,12]')).toHaveLength(2); // queries and the projection of the result
    expect(ops.filter((op) => op === 'Gemm[14,12]')).toHaveLength(2); // keys and values
    expect(ops).toContain('Softmax[6,1,7]');
  });
});

describe('a slice stays', () => {
  test.each<[string, (p: Program) => Value | readonly Value[], string]>([
    ['where the whole is read too', (p) => {
      const y = b.exp(p.input([4, 3]));
      return [b.slice(y, 0, 0, 1), b.neg(y)];
    }, 'Exp[4,3]'],
    ['where the whole is an output', (p) => {
      const y = b.exp(p.input([4, 3]));
      return [b.slice(y, 0, 0, 1), y];
    }, 'Exp[4,3]'],
    ['where two parts are read', (p) => {
      const y = b.exp(p.input([4, 3]));
      return [b.slice(y, 0, 0, 2), b.slice(y, 0, 1, 3)];
    }, 'Exp[4,3]'],
    ['across the axis of a softmax', (p) => b.slice(b.softmax(p.input([4, 3])), 1, 0, 1), 'Softmax[4,3]'],
    ['across what a norm spans', (p) =>
      b.slice(b.layerNormalization(p.input([4, 3]), p.input([3]), p.input([3])), 1, 0, 1), 'LayerNormalization[4,3]'],
    ['in the columns of a product', (p) => b.slice(b.gemm(p.input([4, 3]), p.input([3, 5])), 1, 0, 1), 'Gemm[4,5]'],
    ['in the batch of a product', (p) =>
      b.slice(b.matmul(p.input([2, 4, 3]), p.input([2, 3, 5])), 0, 0, 1), 'MatMul[2,4,5]'],
    ['where a reshape breaks its rows', (p) => b.slice(b.reshape(p.input([3, 4]), [4, 3]), 0, 1, 2), 'Reshape[4,3]'],
    ['inside a reshape', (p) => b.slice(b.reshape(p.input([6, 2]), [3, 4]), 1, 0, 2), 'Reshape[3,4]'],
    ['where it leaves places out', (p) => b.slice(b.exp(p.input([4, 3])), 0, 0, 4, 2), 'Exp[4,3]'],
    ['behind a sum', (p) => b.slice(b.reduceSum(p.input([4, 3]), [0], 1), 1, 0, 1), 'ReduceSum[1,3]'],
  ])('%s', (_, body, whole) => {
    expect(left(body)).toContain(whole);
  });
});

test('a residual is cut once both of its readers are', () => {
  expect(left((p) => {
    const x = b.exp(p.input([6, 3]));
    return b.slice(b.add(x, b.tanh(b.gemm(x, p.input([3, 3])))), 0, 0, 2);
  })).toEqual(['Slice[2,3]', 'Exp[2,3]', 'Gemm[2,3]', 'Tanh[2,3]', 'Add[2,3]']);
});

test('gradients keep what they read, and their meaning', () => {
  const p = new Program(Random.seeded(4));
  const [x, w] = [p.input([6, 3]), p.input([3, 3], 'state')];
  const y = b.slice(b.softmax(b.gemm(b.tanh(b.gemm(x, w)), w)), 0, 1, 3);
  const loss = b.reduceSum(b.mul(y, p.input([2, 3])));
  gradients(loss, [w]).forEach((g) => p.graph.output('dw', g));
  p.graph.output('loss', loss);
  const result = shrink(p.graph);
  expect(change(p, result)).toBe(0);
  expect(opsOf(result).filter((op) => op === 'Tanh')).toHaveLength(1);
});

test('what became smaller keeps its module', () => {
  const p = new Program(Random.seeded(6));
  const y = p.graph.at('mlp', () => b.tanh(p.input([4, 3])));
  p.graph.output('y', p.graph.at('pool', () => b.slice(y, 0, 0, 1)));
  expect(shrink(p.graph).nodes.find((n) => n.op === 'Tanh')?.path).toBe('mlp');
});

test('a graph without slices is left as it is', () => {
  const p = new Program(Random.seeded(5));
  p.graph.output('y', b.exp(p.input([2])));
  expect(shrink(p.graph)).toBe(p.graph);
});
