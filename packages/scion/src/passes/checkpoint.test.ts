import { afterAll, expect, test } from 'vitest';
import { gradients } from '../autodiff/grad.js';
import { Graph, type Value } from '../ir/graph.js';
import { verifyGraph } from '../ir/verify.js';
import { dropout } from '../nn/dropout.js';
import { attention } from '../nn/layers.js';
import { encodeModel } from '../onnx/encode.js';
import * as b from '../ops/build.js';
import { clipByGlobalNorm } from '../optim/clip.js';
import { nodeRuntime } from '../runtime/node.js';
import { Random } from '../util/random.js';
import { float32, numel, tensor } from '../util/tensor.js';
import { checkpoint } from './checkpoint.js';
import { Flow } from './flow.js';
import { peakBytes } from './liveness.js';
import { segmentsOf } from './segments.js';
import { simplify } from './simplify.js';
import { change, randomProgram } from './testing/programs.js';

const runtime = nodeRuntime();
afterAll(() => runtime.close());

const [tokens, batch, width] = [12, 2, 8];

/** The gradients of a stack of layers of attention and an MLP with dropout, with their paths or without any. */
function program(layers: number, named = true): Graph {
  const graph = new Graph();
  const [seed, step] = ['seed', 'step'].map((name) => graph.input(name, 'uint32', []));
  let x = graph.input('x', 'float32', [tokens * batch, width]);
  const weights: Value[] = [];
  for (let i = 0; i < layers; i++) {
    graph.at(named ? `layers.${i}` : '', () => {
      const weight = (name: string, from: number, to: number): Value => {
        weights.push(graph.input(`${i}.${name}`, 'float32', [from, to], 'state'));
        return weights.at(-1)!;
      };
      const [q, k, v] = ['q', 'k', 'v'].map((name) => b.matmul(x, weight(name, width, width)));
      x = b.add(x, attention(q!, k!, v!, { tokens, batch, heads: 2 }));
      const hidden = b.gelu(b.matmul(dropout(x, 0.3, seed!, step!, `${i}`), weight('up', width, 4 * width)));
      x = b.add(x, b.matmul(hidden, weight('down', 4 * width, width)));
    });
  }
  const { gradients: clipped } = clipByGlobalNorm(gradients(b.reduceMean(b.sin(x)), weights), 1);
  clipped.forEach((g, i) => graph.output(`gradient${i}`, g));
  graph.output('y', x);
  return simplify(graph);
}

async function run(graph: Graph): Promise<Record<string, ArrayLike<unknown>>> {
  const random = Random.seeded(5);
  const session = await runtime.load(encodeModel(graph));
  try {
    const outputs = await session.run(Object.fromEntries(graph.inputs.map((v) => [
      v.source.kind === 'input' ? v.source.name : '',
      v.dtype === 'uint32' ? tensor('uint32', [], Uint32Array.of(9))
        : float32(v.shape, Array.from({ length: numel(v.shape) }, () => random.normal())),
    ])));
    return Object.fromEntries(Object.entries(outputs).map(([name, t]) => [name, t.data as ArrayLike<unknown>]));
  } finally {
    await session.release();
  }
}

test.each([true, false])('less is kept and every gradient is the same to the bit; paths: %s', async (named) => {
  const before = program(6, named);
  const after = checkpoint(before);
  verifyGraph(after);
  expect(peakBytes(after)).toBeLessThan((named ? 0.6 : 0.9) * peakBytes(before));
  expect(await run(after)).toEqual(await run(before));
});

test('the backward pass reads nothing of the lower layers but their inputs', () => {
  const flow = new Flow(checkpoint(program(6)));
  const inner = flow.forward.filter((n) => /^layers\.[0-4]$/.test(n.path)).flatMap((n) => n.outputs)
    .filter((v) => flow.lateReadersOf(v).length > 0 && numel(v.shape) >= tokens * batch * width);
  const crossing = inner.filter((v) => flow.readersOf(v).some((n) => flow.isForward(n) && n.path !== 'layers.0'));
  expect(inner.length).toBe(crossing.length);
  expect(inner.length).toBeLessThanOrEqual(5);
});

test('the uppermost layer is kept', () => {
  const graph = program(1);
  expect(checkpoint(graph)).toBe(graph);
});

test.each(Array.from({ length: 40 }, (_, i) => i))('random program %d means the same', (seed) => {
  const p = randomProgram(Random.seeded(7).child(seed), 24);
  expect(change(p, checkpoint(p.graph))).toBe(0);
});

test('layers are found by the usual names, the innermost where they lie in stages', () => {
  const graph = new Graph();
  const x = graph.input('x', 'float32', [2]);
  ['vision_model.encoder.layers.3.mlp', 'text.encoder.layer.10', 'stages.1.blocks.2.conv', 'head']
    .forEach((path, i) => graph.at(path, () => b.mul(x, i + 2)));
  expect(segmentsOf(graph.nodes).map((nodes) => nodes.map((n) => n.path))).toEqual([
    ['vision_model.encoder.layers.3.mlp'], ['text.encoder.layer.10'], ['stages.1.blocks.2.conv'],
  ]);
});
