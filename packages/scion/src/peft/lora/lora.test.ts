/** LoRA and DoRA against their definitions, in double precision. */
import { describe, expect, test } from 'vitest';
import { vjp } from '../../autodiff/grad.js';
import { Graph, type Value } from '../../ir/graph.js';
import { Conv2d } from '../../nn/conv.js';
import { enableDropout } from '../../nn/dropout.js';
import * as f from '../../nn/functional.js';
import { Linear, type Weights, below } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { readParameter } from '../../nn/parameter-values.js';
import { boundParameters, frozen } from '../../nn/parameter.js';
import { evaluateGraph } from '../../ops/evaluate.js';
import { Random } from '../../util/random.js';
import { type Tensor, float32, numel, toFloat64 } from '../../util/tensor.js';
import { lora } from './index.js';

const random = Random.seeded(9);
const drawn = (shape: readonly number[]): Tensor<'float32'> =>
  float32(shape, Float32Array.from({ length: numel(shape) }, () => random.normal()));
const weights: Weights = (_, shape) => frozen(drawn(shape));

class Both extends Module {
  constructor() {
    super();
    this.child('fc', new Linear(below(weights, 'fc'), 4, 3));
    this.child('conv', new Conv2d(below(weights, 'conv'), 2, 3, 3, { stride: 2, padding: 1, bias: true }));
    this.named();
  }
}
const layers = { fc: [5, 4], conv: [2, 2, 5, 6] } as const;
type Layer = keyof typeof layers;

interface Trial {
  graph: Graph;
  x: Value;
  y: Value;
  feeds: Record<string, Float64Array>;
  /** Values by their names below the layer; the trained ones are drawn. */
  at: (name: string) => Float64Array;
}

async function trial(layer: Layer, config: object, inTraining = false): Promise<Trial> {
  const model = new Both();
  await lora.attach(model, lora.config.parse({ target_modules: layer, ...config }), { read: readParameter });
  const adapted = new Map(model.modules()).get(layer)! as Module & { forward(x: Value): Value };
  const graph = new Graph();
  if (inTraining) enableDropout(graph);
  const x = graph.input('x', 'float32', layers[layer]);
  const y = adapted.forward(x);
  graph.output('y', y);
  const feeds: Record<string, Float64Array> = {
    x: toFloat64(drawn(x.shape)), 'dropout.seed': Float64Array.of(4), 'dropout.step': Float64Array.of(0),
  };
  for (const { name, shape, origin } of boundParameters(graph).keys()) {
    feeds[name] = toFloat64(origin.kind === 'frozen' ? origin.value : drawn(shape));
  }
  return { graph, x, y, feeds, at: (name) => feeds[`${layer}.${name}`]! };
}

/** The base layer of either kind with a given weight and without bias, in double precision. */
function apply(layer: Layer, x: Float64Array, weight: Float64Array): Float64Array {
  const graph = new Graph();
  const input = graph.input('x', 'float32', layers[layer]);
  const shape = layer === 'fc' ? [3, 4] : [3, 2, 3, 3];
  const w = graph.input('w', 'float32', shape);
  graph.output('y', layer === 'fc' ? f.gemm(input, w, undefined, { transB: 1 })
    : f.conv(input, w, undefined, { strides: [2, 2], pads: [1, 1, 1, 1] }));
  return evaluateGraph(graph, { x, w: weight })['y']!.data;
}

/** Adds a bias of three channels. */
function biased(layer: Layer, y: Float64Array, bias: Float64Array): Float64Array {
  const plane = layer === 'fc' ? 1 : 9;
  return y.map((v, i) => v + bias[Math.floor(i / plane) % 3]!);
}

/** B A, [3, r] · [r, columns] */
function product(b: Float64Array, a: Float64Array): Float64Array {
  const [r, columns] = [b.length / 3, a.length / (b.length / 3)];
  return Float64Array.from({ length: 3 * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    return Array.from({ length: r }, (__, k) => b[row * r + k]! * a[k * columns + column]!).reduce((s, v) => s + v, 0);
  });
}

/** m · W / ‖W‖ by rows; the norms may be those of another weight. */
function decomposed(weight: Float64Array, magnitude: Float64Array, of = weight): Float64Array {
  const columns = weight.length / 3;
  const norms = [0, 1, 2].map((row) => Math.hypot(...of.subarray(row * columns, (row + 1) * columns)));
  return weight.map((v, i) => v * magnitude[Math.floor(i / columns)]! / norms[Math.floor(i / columns)]!);
}

const adapted = (t: Trial, scaling: number): Float64Array => {
  const change = product(t.at('lora_B.weight'), t.at('lora_A.weight'));
  return t.at('base_layer.weight').map((w, i) => w + scaling * change[i]!);
};

/** Factors are constants of float32, all else is computed in float64. */
function expectNear(actual: Float64Array, wanted: Float64Array, tolerance = 1e-6): void {
  expect(actual.length).toBe(wanted.length);
  const error = actual.reduce((worst, v, i) =>
    Math.max(worst, Number.isNaN(v) ? Infinity : Math.abs(v - wanted[i]!) / Math.max(1, Math.abs(wanted[i]!))), 0);
  expect(error).toBeLessThan(tolerance);
}

describe.each(['fc', 'conv'] as const)('%s', (layer) => {
  test.each([
    [{ r: 2, lora_alpha: 3 }, 3 / 2],
    [{ r: 4, lora_alpha: 3, use_rslora: true }, 3 / 2],
    [{ r: 8, rank_pattern: { [layer]: 2 }, alpha_pattern: { [layer]: 5 } }, 5 / 2],
  ])('W x + b + s · B A x with %j', async (config, scaling) => {
    const t = await trial(layer, config);
    const { y } = evaluateGraph(t.graph, t.feeds);
    expectNear(y!.data, biased(layer, apply(layer, t.feeds['x']!, adapted(t, scaling)), t.at('base_layer.bias')));
  });

  test('DoRA: m (W + s B A) / ‖W + s B A‖ x + b', async () => {
    const t = await trial(layer, { r: 2, lora_alpha: 3, use_dora: true });
    const { y } = evaluateGraph(t.graph, t.feeds);
    const weight = decomposed(adapted(t, 1.5), t.at('lora_magnitude_vector'));
    expectNear(y!.data, biased(layer, apply(layer, t.feeds['x']!, weight), t.at('base_layer.bias')));
  });

  test('the gradients of DoRA take the norms for constants', async () => {
    const t = await trial(layer, { r: 2, lora_alpha: 3, use_dora: true });
    const names = ['lora_magnitude_vector', 'lora_A.weight', 'lora_B.weight'].map((name) => `${layer}.${name}`);
    const bound = new Map([...boundParameters(t.graph)].map(([p, v]) => [p.name, v]));
    const dy = t.graph.input('dy', 'float32', t.y.shape);
    vjp(t.y, dy, names.map((name) => bound.get(name)!)).forEach((g, i) => t.graph.output(names[i]!, g));
    const cotangent = toFloat64(drawn(t.y.shape));
    const found = evaluateGraph(t.graph, { ...t.feeds, dy: cotangent });
    const norms = adapted(t, 1.5);
    const value = (): number => {
      const weight = decomposed(adapted(t, 1.5), t.at('lora_magnitude_vector'), norms);
      return apply(layer, t.feeds['x']!, weight).reduce((s, v, i) => s + v * cotangent[i]!, 0);
    };
    for (const name of names) {
      const values = t.feeds[name]!;
      const numeric = values.map((at, i) => {
        const side = (h: number): number => {
          values[i] = at + h;
          return value();
        };
        const slope = (side(1e-4) - side(-1e-4)) / 2e-4;
        values[i] = at;
        return slope;
      });
      expectNear(found[name]!.data, numeric, 1e-5);
    }
  });

  test('dropout is on the change alone: W x stays whole', async () => {
    const t = await trial(layer, { r: 2, lora_alpha: 3, lora_dropout: 0.5, use_dora: true }, true);
    const { y } = evaluateGraph(t.graph, t.feeds);
    // with B = 0 and m = ‖W‖ nothing is left to drop
    t.at('lora_B.weight').fill(0);
    const base = t.at('base_layer.weight');
    t.feeds[`${layer}.lora_magnitude_vector`] = Float64Array.from([0, 1, 2], (row) =>
      Math.hypot(...base.subarray(row * base.length / 3, (row + 1) * base.length / 3)));
    const plain = biased(layer, apply(layer, t.feeds['x']!, base), t.at('base_layer.bias'));
    expectNear(evaluateGraph(t.graph, t.feeds)['y']!.data, plain);
    expect(y!.data).not.toEqual(plain);
  });
});

test.each([false, true])('dropout drops other elements at every step, and none in prediction: DoRA %s', async (dora) => {
  const config = { r: 2, lora_alpha: 3, lora_dropout: 0.5, use_dora: dora };
  const { graph, feeds } = await trial('fc', config, true);
  const at = (step: number): Float64Array => {
    feeds['dropout.step'] = Float64Array.of(step);
    return Float64Array.from(evaluateGraph(graph, feeds)['y']!.data);
  };
  expect(at(1)).toEqual(at(1));
  expect(at(1)).not.toEqual(at(2));
  expect([...(await trial('fc', config, false)).graph.inputs].some(({ source }) =>
    source.kind === 'input' && source.name.startsWith('dropout'))).toBe(false);
});

test('starts from A drawn and B zero, within the bounds of PyTorch or with deviation 1/r', async () => {
  const start = async (config: object): Promise<Record<'A' | 'B', Float32Array>> => {
    const model = new Both();
    await lora.attach(model, lora.config.parse({ target_modules: 'conv', ...config }), { read: readParameter });
    const parameters = new Map(model.parameters());
    const [a, b] = ['A', 'B'].map((part) => {
      const { origin, shape } = parameters.get(`conv.lora_${part}.weight`)!;
      return origin.kind === 'trained' ? origin.init(shape, Random.seeded(1)).data : new Float32Array();
    }) as [Float32Array, Float32Array];
    return { A: a, B: b };
  };
  const uniform = await start({ r: 64 });
  const bound = 1 / Math.sqrt(2 * 9);
  const largest = Math.max(...uniform.A.map(Math.abs));
  expect(largest).toBeLessThanOrEqual(bound);
  expect(largest).toBeGreaterThan(0.95 * bound);
  expect(uniform.B.every((v) => v === 0)).toBe(true);
  const { A } = await start({ r: 64, init_lora_weights: 'gaussian' });
  const deviation = Math.sqrt(A.reduce((s, v) => s + v * v, 0) / A.length);
  expect(deviation * 64).toBeGreaterThan(0.9);
  expect(deviation * 64).toBeLessThan(1.1);
});
