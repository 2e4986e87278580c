import { describe, expect, test } from 'vitest';
import type { Graph} from '../ir/graph.js';
import { type Value } from '../ir/graph.js';
import { verifyGraph } from '../ir/verify.js';
import * as b from '../ops/build.js';
import { evaluateGraph } from '../ops/evaluate.js';
import { Random } from '../util/random.js';
import { hoistFrozen } from './hoist.js';
import { Program, difference, evaluateHoisted, opsOf } from './testing/programs.js';

/** A frozen encoder under a trained adapter, on frozen images and a batch of indices. */
function program(): Program {
  const p = new Program(Random.seeded(1));
  const { graph } = p;
  const images = p.input([6, 4], 'frozen');
  const weight = p.input([4, 3], 'frozen');
  const adapter = p.input([3, 3], 'state');
  const batch = p.input([2], 'batch', (r) => r.integer(6), 'int64');
  const features = graph.within('encoder', () => b.tanh(b.matmul(images, weight)));
  const adapted = graph.within('adapter', () => b.matmul(b.gather(features, batch), adapter));
  graph.output('y', adapted);
  graph.output('features', features);
  graph.output('weight', weight);
  return p;
}

test('prologue and step together give what the graph gave', () => {
  const p = program();
  const parts = hoistFrozen(p.graph);
  verifyGraph(parts.prologue!);
  verifyGraph(parts.step);
  expect(difference(evaluateGraph(p.graph, p.feeds), evaluateHoisted(parts, p.feeds))).toBe(0);
});

test('what is frozen is in the prologue alone, what is trained or fed in the step alone', () => {
  const { prologue, step } = hoistFrozen(program().graph);
  expect(opsOf(prologue!)).toEqual(['MatMul', 'Tanh']);
  expect(opsOf(step)).toEqual(['Gather', 'MatMul']);
  const roles = (g: Graph): string[] => g.inputs.map((v) => (v.source.kind === 'input' ? v.source.role : ''));
  expect(new Set(roles(prologue!))).toEqual(new Set(['frozen']));
  expect(prologue!.nodes.every((n) => n.path === 'encoder') && step.nodes.every((n) => n.path === 'adapter'))
    .toBe(true);
  const names = step.inputs.map((v) => (v.source.kind === 'input' ? v.source.name : ''));
  for (const name of prologue!.outputs.keys()) expect(names).toContain(name);
  expect(names).not.toContain('x0'); // the images themselves are not handed to the step
});

describe('no prologue', () => {
  const without = (build: (p: Program) => Value): void => {
    const p = new Program(Random.seeded(2));
    p.graph.output('y', build(p));
    const { prologue, step } = hoistFrozen(p.graph);
    expect(prologue).toBeUndefined();
    expect(opsOf(step)).toEqual(opsOf(p.graph));
    expect(difference(evaluateGraph(p.graph, p.feeds), evaluateGraph(step, p.feeds))).toBe(0);
  };

  test('without frozen inputs', () => without((p) => b.exp(p.input([2]))));
  test('for what depends on constants alone', () =>
    without((p) => b.add(p.input([2]), b.exp(p.constant([2], [1, 2])))));
  test('where a frozen input meets a trained one at once', () =>
    without((p) => b.add(p.input([2], 'frozen'), p.input([2], 'state'))));
});

test('a frozen value that only dead nodes use is not computed', () => {
  const p = new Program(Random.seeded(3));
  const x = p.input([2]);
  b.exp(p.input([2], 'frozen'));
  p.graph.output('y', b.sin(x));
  expect(hoistFrozen(p.graph).prologue).toBeUndefined();
});

test('what depends on constants alone is computed on the side that needs it, or on both', () => {
  const p = new Program(Random.seeded(5));
  const constants = [0, 1, 2].map((i) => b.exp(p.constant([2], [i, 1]))); // weights under a Cast, for instance
  const still = b.mul(b.mul(p.input([2], 'frozen'), constants[0]!), constants[1]!);
  p.graph.output('y', b.add(b.add(b.mul(p.input([2]), still), constants[1]!), constants[2]!));
  const parts = hoistFrozen(p.graph);
  expect([parts.prologue!, parts.step].map((g) => opsOf(g).sort())).toEqual([
    ['Exp', 'Exp', 'Mul', 'Mul'], ['Add', 'Add', 'Exp', 'Exp', 'Mul'],
  ]);
  expect(difference(evaluateGraph(p.graph, p.feeds), evaluateHoisted(parts, p.feeds))).toBe(0);
});

test('only some outputs of a node may be needed', () => {
  const p = new Program(Random.seeded(4));
  const [, indices] = b.topK(p.input([2, 5], 'frozen'), 2);
  p.graph.output('y', b.gatherElements(p.input([2, 5]), indices, 1));
  const parts = hoistFrozen(p.graph);
  expect([...parts.prologue!.outputs.values()].map((v) => v.dtype)).toEqual(['int64']);
  expect(difference(evaluateGraph(p.graph, p.feeds), evaluateHoisted(parts, p.feeds))).toBe(0);
});
