import { afterAll, describe, expect, test } from 'vitest';
import { vjp } from '../autodiff/grad.js';
import { gradcheck } from '../autodiff/gradcheck.js';
import { simplify } from '../passes/simplify.js';
import { Graph } from '../ir/graph.js';
import type { OpType } from '../ir/op-types.js';
import { encodeModel } from '../onnx/encode.js';
import { nodeRuntime } from '../runtime/node.js';
import { Random } from '../util/random.js';
import { type DType, fromFloat64, numel, toFloat64 } from '../util/tensor.js';
import { apply } from './build.js';
import { evaluateGraph } from './evaluate.js';
import { ops, opDef } from './table.js';
import { type OpCase, opCases } from './testing/cases.js';

const types = Object.keys(ops) as OpType[];
const runtime = nodeRuntime();
afterAll(() => runtime.close());

test('the table and the cases name the same ops', () => {
  expect(Object.keys(opCases).sort()).toEqual([...types].sort());
  for (const op of types) expect(opCases[op].length, op).toBeGreaterThan(0);
});

const rows = types.flatMap((op) => (opCases[op] as readonly OpCase<never>[]).map((c, i) => ({ op, c, i })));

describe('every vjp agrees with central differences', () => {
  const differentiable = rows.filter(({ op }) => opDef(op).vjp !== 'nondifferentiable');
  test.each(differentiable)('$op $i', ({ op, c, i }) => {
    // integer results carry no gradient
    const random = Random.seeded(7).child(op, i);
    const error = gradcheck(c.inputs, (...values) => apply(op, values, c.attributes), random);
    expect(error).toBeLessThan(1e-7);
  });
});

describe('every gradient program runs in ONNX Runtime as in the evaluator', () => {
  test.each(rows.filter(({ op, c }) => opDef(op).vjp !== 'nondifferentiable' && c.dtype === undefined))(
    '$op $i',
    async ({ op, c, i }) => {
      const random = Random.seeded(11).child(op, i);
      const graph = new Graph();
      const float = (x: (typeof c.inputs)[number]): boolean => x.fixed === undefined || x.fixed.dtype === 'float64';
      const values = c.inputs.map((x, k) =>
        graph.input(`x${k}`, float(x) ? 'float32' : (x.fixed!.dtype), x.shape),
      );
      const doubles: Record<string, Float64Array> = {};
      c.inputs.forEach((x, k) => {
        const draw = x.draw ?? ((r: Random) => r.normal());
        doubles[`x${k}`] = Float64Array.from(
          x.fixed?.values ?? Array.from({ length: numel(x.shape) }, () => Math.fround(draw(random))),
        );
      });
      const wrt = values.filter((v) => v.dtype === 'float32');
      const [y] = apply(op, values, c.attributes).filter((v) => v.dtype === 'float32');
      if (!y) return; // a cast to integers carries no gradient
      const dy = graph.input('dy', 'float32', y.shape);
      doubles.dy = Float64Array.from({ length: numel(y.shape) }, () => Math.fround(random.normal()));
      vjp(y, dy, wrt).forEach((g, k) => graph.output(`g${k}`, g));
      const program = simplify(graph);
      const session = await runtime.load(encodeModel(program));
      try {
        const feeds = program.inputs.map((v) => {
          const name = v.source.kind === 'input' ? v.source.name : '';
          return [name, fromFloat64(v.dtype, v.shape, doubles[name]!)] as const;
        });
        const actual = await session.run(Object.fromEntries(feeds));
        for (const [name, { data }] of Object.entries(evaluateGraph(program, doubles))) {
          const got = toFloat64(actual[name]!);
          data.forEach((v, k) => {
            expect(
              Math.abs(got[k]! - v) / Math.max(1, Math.abs(v)),
              `${name}[${k}] ${got[k]} against ${v}`,
            ).toBeLessThan(1e-4);
          });
        }
      } finally {
        await session.release();
      }
    },
  );
});

describe('the reference evaluator agrees with ONNX Runtime', () => {
  test.each(rows)('$op $i', async ({ op, c, i }) => {
    const random = Random.seeded(3).child(op, i);
    const graph = new Graph();
    const dtypes = c.inputs.map(
      (x): DType => c.dtype ?? (x.fixed && x.fixed.dtype !== 'float64' ? x.fixed.dtype : 'float32'),
    );
    const values = c.inputs.map((x, k) => graph.input(`x${k}`, dtypes[k]!, x.shape));
    // both sides start from the same float32 numbers
    const data = c.inputs.map((x) =>
      x.fixed
        ? Float64Array.from(x.fixed.values)
        : Float64Array.from({ length: numel(x.shape) }, () =>
            Math.fround((x.draw ?? ((r: Random) => r.normal()))(random)),
          ),
    );
    apply(op, values, c.attributes).forEach((v, k) => graph.output(`y${k}`, v));
    const session = await runtime.load(encodeModel(graph));
    try {
      const feeds = c.inputs.map((x, k) => [`x${k}`, fromFloat64(dtypes[k]!, x.shape, data[k]!)] as const);
      const actual = await session.run(Object.fromEntries(feeds));
      const expected = evaluateGraph(graph, Object.fromEntries(data.map((d, k) => [`x${k}`, d])));
      for (const [name, y] of Object.entries(expected)) {
        expect(actual[name]!.shape, name).toEqual(y.shape);
        expect(actual[name]!.dtype, name).toBe(y.dtype);
        const got = toFloat64(actual[name]!);
        y.data.forEach((v, k) => {
          expect(Math.abs(got[k]! - v) / Math.max(1, Math.abs(v)), `${name}[${k}] ${got[k]} against ${v}`).toBeLessThan(
            2e-5,
          );
        });
      }
    } finally {
      await session.release();
    }
  });
});
