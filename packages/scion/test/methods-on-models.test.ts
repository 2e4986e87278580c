/** Every method that adapts a backbone, on every kind of backbone. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sha256 } from '../src/formats/files.js';
import { readSafetensors, writeSafetensors } from '../src/formats/safetensors-node.js';
import { readCheckpoint } from '../src/hub/checkpoint.js';
import { testRuntime } from '../src/models/testing/reference.js';
import { adapter } from '../src/peft/adapter/index.js';
import { adaptFormer } from '../src/peft/adaptformer/index.js';
import type { BackboneMethod } from '../src/peft/backbone-method.js';
import { bitFit } from '../src/peft/bitfit/index.js';
import { fullFineTuning } from '../src/peft/full-finetuning/index.js';
import { layerNormTuning } from '../src/peft/layernorm-tuning/index.js';
import { clipLora, lora } from '../src/peft/lora/index.js';
import { baseName, mergedWeights } from '../src/peft/merge.js';
import { type ModelCase, inputsOf, loadModel, modelCases } from '../src/peft/testing/models.js';
import { attach, context, outputs, train, withWeights } from '../src/peft/testing/trial.js';
import type { Tensors } from '../src/runtime/session.js';
import { ScionError } from '../src/util/errors.js';
import type { Tensor } from '../src/util/tensor.js';

interface Row {
  method: BackboneMethod;
  config: Record<string, unknown> | ((model: ModelCase) => Record<string, unknown>);
  /** Of Adam, in 15 steps. */
  lr?: number;
  /** Whether it is a change of weights. */
  merges: boolean;
  /** What the refusal says on models that the method does not fit; undefined where it fits. */
  refuses?: (model: ModelCase) => RegExp | undefined;
}

const convolutional = ({ name }: ModelCase): boolean => name === 'picto' || name === 'clip/openai-resnet';
const needsBlocks = (...towers: readonly ('text' | 'vision')[]) => ({ blocks, towers: there }: ModelCase): RegExp | undefined => {
  if (!towers.some((tower) => there.includes(tower))) return /this model has no text tower/;
  return towers.some((tower) => blocks.includes(tower)) ? undefined
    : /has no transformer layers|has transformer layers.*lora, bitfit, layernorm-tuning, full-finetuning/;
};
/** The fixture of OpenAI's transformer has one layer. */
const needsSecondLayer = (...towers: readonly ('text' | 'vision')[]) => (model: ModelCase): RegExp | undefined =>
  needsBlocks(...towers)(model)
  ?? (model.name === 'clip/openai-vit' ? /layers.*: 1: no transformer layer has this number; there is 0 alone/ : undefined);
const needsTower = (tower: 'text' | 'vision') => ({ towers }: ModelCase): RegExp | undefined =>
  (towers.includes(tower) ? undefined : /this model has no text tower/);
const needsProjections = ({ name }: ModelCase): RegExp | undefined => (/^(vit|dinov2)/.test(name) || name === 'picto'
  ? /"q_proj" is the end of the path of no linear layer or convolution; there are/ : undefined);
const convolutions = '.*(conv\\d|stem\\.\\d|downsample(\\.0)?)';
const needsConvolutions = (model: ModelCase): RegExp | undefined =>
  (convolutional(model) ? undefined : /matches the whole path of no linear layer or convolution/);

const rows: Record<string, Row> = {
  'lora on all linear layers': { method: lora, config: { r: 2, lora_alpha: 4, target_modules: 'all-linear' }, merges: true },
  'lora by an expression, rank-stabilised, gaussian, with dropout': {
    method: lora, merges: true,
    config: {
      r: 4, lora_alpha: 4, target_modules: '.*(q_proj|query|fc1)', use_rslora: true, init_lora_weights: 'gaussian', lora_dropout: 0.25,
    },
  },
  'lora with DoRA': { method: lora, config: { r: 2, target_modules: 'all-linear', use_dora: true, lora_dropout: 0.1 }, merges: true },
  'lora on convolutions': { method: lora, config: { r: 2, target_modules: convolutions }, merges: true, refuses: needsConvolutions },
  'lora with DoRA on convolutions': {
    method: lora, config: { r: 2, target_modules: convolutions, use_dora: true }, merges: true, refuses: needsConvolutions,
  },
  'lora with all biases and a module trained whole': {
    method: lora, merges: true,
    config: ({ head }: ModelCase) => ({ target_modules: 'all-linear', bias: 'all', modules_to_save: [head] }),
  },
  'lora of different ranks with its own biases': {
    method: lora, merges: true,
    config: {
      target_modules: '.*(out_proj|dense|fc2)', bias: 'lora_only', rank_pattern: { '.*fc2': 3 }, alpha_pattern: { out_proj: 5 },
    },
  },
  'clip-lora': { method: clipLora, config: {}, merges: true, lr: 2e-2, refuses: needsProjections },
  'adapter as Houlsby': { method: adapter, config: {}, merges: false, refuses: needsBlocks('text', 'vision') },
  'adapter as Pfeiffer': {
    method: adapter, config: { placement: 'pfeiffer', bottleneck_dim: 5, non_linearity: 'silu' }, merges: false,
    refuses: needsBlocks('text', 'vision'),
  },
  'adapter beside, with dropout': {
    method: adapter, config: { placement: 'parallel', dropout: 0.1 }, merges: false, refuses: needsBlocks('text', 'vision'),
  },
  'adapter in the image tower': {
    method: adapter, config: { modality: 'vision', reduction_factor: 4, non_linearity: 'tanh', scaling: 0.5 }, merges: false,
    refuses: needsBlocks('vision'),
  },
  'adapter in one layer of the text tower': {
    method: adapter, config: { modality: 'text', layers_to_transform: 1, reduction_factor: 4 }, merges: false, lr: 2e-2,
    refuses: needsSecondLayer('text'),
  },
  adaptformer: { method: adaptFormer, config: {}, merges: false, refuses: needsBlocks('text', 'vision') },
  'adaptformer with a LayerNorm in front and a learned factor': {
    method: adaptFormer, merges: false, refuses: needsBlocks('text', 'vision'),
    config: { adapter_layernorm_option: 'in', adapter_scalar: 'learnable_scalar', ffn_num: 6 },
  },
  'adaptformer with a LayerNorm behind': {
    method: adaptFormer, config: { adapter_layernorm_option: 'out', ffn_num: 6 }, merges: false,
    refuses: needsBlocks('text', 'vision'),
  },
  bitfit: { method: bitFit, config: {}, merges: true },
  'bitfit on some biases': {
    method: bitFit, config: { biases: 'query,mid-mlp' }, merges: true, lr: 3e-2, refuses: ({ name }) =>
      (name === 'picto' ? /"query" is the end of the path of no module with a bias; there are/ : undefined),
  },
  'bitfit in the image tower': { method: bitFit, config: { modality: 'vision' }, merges: true },
  'layernorm-tuning': { method: layerNormTuning, config: {}, merges: true },
  'layernorm-tuning in the text tower': {
    method: layerNormTuning, config: { modality: 'text' }, merges: true, lr: 2e-2, refuses: needsTower('text'),
  },
  'layernorm-tuning in the image tower': {
    method: layerNormTuning, config: { modality: 'vision' }, merges: true,
    refuses: ({ name }) => (name === 'clip/openai-resnet' ? /there is no LayerNorm in what it names/ : undefined),
  },
  'full-finetuning': { method: fullFineTuning, config: {}, merges: true, lr: 1e-3 },
  'full-finetuning of one layer': {
    method: fullFineTuning, config: { layers: [1] }, merges: true, lr: 1e-3, refuses: needsSecondLayer('text', 'vision'),
  },
  'full-finetuning of the image tower and the scale': {
    method: fullFineTuning, config: { modality: 'vision', logit_scale: true }, merges: true, lr: 1e-3,
    refuses: ({ towers }) => (towers.includes('text') ? undefined : /no factor on cosines/),
  },
};

const runtime = testRuntime();
let folder: string;
beforeAll(async () => { folder = await mkdtemp(join(tmpdir(), 'scion-methods-')); });
afterAll(() => rm(folder, { recursive: true }));

/** The largest difference over the largest value. */
function distance(a: Tensor | undefined, b: Tensor | undefined): number {
  expect(a?.shape).toEqual(b?.shape);
  const [x, y] = [a!.data as Float32Array, b!.data as Float32Array];
  const scale = y.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  return x.reduce((m, v, i) => Math.max(m, Number.isNaN(v) ? Infinity : Math.abs(v - y[i]!)), 0) / scale;
}
/** Over the features of both towers. */
const apart = (a: Tensors, b: Tensors): number =>
  Math.max(...['image', 'text'].filter((name) => name in b).map((name) => distance(a[name], b[name])));
const lossOf = (tensors: Tensors): number => (tensors['loss']!.data as Float32Array)[0]!;

describe.each(modelCases.map((model) => [model.name, model] as const))('%s', (_, which) => {
  let inputs: Tensors;
  let base: Tensors;
  let files: Record<string, string>;
  const digests = async (): Promise<Record<string, string>> => {
    const { tensors } = await readCheckpoint(which.folder);
    const paths = [...new Set([...tensors.values()].map(({ path }) => path))];
    return Object.fromEntries(await Promise.all(paths.map(async (path) => [path, await sha256(path)] as const)));
  };
  beforeAll(async () => {
    const model = await loadModel(which);
    inputs = await inputsOf(which, model);
    base = await outputs(runtime, model, inputs);
    files = await digests();
  });
  afterAll(async () => expect(await digests()).toEqual(files));

  test.each(Object.entries(rows))('%s', async (name, row) => {
    const { method, lr = 5e-3, merges } = row;
    const config = typeof row.config === 'function' ? row.config(which) : row.config;
    const refusal = row.refuses?.(which);
    if (refusal) {
      const failure = await attach(which, method, config).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(ScionError);
      expect((failure as ScionError).kind).toBe('usage');
      expect((failure as ScionError).message).toMatch(refusal);
      return;
    }
    const { model, trained } = await attach(which, method, config);
    const { program, start, second, end, losses } = await train(runtime, model, inputs, { steps: 15, lr });

    // only what the method trains is updated, and all of it is used; the rest lies where it lay
    expect(Object.keys(start).sort()).toEqual([...trained].sort());
    expect(Object.values(program.carry).filter((n) => trained.includes(n)).sort()).toEqual([...trained].sort());
    const plain = new Map((await loadModel(which)).parameters());
    for (const [own, p] of model.parameters()) {
      if (!trained.includes(own)) expect(p.origin, own).toEqual(plain.get(baseName(own))!.origin);
    }

    // it starts from the model, and a step changes the output
    const [atStart, atSecond, atEnd] = [
      await outputs(runtime, model, inputs, start), await outputs(runtime, model, inputs, second),
      await outputs(runtime, model, inputs, end),
    ];
    expect(apart(atStart, base)).toBeLessThan(2e-6);
    expect(apart(atSecond, base)).toBeGreaterThan(1e-5);

    // against the loss with everything frozen, which is that of the model as it was
    const control = lossOf(base);
    console.log(name, which.name, trained.length, control.toFixed(3), lossOf(atEnd).toFixed(3), losses[0]!.toFixed(3), apart(atStart, base).toExponential(1), apart(atSecond, base).toExponential(1));
    expect(lossOf(atEnd)).toBeLessThan(0.9 * control);

    // stored, read back and frozen in a fresh tree: the same numbers
    const file = join(folder, 'values.safetensors');
    await writeSafetensors(file, end);
    const values = Object.fromEntries<Tensor>((await readSafetensors(file)).tensors);
    const fresh = async (of: Tensors): Promise<Tensors> =>
      outputs(runtime, (await attach(which, method, config)).model.freeze(of), inputs);
    const restored = await fresh(values);
    expect(restored).toEqual(await fresh(end));
    expect(apart(restored, atEnd)).toBeLessThan(2e-6);

    const merging = mergedWeights(model, context, (n) => end[n] as Tensor<'float32'>);
    if (!merges) {
      await expect(merging).rejects.toThrow(/cannot be merged: they are no change of weights/);
      return;
    }
    const merged = await outputs(runtime, await withWeights(which, await merging), inputs);
    expect(apart(merged, atEnd)).toBeLessThan(1e-5);
  });
});
