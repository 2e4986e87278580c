import { describe, expect, test } from 'vitest';
import { vjp } from '../../autodiff/grad.js';
import { readSafetensors } from '../../formats/safetensors-node.js';
import { Graph, type Value } from '../../ir/graph.js';
import { enableDropout } from '../../nn/dropout.js';
import * as f from '../../nn/functional.js';
import { Linear } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Parameter, boundParameters, init, trained } from '../../nn/parameter.js';
import { Block } from '../../nn/places.js';
import { evaluateGraph } from '../../ops/evaluate.js';
import { Random } from '../../util/random.js';
import { numel, toFloat64 } from '../../util/tensor.js';
import { adapter } from '../adapter/index.js';
import { adaptFormer } from '../adaptformer/index.js';
import type { BackboneMethod } from '../backbone-method.js';
import { Bottleneck, nonLinearities } from './layer.js';

const random = Random.seeded(2);
const draw = (n: number): Float64Array => Float64Array.from({ length: n }, () => random.normal());

/** Feeds for all parameters that a graph uses, by name. */
const drawn = (graph: Graph): Record<string, Float64Array> =>
  Object.fromEntries([...boundParameters(graph).keys()].map((p: Parameter) => [p.name, draw(numel(p.shape))]));

/** Factors are constants of float32, all else is computed in float64. */
function expectNear(actual: Float64Array, wanted: ArrayLike<number>, tolerance = 1e-6): void {
  expect(actual.length).toBe(wanted.length);
  const error = actual.reduce((worst, v, i) =>
    Math.max(worst, Number.isNaN(v) ? Infinity : Math.abs(v - wanted[i]!) / Math.max(1, Math.abs(wanted[i]!))), 0);
  expect(error).toBeLessThan(tolerance);
}

test('a serial bottleneck with ReLU is the published expert of ModeX: output and gradients', async () => {
  const file = new URL('../../../../../fixtures/methods/modex-expert.safetensors', import.meta.url).pathname;
  const { tensors } = await readSafetensors(file);
  const get = (name: string): Float64Array => toFloat64(tensors.get(name)!);
  const layer = new Bottleneck({
    width: 12, bottleneck: 4, nonLinearity: 'relu', dropout: 0.5, scaling: 1, residual: true,
  }).named();
  const graph = new Graph();
  const x = graph.input('x', 'float32', [10, 12]);
  const y = layer.forward(x);
  graph.output('y', y);
  const theirs = {
    'down_proj.weight': 'D_fc1.weight', 'down_proj.bias': 'D_fc1.bias',
    'up_proj.weight': 'D_fc2.weight', 'up_proj.bias': 'D_fc2.bias',
  };
  const bound = new Map([...boundParameters(graph)].map(([p, v]) => [p.name, v]));
  expect([...bound.keys()].sort()).toEqual(Object.keys(theirs).sort());
  const sources: [name: string, value: Value][] = [
    ['hidden_states', x],
    ...Object.entries(theirs).map(([own, name]): [string, Value] => [name, bound.get(own)!]),
  ];
  const dy = graph.input('dy', 'float32', [10, 12]);
  vjp(y, dy, sources.map(([, v]) => v)).forEach((g, i) => graph.output(`grad_${sources[i]![0]}`, g));
  const found = evaluateGraph(graph, {
    x: get('hidden_states'), dy: get('grad_output'),
    ...Object.fromEntries(Object.entries(theirs).map(([own, name]) => [own, get(name)])),
  });
  expectNear(found['y']!.data, get('output'), 1e-5);
  for (const [name] of sources) expectNear(found[`grad_${name}`]!.data, get(`grad_${name}`), 1e-5);
});

/** x [rows, in] · Wᵀ + b */
function linear(x: Float64Array, w: Float64Array, b: Float64Array): Float64Array {
  const inputs = w.length / b.length;
  return Float64Array.from({ length: (x.length / inputs) * b.length }, (_, i) => {
    const [row, out] = [Math.floor(i / b.length), i % b.length];
    return b[out]! + w.subarray(out * inputs, (out + 1) * inputs).reduce((s, v, k) => s + v * x[row * inputs + k]!, 0);
  });
}

function norm(x: Float64Array, w: Float64Array, b: Float64Array): Float64Array {
  const width = w.length;
  return x.map((v, i) => {
    const row = x.subarray(i - (i % width), i - (i % width) + width);
    const mean = row.reduce((s, z) => s + z, 0) / width;
    const variance = row.reduce((s, z) => s + (z - mean) ** 2, 0) / width;
    return (v - mean) / Math.sqrt(variance + 1e-5) * w[i % width]! + b[i % width]!;
  });
}

const acts: Record<string, (x: number) => number> = {
  relu: (x) => Math.max(0, x), silu: (x) => x / (1 + Math.exp(-x)), tanh: Math.tanh,
  quick_gelu: (x) => x / (1 + Math.exp(-1.702 * x)),
};
const tanhGelu = (x: number): number => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
acts['gelu_new'] = acts['gelu_pytorch_tanh'] = tanhGelu;

/** `s · up(act(down x))` from the feeds below a path. */
function bottleneck(x: Float64Array, at: (name: string) => Float64Array, act: string, scale: number): Float64Array {
  const inner = linear(x, at('down_proj.weight'), at('down_proj.bias')).map(acts[act]!);
  return linear(inner, at('up_proj.weight'), at('up_proj.bias')).map((v) => scale * v);
}

const [rows, width] = [24, 6];
/** A layer whose parts are multiplications by 2 and 3, so that what a place reads is seen in the result. */
class Doubling extends Block {
  constructor() {
    super({
      modality: 'vision', cross: false, causal: false, norm: 'pre', layer: 0, layers: 1, width, hidden: 4, heads: 1,
      activation: 'relu',
    });
  }
  protected norm(_: string, x: Value): Value {
    return x;
  }
  protected attend(x: Value): Value {
    return f.mul(x, 2);
  }
  protected feedForward(x: Value): Value {
    return f.mul(x, 3);
  }
}
class Tower extends Module {
  constructor(readonly layer = new Doubling()) {
    super();
    this.child('layers.0', layer);
    this.child('head', new Linear((_, shape) => trained(shape, init.zeros), width, 1));
  }
}

/** The adapted layer's outcome for x, and what its parameters were fed. */
async function adapted(method: BackboneMethod, config: object, inTraining = false): Promise<{
  x: Float64Array; y: Float64Array; names: string[]; at: (place: string) => (name: string) => Float64Array;
}> {
  const tower = new Tower();
  await method.attach(tower, method.config.parse(config), { read: () => Promise.reject(new Error('nothing is read')) });
  const graph = new Graph();
  if (inTraining) enableDropout(graph);
  graph.output('y', tower.layer.forward(graph.input('x', 'float32', [rows, width]), { batch: 1 }));
  const feeds: Record<string, Float64Array> = {
    x: draw(rows * width), ...drawn(graph), 'dropout.seed': Float64Array.of(4), 'dropout.step': Float64Array.of(0),
  };
  const { y } = evaluateGraph(graph, feeds);
  return {
    x: feeds['x']!, y: y!.data, names: Object.keys(feeds).filter((name) => name.startsWith('layers')).sort(),
    at: (place) => (name) => feeds[`layers.0.${place}.${name}`]!,
  };
}

const plus = (a: Float64Array, b: Float64Array): Float64Array => a.map((v, i) => v + b[i]!);
const times = (a: Float64Array, by: number): Float64Array => a.map((v) => by * v);

describe('where adapters stand, in a layer x + 2x, then + 3x', () => {
  test.each(Object.keys(nonLinearities).filter((act) => act in acts))('as Houlsby, with %s', async (act) => {
    const { x, y, at } = await adapted(adapter, { bottleneck_dim: 4, non_linearity: act, scaling: 0.7 });
    const serial = (place: string, v: Float64Array): Float64Array => plus(v, bottleneck(v, at(place), act, 0.7));
    const attended = plus(x, serial('attention_output', times(x, 2)));
    expectNear(y, plus(attended, serial('feed_forward_output', times(attended, 3))));
  });

  test('as Pfeiffer, with ReLU and a sixteenth of the features unless told otherwise', async () => {
    const { x, y, at, names } = await adapted(adapter, { placement: 'pfeiffer' });
    const fed = times(x, 9);
    expectNear(y, plus(times(x, 3), plus(fed, bottleneck(fed, at('feed_forward_output'), 'relu', 1))));
    expect(at('feed_forward_output')('down_proj.bias').length).toBe(1);
    expect(names.length).toBe(4);
  });

  test('beside, with four times what the up-projection makes and half of the features', async () => {
    const { x, y, at } = await adapted(adapter, { placement: 'parallel' });
    expectNear(y, plus(times(x, 12), bottleneck(times(x, 3), at('beside_feed_forward'), 'relu', 4)));
    expect(at('beside_feed_forward')('down_proj.bias').length).toBe(3);
  });

  test.each(['none', 'in', 'out'] as const)('AdaptFormer with LayerNorm %s', async (option) => {
    const { x, y, at: place } = await adapted(adaptFormer, { adapter_layernorm_option: option });
    const at = place('beside_feed_forward');
    const own = (v: Float64Array): Float64Array =>
      norm(v, at('adapter_layer_norm_before.weight'), at('adapter_layer_norm_before.bias'));
    const read = option === 'in' ? own(times(x, 3)) : times(x, 3);
    const made = bottleneck(read, at, 'relu', 0.1);
    expectNear(y, plus(times(x, 12), option === 'out' ? own(made) : made));
    expect(at('down_proj.bias').length).toBe(64);
  });

  test('AdaptFormer with a learned factor', async () => {
    const { x, y, at: place } = await adapted(adaptFormer, { adapter_scalar: 'learnable_scalar', ffn_num: 5 });
    const at = place('beside_feed_forward');
    expectNear(y, plus(times(x, 12), bottleneck(times(x, 3), at, 'relu', at('scale')[0]!)));
  });
});

test('dropout is on what the up-projection reads, in training alone', async () => {
  const p = 0.5;
  const config = { placement: 'parallel', bottleneck_dim: 1, dropout: p, scaling: 1 };
  const { x, y, at: place } = await adapted(adapter, config, true);
  const at = place('beside_feed_forward');
  // one feature in the bottleneck: each token has all of it, doubled, or none
  const inner = linear(times(x, 3), at('down_proj.weight'), at('down_proj.bias')).map(acts['relu']!);
  const kept = (on: number): Float64Array =>
    plus(times(x, 12), linear(inner.map((v) => v * on), at('up_proj.weight'), at('up_proj.bias')));
  const [without, full] = [kept(0), kept(1 / (1 - p))];
  const alike = (row: number, other: Float64Array): boolean => Array.from({ length: width }, (_, i) =>
    Math.abs(y[row * width + i]! - other[row * width + i]!)).every((d) => d < 1e-6);
  const active = Array.from({ length: rows }, (_, row) => row).filter((row) => inner[row]! > 0);
  for (const row of active) expect(alike(row, without) !== alike(row, full), `token ${row}`).toBe(true);
  expect(active.some((row) => alike(row, without)) && active.some((row) => alike(row, full))).toBe(true);
});
