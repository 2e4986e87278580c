import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { readSafetensors } from '../../formats/safetensors-node.js';
import { readCheckpoint } from '../../hub/checkpoint.js';
import { Graph } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { LayerNorm, Linear } from '../../nn/layers.js';
import type { Module } from '../../nn/module.js';
import { type Parameter, bind } from '../../nn/parameter.js';
import { imported, onnxModel } from '../../onnx/testing/model.js';
import { adam } from '../../optim/adam.js';
import { attachLora, loraConfig } from '../../peft/lora/index.js';
import type { Tensors } from '../../runtime/session.js';
import { compileInference, compileTraining, initialState, stepScalars } from '../../trainer/compile.js';
import { openProgram } from '../../trainer/program.js';
import { Random } from '../../util/random.js';
import { type Tensor, float32, numel, scalar, toFloat64 } from '../../util/tensor.js';
import { type DualBackbone, loadBackbone } from '../index.js';
import { expectClose, fixtures, testRuntime } from '../testing/reference.js';
import { OnnxImage } from './model.js';

const runtime = testRuntime();
const { tensors } = await readSafetensors(`${fixtures}onnx/clip.safetensors`);
const [pixels, ids] = [tensors.get('pixel_values')!, tensors.get('input_ids')!];
const config = JSON.parse(await readFile(`${fixtures}onnx/clip/config.json`, 'utf8')) as unknown;

type Tree = Module & DualBackbone;
const load = async (path: string): Promise<Tree> =>
  loadBackbone({ ...await readCheckpoint(fixtures + path), config }) as DualBackbone;
const original = 'clip/pictures/model';
const exported = ['onnx/clip', 'onnx/clip-dynamo', 'onnx/clip-joint'] as const;

/** A parameter's value as the files have it. */
async function read(p: Parameter): Promise<Tensor<'float32'>> {
  const program = compileInference((graph) => ({ y: f.add(bind(graph, p), graph.input('zero', 'float32', [])) }));
  const session = await openProgram(runtime, program, {});
  try {
    return (await session.run({ zero: scalar(0) }))['y'] as Tensor<'float32'>;
  } finally {
    await session.release();
  }
}

const attach = (model: Module, given: object): Promise<void> => attachLora(model, loraConfig.parse(given), { read });
const trainedOf = (model: Module): Map<string, Parameter> =>
  new Map([...model.parameters()].filter(([, p]) => p.origin.kind === 'trained'));

/** Values by the names and shapes of parameters, the same for every model that has them. */
const drawn = (parameters: ReadonlyMap<string, Parameter>, scale = 0.3): Tensors =>
  Object.fromEntries([...parameters].map(([name, { shape }]) => {
    const random = Random.seeded(11).child(name);
    return [name, float32(shape, Float32Array.from({ length: numel(shape) }, () => scale * random.normal()))];
  }));

/** The first values of an adapter: those that training starts from. */
const initial = (parameters: ReadonlyMap<string, Parameter>): Tensors =>
  Object.fromEntries([...parameters].map(([name, { shape, origin }]) => [name,
    origin.kind === 'trained' ? origin.init(shape, Random.seeded(3).child(name)) : float32(shape, [])]));

/** Unit features, since a file with both towers gives these. */
async function features(model: Tree, values: Tensors = {}): Promise<Tensors> {
  const program = compileInference((graph) => ({
    image: f.l2Normalize(model.imageFeatures(graph.input('images', 'float32', pixels.shape))),
    text: f.l2Normalize(model.textFeatures(graph.input('ids', 'int64', ids.shape))),
  }));
  const session = await openProgram(runtime, program, values);
  try {
    return await session.run({ images: pixels, ids });
  } finally {
    await session.release();
  }
}

function expectFeatures(actual: Tensors, wanted: Tensors, tolerance: number): void {
  for (const name of ['image', 'text']) expectClose(actual[name], wanted[name]!, name, tolerance);
}

const distance = (a: Tensors, b: Tensors): number => Math.max(...['image', 'text'].map((name) =>
  Math.max(...toFloat64(a[name]!).map((v, i) => Math.abs(v - toFloat64(b[name]!)[i]!)))));

describe.each(exported)('%s as a module tree', (path) => {
  test('has the linear layers and normalisations of the checkpoint, and their values', async () => {
    const [onnx, clip] = await Promise.all([load(path), load(original)]);
    const layers = (model: Module): string[] => [...model.modules()]
      .flatMap(([name, m]) => (m instanceof Linear || m instanceof LayerNorm ? [`${name} ${m.constructor.name}`] : [])).sort();
    expect(layers(onnx)).toEqual(layers(clip));
    const known = new Map(clip.parameters());
    expect([...onnx.parameters()].length).toBeGreaterThan(30);
    for (const [name, p] of onnx.parameters()) {
      expect(p.shape, name).toEqual(known.get(name)!.shape);
      expect((await read(p)).data, name).toEqual((await read(known.get(name)!)).data);
    }
  });

  test('builds the nodes of the file, as long as nothing is changed', async () => {
    const model = await load(path);
    const graph = new Graph();
    model.imageFeatures(graph.input('images', 'float32', pixels.shape));
    expect(graph.inputs.length).toBe(1);
    await attach(model, { target_modules: ['q_proj'] });
    const other = new Graph();
    model.imageFeatures(other.input('images', 'float32', pixels.shape));
    const names = other.inputs.map((v) => (v.source.kind === 'input' ? v.source.name : ''));
    const layer = 'vision_model.encoder.layers.0.self_attn.q_proj';
    expect(names).toEqual(expect.arrayContaining(['images', `${layer}.lora_A.weight`, `${layer}.lora_B.weight`]));
    // beside these the adapted layer's own parameters alone, and no other layer's
    expect(names.filter((name) => name !== 'images' && !name.startsWith(`${layer}.`))).toEqual([]);
    expect(other.nodes.find((n) => n.path === `${layer}.lora_A`)).toBeDefined();
  });

  test.each([
    [{ target_modules: 'q_proj,v_proj' }, 2 * 2 * 2],
    [{ target_modules: 'all-linear', r: 3, lora_alpha: 6 }, 14 * 2],
    [{ target_modules: ['out_proj', 'fc2', 'visual_projection'], use_rslora: true, bias: 'lora_only' }, 5 * 2 + 4],
    [{ target_modules: 'q_proj,fc1', use_dora: true }, 4 * 3],
    [{ target_modules: 'text_model.*k_proj', bias: 'all' }, 2 + 19],
    [{ target_modules: 'q_proj', modules_to_save: ['fc1', 'layer_norm2'] }, 4 + 4 + 4],
  ])('%j: nothing changes at the start, and then what changes in the checkpoint', async (given, count) => {
    const [onnx, clip] = await Promise.all([load(path), load(original)]);
    const base = await features(onnx);
    for (const model of [onnx, clip]) await attach(model, given);
    const [own, known] = [trainedOf(onnx), trainedOf(clip)];
    expect([...own.keys()].sort()).toEqual([...known.keys()].sort());
    expect(own.size).toBe(count);
    expectFeatures(await features(onnx, initial(own)), base, 1e-6);
    const values = drawn(own);
    const changed = await features(onnx, values);
    expect(distance(changed, base)).toBeGreaterThan(0.01);
    expectFeatures(changed, await features(clip, values), 1e-5);
    // as in a finished run, where they are no longer trained
    expectFeatures(await features(onnx.freeze(values)), changed, 1e-6);
  });

  test('training lowers a loss, and changes the trained parameters alone', async () => {
    const model = await load(path);
    await attach(model, { target_modules: 'all-linear', bias: 'lora_only' });
    const parameters = trainedOf(model);
    const target = float32([3, 12], Float32Array.from({ length: 36 }, (_, i) => Math.sin(i)));
    const program = compileTraining({
      build: (graph) => {
        const difference = f.sub(f.l2Normalize(model.imageFeatures(graph.input('images', 'float32', pixels.shape))),
          f.l2Normalize(f.constant(graph, target)));
        return { loss: f.reduceMean(f.mul(difference, difference)) };
      },
      optimizer: adam(), groups: [{ name: 'all', match: () => true, lr: 0.01 }],
    });
    const start = initialState(program, Random.seeded(1));
    const session = await openProgram(runtime, program, start);
    const losses: number[] = [];
    try {
      for (let step = 0; step < 30; step++) {
        const rates = Object.fromEntries(Object.entries(stepScalars(program, step, 1)).map(([name, v]) => [name, scalar(v)]));
        const { loss } = await session.run({ images: pixels, ...rates }, { carry: program.carry, fetch: ['loss'] });
        losses.push(toFloat64(loss!)[0]!);
      }
      // the text tower's layers are in no such program
      const names = [...parameters.keys()].filter((name) => name.startsWith('vis'));
      expect([...program.state.keys()].filter((name) => !name.includes('.exp_avg')).sort()).toEqual(names.sort());
      const end = await session.held(names);
      for (const name of names) expect(end[name]!.data, name).not.toEqual(start[name]!.data);
      expect(distance(await features(model, { ...initial(parameters), ...end }), await features(model, initial(parameters))))
        .toBeGreaterThan(0.01);
    } finally {
      await session.release();
    }
    expect(losses.at(-1)!).toBeLessThan(0.5 * losses[0]!);
  });
});

test('weights in half precision are those of the file, and take adapters', async () => {
  const [half, clip] = await Promise.all([load('onnx/clip/onnx/vision_model_fp16.onnx'), load(original)]);
  for (const model of [half, clip]) await attach(model, { target_modules: 'all-linear', use_dora: true });
  const parameters = trainedOf(half);
  expect([...parameters.keys()].sort()).toEqual([...trainedOf(clip).keys()].sort());
  const values = drawn(parameters);
  expectFeatures(await features(half, values), await features(clip, values), 5e-3);
});

describe('what cannot be adapted is named', () => {
  test.each([['quantized', 14], ['q4', 14]])('layers of _%s', async (suffix, count) => {
    const model = await load(`onnx/clip/onnx/vision_model_${suffix}.onnx`);
    const hint = `; ${count} matrix products of .*vision_model_${suffix}\\.onnx are quantised, and adapters do not change `
      + 'such layers; take the file with float32 or float16 weights';
    await expect(attach(model, { target_modules: 'all-linear' }))
      .rejects.toThrow(new RegExp(`all-linear: the model has no linear layer${hint}`));
    await expect(attach(model, { target_modules: ['q_proj'] }))
      .rejects.toThrow(new RegExp(`"q_proj" is the end of the path of no linear layer or convolution; there are none${hint}`));
  });

  test('a target that is not there', async () => {
    await expect(attach(await load('onnx/clip'), { target_modules: ['q_prj'] })).rejects.toThrow(
      /"q_prj" is the end of the path of no linear layer or convolution; there are q_proj, k_proj, v_proj, out_proj, fc1$/);
  });
});

describe('the names of layers', () => {
  const linear = (name: string, rows: number, columns: number, input: string, output: string): object =>
    ({ op: 'MatMul', name, inputs: [input, `w${rows}${columns}`], outputs: [output] });
  const w = (rows: number, columns: number): Tensor => float32([rows, columns],
    Float32Array.from({ length: rows * columns }, (_, i) => Math.cos(i)));
  type Nodes = Parameters<typeof onnxModel>[0]['nodes'];
  const graphOf = (input: string, dtype: 'float32' | 'int64', shape: (number | string)[], before: Nodes, names: string[]) =>
    imported(onnxModel({
      opset: 18, inputs: { [input]: { dtype, shape } }, outputs: ['pooler_output'],
      nodes: [...before, ...names.map((name, i) => linear(name, 12, 12, i === 0 ? 'flat' : `h${i}`,
        i === names.length - 1 ? 'pooler_output' : `h${i + 1}`))] as Nodes,
      constants: { w1212: w(12, 12) },
    }));
  const image = (names: string[]) => graphOf('pixel_values', 'float32', ['b', 3, 2, 2],
    [{ op: 'Flatten', inputs: ['pixel_values'], outputs: ['flat'] }], names);
  const text = (names: string[]) => graphOf('input_ids', 'int64', ['b', 12],
    [{ op: 'Cast', inputs: ['input_ids'], outputs: ['flat'], attributes: { to: 1 } }], names);
  const names = (model: Module): string[] => [...model.modules()].map(([path]) => path).filter((path) => path !== '');

  test('of towers that were exported each by itself begin with the tower\'s', () => {
    const model = loadBackbone({ path: 'm', tensors: new Map(), config: { max_position_embeddings: 12 }, onnx: {
      image: image(['/layers.0/fc/MatMul', '/visual_projection/MatMul']), text: text(['/layers.0/fc/MatMul', '/layers.1/fc/MatMul']),
    } }) as DualBackbone as Tree;
    expect(names(model)).toEqual(
      ['vision_model.layers.0.fc', 'visual_projection', 'text_model.layers.0.fc', 'text_model.layers.1.fc']);
  });

  test('keep what the files say where nothing collides, without a module around the model', () => {
    const model = loadBackbone({ path: 'm', tensors: new Map(), config: { max_position_embeddings: 12 }, onnx: {
      image: image(['/clip/vision_model/fc/MatMul', '/clip/head/MatMul']), text: text(['/encoder/fc/MatMul']),
    } }) as DualBackbone as Tree;
    expect(names(model)).toEqual(['vision_model.fc', 'head', 'encoder.fc']);
  });

  test('may be the beginning of others', async () => {
    const model = new OnnxImage('m', {}, { image: image(['/fc/MatMul', '/fc/more/MatMul', 'MatMul_7']) });
    // the second call of one module would have its path; a node without one has its own name
    expect(names(model)).toEqual(['fc', 'fc.more', 'MatMul_7']);
    await attach(model, { target_modules: ['fc.more', 'MatMul_7'] });
    expect([...trainedOf(model).keys()]).toEqual(
      ['fc.more.lora_A.weight', 'fc.more.lora_B.weight', 'MatMul_7.lora_A.weight', 'MatMul_7.lora_B.weight']);
  });
});
