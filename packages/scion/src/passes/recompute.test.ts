import { afterAll, expect, test } from 'vitest';
import { gradients } from '../autodiff/grad.js';
import { Graph } from '../ir/graph.js';
import { verifyGraph } from '../ir/verify.js';
import { attention } from '../nn/layers.js';
import { encodeModel } from '../onnx/encode.js';
import * as b from '../ops/build.js';
import { evaluateGraph } from '../ops/evaluate.js';
import { nodeRuntime } from '../runtime/node.js';
import { Random } from '../util/random.js';
import { float32, numel } from '../util/tensor.js';
import { recomputeAttention } from './recompute.js';
import { simplify } from './simplify.js';
import { attentionGrad } from './softmax-grad.js';

const runtime = nodeRuntime();
afterAll(() => runtime.close());

/** The gradients of a sum over one attention block. */
function program(tokens: number, headWidth: number): Graph {
  const graph = new Graph();
  const [batch, heads] = [2, 2];
  const shape = [tokens * batch, heads * headWidth];
  const [q, k, v, w] = ['q', 'k', 'v', 'w'].map((name) => graph.input(name, 'float32', shape));
  const y = attention(q!, k!, v!, { tokens, batch, heads });
  gradients(b.reduceSum(b.mul(y, w!)), [q!, k!, v!]).forEach((g, i) => graph.output(`grad_${i}`, g));
  graph.output('y', y);
  return simplify(attentionGrad(simplify(graph)));
}

function feeds(graph: Graph) {
  const random = Random.seeded(5);
  return Object.fromEntries(graph.inputs.map((v) => [
    v.source.kind === 'input' ? v.source.name : '',
    float32(v.shape, Array.from({ length: numel(v.shape) }, () => random.normal())),
  ]));
}

const softmaxes = (g: Graph): number => g.nodes.filter((n) => n.op === 'Softmax').length;

test('probabilities are computed a second time, behind the cotangent, with the same results', async () => {
  const before = program(9, 3);
  const after = recomputeAttention(before);
  verifyGraph(after);
  expect([softmaxes(before), softmaxes(after)]).toEqual([1, 2]);
  const probabilities = after.nodes.filter((n) => n.op === 'Softmax').map((n) => n.outputs[0]!);
  const readers = (i: number) => after.nodes.filter((n) => n.inputs.includes(probabilities[i]!));
  // the first is read by the forward pass alone, so its memory is free before the backward pass
  expect(readers(0).every((n) => !n.path.includes('backward'))).toBe(true);
  expect(readers(1).length).toBeGreaterThan(0);
  const values = feeds(before);
  const doubles = Object.fromEntries(Object.entries(values).map(([n, t]) => [n, Float64Array.from(t.data)]));
  const [expected, actual] = [evaluateGraph(before, doubles), evaluateGraph(after, doubles)];
  const session = await runtime.load(encodeModel(after));
  const single = await session.run(values);
  await session.release();
  for (const [name, { data }] of Object.entries(expected)) {
    data.forEach((x, i) => {
      expect(actual[name]!.data[i]).toBe(x);
      expect(Math.abs(Number(single[name]!.data[i]) - x)).toBeLessThan(1e-5);
    });
  }
});

test('small probabilities are kept', () => {
  const graph = program(3, 8);
  expect(recomputeAttention(graph)).toBe(graph);
});
