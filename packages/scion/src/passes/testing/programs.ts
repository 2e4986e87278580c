/** Programs for the tests of the passes, and the comparison before and after. */
import { gradients } from '../../autodiff/grad.js';
import { Graph, type InputRole, type Value } from '../../ir/graph.js';
import type { OpAttributes, OpType } from '../../ir/op-types.js';
import { verifyGraph } from '../../ir/verify.js';
import * as b from '../../ops/build.js';
import type { RefTensor } from '../../ops/def.js';
import { evaluateGraph } from '../../ops/evaluate.js';
import { ops } from '../../ops/table.js';
import { type OpCase, opCases } from '../../ops/testing/cases.js';
import type { Random } from '../../util/random.js';
import { type DType, type Shape, float32, numel } from '../../util/tensor.js';
import type { Hoisted } from '../hoist.js';

export type Feeds = Record<string, Float64Array>;

/** A graph under construction, and a value for each of its inputs. */
export class Program {
  readonly graph = new Graph();
  readonly feeds: Feeds = {};
  constructor(readonly random: Random) {}

  input(
    shape: Shape, role: InputRole = 'batch', draw = (r: Random): number => r.normal(), dtype: DType = 'float32',
  ): Value {
    const name = `x${this.graph.inputs.length}`;
    this.feeds[name] = Float64Array.from({ length: numel(shape) }, () => draw(this.random));
    return this.graph.input(name, dtype, shape, role);
  }

  constant(shape: Shape, values: readonly number[]): Value {
    return this.graph.constant(float32(shape, values));
  }
}

/** The largest difference of any output, relative above 1; infinite where one side alone is not a number. */
export function difference(a: Record<string, RefTensor>, c: Record<string, RefTensor>): number {
  let worst = 0;
  for (const [name, x] of Object.entries(a)) {
    const y = c[name];
    if (!y || y.shape.join() !== x.shape.join() || y.dtype !== x.dtype) return Infinity;
    x.data.forEach((v, i) => {
      const error = Object.is(v, y.data[i]) ? 0 : Math.abs(v - y.data[i]!) / Math.max(1, Math.abs(v));
      worst = Math.max(worst, Number.isNaN(error) ? Infinity : error);
    });
  }
  return worst;
}

/** How far a rewritten graph is from the one that it stands for. */
export function change(program: Program, rewritten: Graph): number {
  verifyGraph(rewritten);
  return difference(evaluateGraph(program.graph, program.feeds), evaluateGraph(rewritten, program.feeds));
}

/** Runs the prologue, then the step with what the prologue gave. */
export function evaluateHoisted({ prologue, step }: Hoisted, feeds: Feeds): Record<string, RefTensor> {
  const once = prologue ? evaluateGraph(prologue, feeds) : {};
  const held = Object.fromEntries(Object.entries(once).map(([name, t]) => [name, t.data]));
  return evaluateGraph(step, { ...feeds, ...held });
}

export const opsOf = (graph: Graph): OpType[] => graph.nodes.map((n) => n.op);

const differentiable = (Object.keys(ops) as OpType[]).filter((op) => ops[op].vjp !== 'nondifferentiable');
const roles = ['batch', 'state', 'frozen'] as const;

/** What invites the rules: neutral and repeated factors, double negation, expanded and transposed operands, parts. */
const invitations: ((p: Program, v: Value) => Value)[] = [
  (_, v) => b.mul(v, 1),
  (_, v) => b.mul(b.mul(v, 0.5), 3),
  (_, v) => b.div(b.mul(v, 0.7), 1.3),
  (_, v) => b.add(0, v),
  (_, v) => b.add(v, -0),
  (_, v) => b.neg(b.neg(v)),
  (p, v) => b.mul(v, b.expand(p.constant([], [0.25]), v.shape)),
  (p, v) => b.sub(v, b.expand(p.constant(v.shape.map(() => 1), [2]), v.shape)),
  (p, v) => b.mul(v, p.constant([1, ...v.shape.map(() => 1)], [2])), // a factor that adds a dimension
  (p, v) => b.add(v, b.mul(p.constant([], [3]), p.constant([], [0.5]))),
  (_, v) => b.reshape(b.reshape(v, [-1]), v.shape),
  (_, v) => (v.shape.length === 0 ? v : b.slice(b.neg(b.mul(v, b.sigmoid(v))), v.shape.length - 1, 0, 1)),
  (_, v) => (v.shape.length < 2 ? v : b.swapLast(b.swapLast(v))),
  (_, v) => (v.shape.length < 2 ? v : b.mul(b.matmul(v, b.swapLast(v)), 0.125)),
  (_, v) => (v.shape.length < 2 ? v : b.matmul(b.swapLast(v), v)),
  (_, v) => (v.shape.length < 2 ? v : b.matmul(b.softmax(b.matmul(v, b.swapLast(v))), v)),
];

/**
 * A random program over the whole op table, its gradients included. Operands are earlier values where one of the right
 * shape is there, else inputs of a random role.
 */
export function randomProgram(random: Random, nodes = 12): Program {
  const program = new Program(random);
  const pool: Value[] = [];
  const any = <T>(items: readonly T[]): T => items[random.integer(items.length)]!;
  const addOp = (op: OpType): void => {
    const c = any(opCases[op] as readonly OpCase<OpAttributes[OpType]>[]);
    if (c.dtype) return; // integer arithmetic
    const inputs = c.inputs.map((x) => {
      if (x.fixed) {
        const values = [...x.fixed.values];
        return program.input(x.shape, any(roles), () => values.shift()!, x.fixed.dtype);
      }
      const fitting = x.draw ? [] : pool.filter((v) => v.shape.join() === x.shape.join());
      return fitting.length > 0 && random.uniform() < 0.8 ? any(fitting) : program.input(x.shape, any(roles), x.draw);
    });
    pool.push(...b.apply(op, inputs, c.attributes).filter((v) => v.dtype === 'float32'));
  };
  while (pool.length < nodes) {
    addOp(any(differentiable));
    // tanh keeps deep chains of exponentials and products in range
    if (pool.length > 0) pool.push(any(invitations)(program, b.tanh(any(pool))));
  }
  const loss = pool.map((v) => b.reduceMean(b.sin(v))).reduce((a, c) => b.add(a, c));
  const wrt =
    program.graph.inputs.filter((v) => v.source.kind === 'input' && v.source.role === 'state' && v.dtype === 'float32');
  gradients(loss, wrt).forEach((g, i) => program.graph.output(`gradient${i}`, g));
  program.graph.output('loss', loss);
  program.graph.output('last', pool.at(-1)!);
  return program;
}
