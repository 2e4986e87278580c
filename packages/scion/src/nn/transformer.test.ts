import { expect, test } from 'vitest';
import { Graph, type Value } from '../ir/graph.js';
import { evaluateGraph } from '../ops/evaluate.js';
import { Random } from '../util/random.js';
import { numel } from '../util/tensor.js';
import { causalMask } from './layers.js';
import { init, trained } from './parameter.js';
import { Encoder, type EncoderConfig } from './transformer.js';

const config: EncoderConfig = {
  hidden_size: 6, intermediate_size: 5, num_hidden_layers: 2, num_attention_heads: 3, hidden_act: 'quick_gelu',
  layer_norm_eps: 1e-5,
};
const [tokens, batch, width] = [5, 2, 6];
const encoder = new Encoder((_, shape) => trained(shape, init.zeros), config, { modality: 'vision', causal: false }).named();

/** The states for random weights and for x. */
function states(x: Float64Array, mask: (graph: Graph) => Value | undefined): Float64Array[] {
  const graph = new Graph();
  const values = encoder.states(graph.input('x', 'float32', [tokens, batch, width]), mask(graph));
  values.forEach((s, i) => graph.output(String(i), s));
  const random = Random.seeded(3);
  const feeds: Record<string, Float64Array> = {};
  for (const v of graph.inputs) {
    if (v.source.kind !== 'input') continue;
    const drawn = Float64Array.from({ length: numel(v.shape) }, () => random.normal());
    feeds[v.source.name] = v.source.name === 'x' ? x : drawn;
  }
  const found = evaluateGraph(graph, feeds);
  return values.map((v, i) => {
    expect(v.shape).toEqual([tokens, batch, width]);
    return found[String(i)]!.data;
  });
}

const random = Random.seeded(4);
const x = Float64Array.from({ length: tokens * batch * width }, () => random.normal());
const later = 3 * batch * width; // where token 3 begins
const changed = x.map((v, i) => (i < later ? v : v + i % 7));

test('the first state is the input, the last what forward gives', () => {
  const all = states(x, () => undefined);
  expect(all.length).toBe(3);
  expect(all[0]).toEqual(x);
  const graph = new Graph();
  const input = graph.input('x', 'float32', [batch, tokens, width]);
  expect(encoder.forward(input)).toBe(encoder.states(graph.nodes[0]!.outputs[0]!).at(-1));
});

test('under a causal mask what comes later does not reach what came before, and else it does', () => {
  const [masked, maskedToo] = [x, changed].map((input) => states(input, (graph) => causalMask(graph, tokens)));
  const [free, freeToo] = [x, changed].map((input) => states(input, () => undefined));
  for (const i of [1, 2]) {
    expect(maskedToo![i]!.slice(0, later)).toEqual(masked![i]!.slice(0, later));
    expect(maskedToo![i]!.slice(later)).not.toEqual(masked![i]!.slice(later));
    expect(freeToo![i]!.slice(0, later)).not.toEqual(free![i]!.slice(0, later));
  }
});
