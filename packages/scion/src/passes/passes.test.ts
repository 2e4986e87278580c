import { expect, test } from 'vitest';
import type { Graph } from '../ir/graph.js';
import { evaluateGraph } from '../ops/evaluate.js';
import { Random } from '../util/random.js';
import { numel } from '../util/tensor.js';
import { hoistFrozen } from './hoist.js';
import { rewrite } from './rewrite.js';
import { shrink } from './shrink.js';
import { simplify } from './simplify.js';
import { attentionGrad } from './softmax-grad.js';
import { change, difference, evaluateHoisted, opsOf, randomProgram } from './testing/programs.js';

const seeds = Array.from({ length: 60 }, (_, i) => i);
const draw = (seed: number): ReturnType<typeof randomProgram> => randomProgram(Random.seeded(2026).child(seed));

test.each(seeds)('random program %d means the same after every pass and after all of them', (seed) => {
  const p = draw(seed);
  expect(change(p, rewrite(p.graph))).toBe(0);
  expect(change(p, shrink(p.graph))).toBe(0);
  const alone = hoistFrozen(p.graph);
  expect(difference(evaluateGraph(p.graph, p.feeds), evaluateHoisted(alone, p.feeds))).toBe(0);
  const simplified = simplify(p.graph);
  expect(change(p, simplified)).toBeLessThan(1e-5); // folded constants are rounded to float32
  const final = simplify(attentionGrad(simplify(shrink(p.graph))));
  expect(change(p, final)).toBeLessThan(1e-5);
  const parts = hoistFrozen(final);
  expect(difference(evaluateGraph(p.graph, p.feeds), evaluateHoisted(parts, p.feeds))).toBeLessThan(1e-5);
});

test('these programs cover most of the op table and give every pass something to do', () => {
  const programs = seeds.map((s) => draw(s).graph);
  expect(new Set(programs.flatMap(opsOf)).size).toBeGreaterThan(50);
  const smaller = programs.filter((g) => simplify(g).nodes.length < rewrite(g).nodes.length);
  expect(smaller.length).toBe(seeds.length);
  const elements = (g: Graph): number => g.nodes.reduce((sum, n) => sum + numel(n.outputs[0]!.shape), 0);
  expect(programs.filter((g) => elements(shrink(g)) < elements(rewrite(g))).length).toBeGreaterThan(seeds.length / 4);
  expect(programs.filter((g) => hoistFrozen(g).prologue).length).toBeGreaterThan(seeds.length / 2);
});
