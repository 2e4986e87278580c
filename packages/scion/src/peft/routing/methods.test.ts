/** LoRA and adapters with routing in a model of texts: what is trained, what it reads, what is refused. */
import { afterAll, describe, expect, test } from 'vitest';
import { vjp } from '../../autodiff/grad.js';
import { Graph, type Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import type { Module } from '../../nn/module.js';
import { readParameter } from '../../nn/parameter-values.js';
import { boundParameters } from '../../nn/parameter.js';
import { setRoutes } from '../../nn/routes.js';
import { evaluateGraph } from '../../ops/evaluate.js';
import { nodeRuntime } from '../../runtime/node.js';
import { Random } from '../../util/random.js';
import { type Tensor, float32, numel, toFloat64 } from '../../util/tensor.js';
import { adapter } from '../adapter/index.js';
import type { BackboneMethod } from '../backbone-method.js';
import { attachLora, lora, loraConfig } from '../lora/index.js';
import { mergedWeights, unmergeable } from '../merge.js';
import { fitAdapter, peftAdapterFiles } from '../python/keys.js';
import { parsePeftConfig } from '../python/config.js';
import { compute, descend } from '../testing/adapted.js';
import { type RoutingFunction, routingFunctions } from './layer.js';
import { type Kind, TextModel, width } from './testing/text.js';

const names = Object.keys(routingFunctions) as RoutingFunction[];
const [tokens, batch] = [4, 2];
const context = { read: readParameter };
type Values = Record<string, Tensor<'float32'>>;

async function attached(method: BackboneMethod, config: object, kinds?: readonly Kind[]): Promise<TextModel> {
  const model = new TextModel(kinds);
  await method.attach(model, method.config.parse(config), context);
  return model;
}

const trainedOf = (model: Module) => [...model.parameters()].filter(([, { origin }]) => origin.kind === 'trained');
const countOf = (model: Module): number => trainedOf(model).reduce((sum, [, { shape }]) => sum + numel(shape), 0);

/** Values of the trained parameters: drawn anew, or those that training starts from. */
function valuesOf(model: Module, from: 'start' | 'drawn'): Values {
  return Object.fromEntries(trainedOf(model).map(([name, { shape, origin }]) => {
    const random = Random.seeded(8).child(name);
    const drawn = (): Tensor<'float32'> =>
      float32(shape, Float32Array.from({ length: numel(shape) }, () => 0.3 * random.normal()));
    return [name, from === 'start' && origin.kind === 'trained' ? origin.init(shape, random) : drawn()];
  }));
}

interface Given {
  visual?: number;
  /** Seed of the encoder's states. */
  encoder?: number;
  visualWidth?: number;
}

/** The graph of a model with what it is fed; pictures and states are drawn by their seeds. */
function graphOf(model: TextModel, values: Values, { visual = 1, encoder, visualWidth = width }: Given = {}) {
  const graph = new Graph();
  const feeds: Record<string, Float64Array> = {};
  const feed = (name: string, seed: number, shape: readonly number[]): Value => {
    const random = Random.seeded(seed).child(name);
    feeds[name] = Float64Array.from({ length: numel(shape) }, () => random.normal());
    return graph.input(name, 'float32', shape);
  };
  const x = feed('x', 1, [tokens * batch, width]);
  setRoutes(graph, {
    ...(visual > 0 && { visual: feed('visual', visual, [1, batch, visualWidth]) }),
    ...(encoder !== undefined && { encoder: feed('encoder', encoder, [3, batch, width]) }),
  });
  const y = model.forward(x, batch);
  for (const { name, origin } of boundParameters(graph).keys()) {
    feeds[name] = toFloat64(origin.kind === 'frozen' ? origin.value : values[name]!);
  }
  return { graph, y, feeds };
}

function outputOf(model: TextModel, values: Values = {}, given: Given = {}): Float64Array {
  const { graph, y, feeds } = graphOf(model, values, given);
  graph.output('y', y);
  return Float64Array.from(evaluateGraph(graph, feeds)['y']!.data);
}

const distance = (a: Float64Array, b: Float64Array): number => a.reduce((worst, v, i) => Math.max(worst, Math.abs(v - b[i]!)), 0);

const variants: Readonly<Record<string, { method: BackboneMethod; config: object }>> = {
  'lora': { method: lora, config: { r: 3, target_modules: ['q_proj', 'v_proj'] } },
  'lora of a fused projection': { method: lora, config: { r: 3, target_modules: 'c_attn', fused_parts: 'q,v' } },
  'adapter': { method: adapter, config: { bottleneck_dim: 3, non_linearity: 'model' } },
  'adapter before the norms': { method: adapter, config: { bottleneck_dim: 3, position: 'pre_norm' } },
  'adapter behind the norms': { method: adapter, config: { bottleneck_dim: 3, placement: 'pfeiffer', position: 'post_norm' } },
  'adapter beside': { method: adapter, config: { bottleneck_dim: 3, placement: 'parallel' } },
};

describe.each(Object.entries(variants))('%s', (_, { method, config }) => {
  test.each(names)('%s trains as many numbers as no routing does', async (routing) => {
    const plain = await attached(method, config);
    const model = await attached(method, { ...config, routing });
    expect(countOf(model)).toBe(countOf(plain));
    expect(trainedOf(model).map(([name]) => name)).toEqual(trainedOf(plain).map(([name]) => name));
    const after = await attached(method, { ...config, routing, routing_position: 'after' });
    expect(countOf(after)).toBe(countOf(plain));
  });

  test.each(names)('%s starts from the model, and then depends on the picture', async (routing) => {
    const model = await attached(method, { ...config, routing });
    expect(outputOf(model, valuesOf(model, 'start'))).toEqual(outputOf(new TextModel()));
    const values = valuesOf(model, 'drawn');
    expect(distance(outputOf(model, values), outputOf(model, values, { visual: 2 }))).toBeGreaterThan(1e-3);
    const plain = await attached(method, config);
    expect(outputOf(plain, values)).toEqual(outputOf(plain, values, { visual: 2 }));
  });

  test.each(names)('%s behind both projections has gradients at the start', async (routing) => {
    const model = await attached(method, { ...config, routing, routing_position: 'after' });
    const { graph, y, feeds } = graphOf(model, valuesOf(model, 'start'));
    const bound = new Map([...boundParameters(graph)].map(([p, v]) => [p.name, v]));
    const weights = trainedOf(model).map(([name]) => name).filter((name) => name.endsWith('weight'));
    feeds['dy'] = feeds['x']!;
    vjp(y, graph.input('dy', 'float32', y.shape), weights.map((name) => bound.get(name)!))
      .forEach((g, i) => graph.output(weights[i]!, g));
    const found = evaluateGraph(graph, feeds);
    // with B = 0 none would move; ReLU may be closed for all tokens of an adapter, but not everywhere
    const moving = weights.filter((name) => found[name]!.data.some((v) => v !== 0));
    expect(moving.length).toBeGreaterThanOrEqual(weights.length / 2);
  });

  test('only the layers that are named are routed', async () => {
    const of = async (layers: number[]): Promise<Float64Array> => {
      const model = await attached(method, { ...config, routing: 'mul', layers_to_route: layers });
      return outputOf(model, valuesOf(model, 'drawn'));
    };
    const all = await attached(method, { ...config, routing: 'mul' });
    expect(await of([0, 1])).toEqual(outputOf(all, valuesOf(all, 'drawn')));
    const [first, second] = [await of([0]), await of([1])];
    expect(distance(first, second)).toBeGreaterThan(1e-3);
    expect(distance(first, await of([0, 1]))).toBeGreaterThan(1e-3);
  });
});

/** Tokens that the picture decides about: what no adapter of the text alone can tell. */
describe('a target of tokens times a number of the picture', () => {
  const runtime = nodeRuntime();
  afterAll(() => runtime.close());
  const random = Random.seeded(12);
  const [examples, n] = [8, 3];
  const rows = tokens * examples;
  const drawn = (shape: readonly number[]): Tensor<'float32'> =>
    float32(shape, Float32Array.from({ length: numel(shape) }, () => random.normal()));
  const [x, visual] = [drawn([rows, width]), drawn([n, examples, width])];
  const numbers = Array.from({ length: examples }, (_, example) =>
    visual.data.reduce((sum, v, i) => sum + (Math.floor(i / width) % examples === example ? v : 0), 0) / n);
  const change = x.data.map((v, i) => v * numbers[Math.floor(i / width) % examples]!);

  /** The share of the loss that is left. */
  const left = async (method: BackboneMethod, config: object): Promise<number> => {
    const model = await attached(method, config, [{}]);
    const build = (graph: Graph): Value => {
      setRoutes(graph, { visual: graph.input('visual', 'float32', visual.shape) });
      const y = model.forward(graph.input('x', 'float32', x.shape), examples);
      return f.reduceMean(f.reduceSumSquare(f.sub(y, graph.input('target', 'float32', y.shape)), [1]));
    };
    const base = await compute(runtime, (graph) =>
      ({ y: new TextModel([{}]).forward(graph.input('x', 'float32', x.shape), examples) }), { x });
    const target = float32(x.shape, change.map((v, i) => v + Number(base['y']!.data[i])));
    const steps = { steps: 150, lr: 0.05 };
    const { losses } = await descend(runtime, build, { x, visual, target }, valuesOf(model, 'start'), steps);
    return losses.at(-1)! / losses[0]!;
  };

  test.each(['lora', 'lora of a fused projection', 'adapter'])('%s learns it with routing alone', async (variant) => {
    const { method, config } = variants[variant]!;
    const [plain, routed] = [await left(method, config), await left(method, { ...config, routing: 'mul' })];
    expect(routed).toBeLessThan(0.6 * plain);
  });
});

test('where adapters stand', async () => {
  const places = async (config: object): Promise<string[]> => [...new Set(
    trainedOf(await attached(adapter, config, [{}])).map(([name]) => name.replace(/^text_model\.layers\.0\.|\.(up|down)_proj.*/g, '')))];
  expect(await places({})).toEqual(['attention_output', 'feed_forward_output']);
  expect(await places({ position: 'pre_norm' })).toEqual(['attention_pre_norm', 'feed_forward_pre_norm']);
  expect(await places({ position: 'post_norm' })).toEqual(['attention_post_norm', 'feed_forward_post_norm']);
});

test('the feature of an encoder goes to the layers that attend to one, pictures to no layers of pictures', async () => {
  const kinds: Kind[] = [{}, { cross: true, causal: true }];
  const config = { r: 3, target_modules: ['q_proj', 'v_proj'], routing: 'mul', routing_feature: 'encoder' };
  const model = await attached(lora, config, kinds);
  const values = valuesOf(model, 'drawn');
  expect(distance(outputOf(model, values, { visual: 0, encoder: 1 }), outputOf(model, values, { visual: 0, encoder: 2 }))).toBeGreaterThan(1e-3);
  // of the two layers only the second reads the encoder
  Object.keys(values).filter((name) => name.includes('layers.1')).forEach((name) => values[name]!.data.fill(0));
  expect(outputOf(model, values, { visual: 0, encoder: 1 })).toEqual(outputOf(model, values, { visual: 0, encoder: 2 }));
  const pictures = await attached(adapter, { routing: 'mul', bottleneck_dim: 2 }, [{ modality: 'vision' }, {}]);
  const all = valuesOf(pictures, 'drawn');
  Object.keys(all).filter((name) => name.includes('layers.1')).forEach((name) => all[name]!.data.fill(0));
  expect(outputOf(pictures, all)).toEqual(outputOf(pictures, all, { visual: 2 }));
});

describe('factors of parts of a fused projection', () => {
  const config = loraConfig.parse({ r: 3, lora_alpha: 5, target_modules: 'c_attn', fused_parts: 'v,q' });

  test('leave the other parts as they are, and merge', async () => {
    const model = await attached(lora, config);
    const values = valuesOf(model, 'drawn');
    const merged = await mergedWeights(model, context, (name) => values[name]!);
    expect([...merged.keys()]).toEqual([0, 1].map((i) => `text_model.layers.${i}.c_attn.weight`));
    const fixed = new TextModel();
    const before = new Map(fixed.parameters());
    for (const [name, { data }] of merged) {
      const old = await readParameter(before.get(name)!);
      const changed = (part: number): boolean => data.subarray(part * width ** 2, (part + 1) * width ** 2)
        .some((v, i) => v !== old.data[part * width ** 2 + i]);
      expect([0, 1, 2].map(changed)).toEqual([true, false, true]);
    }
    const found = outputOf(fixed.fix(merged));
    expect(distance(found, outputOf(model, values))).toBeLessThan(1e-4);
    expect(distance(found, outputOf(new TextModel()))).toBeGreaterThan(0.1);
  });

  test.each([false, true])('are a plain adapter of twice the rank to PEFT, rank-stabilised %s', async (use_rslora) => {
    const own = { ...config, use_rslora };
    const model = await attached(lora, own);
    const values = valuesOf(model, 'drawn');
    const files = peftAdapterFiles(model, own, (name) => values[name]!);
    expect(Object.keys(files.config).filter((key) => /routing|route|fused/.test(key))).toEqual([]);
    const plain = new TextModel();
    const read = parsePeftConfig(JSON.parse(JSON.stringify(files.config)), 'adapter_config.json');
    await attachLora(plain, read.config, context);
    const fitted = fitAdapter(plain, new Map(Object.entries(files.tensors)));
    expect([...fitted.get('text_model.layers.1.c_attn.lora_B.weight')!.shape]).toEqual([3 * width, 6]);
    expect(distance(outputOf(plain, Object.fromEntries(fitted)), outputOf(model, values))).toBeLessThan(1e-5);
  });

  test('are not what PEFT trains: without the option one pair of factors serves all parts', async () => {
    const model = await attached(lora, { r: 3, target_modules: 'c_attn' });
    expect(trainedOf(model).slice(0, 2).map(([, { shape }]) => shape)).toEqual([[3, width], [3 * width, 3]]);
  });
});

test('what is routed is neither merged nor written for PEFT', async () => {
  const config = loraConfig.parse({ target_modules: 'q_proj', routing: 'mul', layers_to_route: 1 });
  const model = await attached(lora, config);
  const values = valuesOf(model, 'drawn');
  expect(unmergeable(model)).toEqual(['text_model.layers.1.q_proj']);
  await expect(mergedWeights(model, context, (name) => values[name]!)).rejects.toThrow(
    'merge: text_model.layers.1.q_proj cannot be merged: routing mixes another picture into every example; keep the adapter');
  expect(() => peftAdapterFiles(model, config, (name) => values[name]!)).toThrow('routing: mul: Python\'s PEFT has no routing');
});

const q = { target_modules: 'q_proj' };
const refused: readonly [string, BackboneMethod, object, readonly Kind[] | undefined, string][] = [
  ['self in causal layers', lora, { ...q, routing: 'self' }, [{ causal: true }], 'config.routing: self: reads all tokens of a text'],
  ['the text in causal layers', adapter, { routing: 'mul', routing_feature: 'text' }, [{ causal: true }],
    'config.routing_feature: text: reads all tokens of a text'],
  ['no encoder', lora, { ...q, routing: 'mul', routing_feature: 'encoder' }, undefined, 'no adapted layer attends to an encoder'],
  ['no text', lora, { ...q, routing: 'mul' }, [{ modality: 'vision' }], 'no transformer layer of a text model is adapted'],
  ['layers of nothing', lora, { ...q, layers_to_route: 0 }, undefined, 'config.layers_to_route: 0: nothing is routed with routing none'],
  ['a feature for nothing', adapter, { routing_feature: 'visual' }, undefined, 'config.routing_feature: visual: nothing is routed'],
  ['layers that are not there', lora, { ...q, routing: 'add', layers_to_route: [1, 2] }, undefined,
    '2: no layer that can be routed has this number; there are 0, 1'],
  ['parts of nothing', lora, { ...q, fused_parts: 'q' }, undefined, 'config.fused_parts: q: no target is a fused projection'],
  ['unknown parts', lora, { target_modules: 'c_attn', fused_parts: 'q,w' }, undefined, 'config.fused_parts: w: there are q, k, v'],
  ['DoRA', lora, { ...q, routing: 'add', use_dora: true }, undefined, 'config.use_dora: true: DoRA changes a weight'],
  ['DoRA of parts', lora, { target_modules: 'c_attn', fused_parts: 'q', use_dora: true }, undefined, 'config.use_dora'],
  ['positions beside', adapter, { placement: 'parallel', position: 'pre_norm' }, undefined, 'config.position: pre_norm'],
  ['an activation that adapters do not have', adapter, { non_linearity: 'model' }, [{ activation: 'mish' }],
    'config.non_linearity: model: adapters do not have its activation mish'],
];
test.each(refused)('refuses %s', async (_, method, config, kinds, message) => {
  await expect(attached(method, config, kinds)).rejects.toMatchObject({ kind: 'usage', message: expect.stringContaining(message) as string });
});

test('refuses features that are not there, or of another width', async () => {
  const visual = await attached(lora, { ...q, routing: 'mul' });
  expect(() => outputOf(visual, valuesOf(visual, 'drawn'), { visual: 0 })).toThrow(
    'config.routing: mul: needs a picture beside each text');
  expect(() => outputOf(visual, valuesOf(visual, 'drawn'), { visualWidth: 5 })).toThrow(
    'config.routing: mul: the visual feature has 5 numbers and the adapted layer reads 6');
  const encoder = await attached(lora, { ...q, routing: 'mul', routing_feature: 'encoder' }, [{ cross: true }]);
  expect(() => outputOf(encoder, valuesOf(encoder, 'drawn'))).toThrow('config.routing: mul: needs the states of an encoder');
});
