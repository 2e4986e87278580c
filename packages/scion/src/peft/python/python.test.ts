import { cp, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readSafetensors, writeSafetensors } from '../../formats/safetensors-node.js';
import { readCheckpoint } from '../../hub/checkpoint.js';
import { type Clip, loadClip } from '../../models/clip/model.js';
import { expectClose, expected, fixtures, run, testRuntime } from '../../models/testing/reference.js';
import { readParameter } from '../../nn/parameter-values.js';
import type { Tensors } from '../../runtime/session.js';
import { ScionError } from '../../util/errors.js';
import { type Tensor, float32, tensor } from '../../util/tensor.js';
import { type LoraConfig, attachLora, loraConfig } from '../lora/index.js';
import { parsePeftConfig } from './config.js';
import { readPeftAdapter, writePeftAdapter } from './folder.js';
import { fitAdapter, parameterName, peftAdapterFiles, peftKey } from './keys.js';

const runtime = testRuntime();
const checkpoint = `${fixtures}clip/quick-gelu`;
const variants = ['query-value', 'all-linear', 'dora', 'rank-stabilised', 'saved-module', 'convolution', 'one-layer'];

let stored: ReadonlyMap<string, Tensor>;
let inputs: (name: string) => Tensor;
let folder: string;
beforeAll(async () => {
  stored = (await readSafetensors(`${checkpoint}/model.safetensors`)).tensors;
  inputs = await expected('clip/quick-gelu');
  folder = await mkdtemp(join(tmpdir(), 'scion-peft-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function attached(config: LoraConfig): Promise<Clip> {
  const clip = loadClip(await readCheckpoint(checkpoint));
  await attachLora(clip, config, { read: readParameter });
  return clip;
}

function features(clip: Clip, values: ReadonlyMap<string, Tensor>): Promise<Tensors> {
  clip.freeze(Object.fromEntries(values));
  const [images, ids] = [inputs('images'), inputs('ids')];
  return run(runtime, (graph) => ({
    image_features: clip.imageFeatures(graph.input('images', 'float32', images.shape)),
    text_features: clip.textFeatures(graph.input('ids', 'int64', ids.shape)),
  }), { images, ids });
}

test('every committed adapter is tested', async () => {
  const there = (await readdir(`${fixtures}peft`, { withFileTypes: true })).filter((e) => e.isDirectory());
  expect(there.map((e) => e.name).sort()).toEqual([...variants].sort());
});

describe.each(variants)('%s', (name) => {
  test('read from Python, gives the features that PyTorch computes', async () => {
    const { config, baseModel, tensors } = await readPeftAdapter(`${fixtures}peft/${name}`);
    expect(baseModel).toBe('fixtures/clip/quick-gelu');
    const clip = await attached(config);
    const got = await features(clip, fitAdapter(clip, tensors));
    const want = await expected('peft');
    for (const key of ['image_features', 'text_features']) expectClose(got[key], want(`${name}.${key}`), key, 1e-5);
  });

  test('written and read again, is the same adapter', async () => {
    const { config, tensors } = await readPeftAdapter(`${fixtures}peft/${name}`);
    const clip = await attached(config);
    const values = fitAdapter(clip, tensors);
    const path = join(folder, name);
    await writePeftAdapter(path, peftAdapterFiles(clip, config, (key) => values.get(key)!, { baseModel: 'some/model' }));
    const again = await readPeftAdapter(path);
    expect(again.baseModel).toBe('some/model');
    const other = await attached(again.config);
    expect(fitAdapter(other, again.tensors)).toEqual(values);
    // by PEFT's own keys, but for the twins that it writes of modules that are trained whole
    const twins = /\.(original_module|modules_to_save)\./;
    expect([...again.tensors.keys()].sort()).toEqual([...tensors.keys()].filter((key) => !twins.test(key)).sort());
  });
});

test('the file of before safetensors is read as data', async () => {
  const old = join(folder, 'old');
  await mkdir(old);
  await cp(`${fixtures}peft/query-value/adapter_config.json`, join(old, 'adapter_config.json'));
  await expect(readPeftAdapter(old)).rejects.toThrow(/adapter_model\.safetensors: cannot read it: there is no such file/);
  await cp(`${checkpoint}/pytorch_model.bin`, join(old, 'adapter_model.bin'));
  const { tensors } = await readPeftAdapter(old);
  expect(tensors.get('visual_projection.weight')).toEqual(stored.get('visual_projection.weight'));
});

describe('adapter_config.json', () => {
  const least = { peft_type: 'LORA', target_modules: ['q_proj'] };
  const parse = (json: unknown): LoraConfig => parsePeftConfig(json, 'file').config;

  test('unset options are passed over, and the defaults are those of PEFT', () => {
    expect(parse({
      ...least, layer_replication: null, fan_in_fan_out: true, loftq_config: {}, layers_pattern: [], modules_to_save: null,
      layers_to_transform: [], init_lora_weights: 'eva', qalora_group_size: 16,
    })).toEqual(loraConfig.parse({ target_modules: ['q_proj'] }));
  });

  test('a text is an expression on whole paths, one word too', async () => {
    const clip = await attached(parse({ ...least, target_modules: 'visual_projection' }));
    expect([...clip.parameters()].filter(([, p]) => p.origin.kind === 'trained').map(([name]) => name)).toEqual([
      'visual_projection.lora_A.weight', 'visual_projection.lora_B.weight',
    ]);
    await expect(attached(parse({ ...least, target_modules: 'q_proj' }))).rejects.toThrow(/matches the whole path of no linear layer/);
  });

  const refused: [string, unknown, RegExp][] = [
    ['a list', [], /^file: is \[\], expected an object/],
    ['another method', { ...least, peft_type: 'ADALORA' }, /^file: peft_type: "ADALORA" is not supported; supported is "LORA"/],
    ['no method', {}, /^file: peft_type: is missing/],
    ['no targets', { peft_type: 'LORA', target_modules: null }, /^file: target_modules: is missing/],
    ['a wrong rank', { ...least, r: 0 }, /^file: r: is 0; .*correct the file/],
    ['PiSSA', { ...least, init_lora_weights: 'pissa_niter_4' }, /"pissa_niter_4" changes the weights of the model below; save .*path_initial/],
    ...([
      ['layer_replication', [[0, 2], [1, 3]]], ['megatron_config', { a: 1 }], ['use_qalora', true],
      ['lora_bias', true], ['layers_pattern', 'layers'], ['target_parameters', ['x']], ['trainable_token_indices', [1]],
      ['loftq_config', { loftq_bits: 4 }], ['an_option_to_come', 2],
    ] as const).map(([option, value]): [string, unknown, RegExp] =>
      [option, { ...least, [option]: value }, new RegExp(`^file: ${option}: .*Scion does not have this option`)]),
  ];
  test.each(refused)('%s is refused by name', (_, json, message) => {
    expect(() => parse(json)).toThrow(message);
    expect(() => parse(json)).toThrow(ScionError);
  });

  test('all faults are told at once', () => {
    expect(() => parse({ ...least, lora_bias: true, use_qalora: true, r: 'x' })).toThrow(/lora_bias.*\n.*use_qalora.*\n.*file: r: is "x"/);
  });
});

describe('tensors that do not fit', () => {
  const config = loraConfig.parse({ r: 4, lora_alpha: 8, target_modules: ['q_proj', 'v_proj'] });
  const path = 'vision_model.encoder.layers.0.self_attn.q_proj.lora_A.weight';

  test('are told apart: missing, unexpected, of another shape', async () => {
    const { tensors } = await readPeftAdapter(`${fixtures}peft/query-value`);
    const clip = await attached(config);
    const changed = new Map(tensors);
    changed.delete(peftKey(path));
    changed.set(peftKey('other.lora_A.weight'), float32([1], [1]));
    const second = peftKey(path.replace('lora_A', 'lora_B'));
    changed.set(second, float32([24, 3], new Float32Array(72)));
    expect(() => fitAdapter(clip, changed, 'here')).toThrow(new ScionError('input', [
      { path: `here: ${peftKey(path)}`, message: 'is missing: expected shape [4, 24]; take the model that the adapter was trained on' },
      { path: 'here: base_model.model.other.lora_A.weight', message: 'is not in the model: shape [1]; take the model that the adapter was trained on' },
      { path: `here: ${second}`, message: 'has another shape: [24, 3], expected [24, 4]; take the model that the adapter was trained on' },
    ]));
  });

  test('in numbers, are told with an end', async () => {
    const clip = await attached(loraConfig.parse({ target_modules: 'all-linear' }));
    const many = new Map(Array.from({ length: 1000 }, (_, i) => [`base_model.model.x${i}.lora_A.weight`, float32([1], [1])]));
    const lines = ((): string[] => {
      try {
        fitAdapter(clip, many);
        return [];
      } catch (error) {
        return (error as Error).message.split('\n');
      }
    })();
    expect(lines.length).toBe(42);
    expect(lines[20]).toBe('… and 32 more of 52 that are the same: is missing');
    expect(lines.at(-1)).toBe('… and 980 more of 1000 that are the same: is not in the model');
  });

  test.each([NaN, Infinity])('%d is refused', async (bad) => {
    const { tensors } = await readPeftAdapter(`${fixtures}peft/query-value`);
    const data = new Float32Array(96).fill(bad);
    const clip = await attached(config);
    expect(() => fitAdapter(clip, new Map(tensors).set(peftKey(path), float32([4, 24], data))))
      .toThrow(new RegExp(`holds ${bad}, expected finite numbers`));
  });

  test('whole numbers are refused', async () => {
    const { tensors } = await readPeftAdapter(`${fixtures}peft/query-value`);
    const clip = await attached(config);
    const whole = tensor('int32', [4, 24], new Int32Array(96));
    expect(() => fitAdapter(clip, new Map(tensors).set(peftKey(path), whole))).toThrow(/has another dtype: int32, expected float32/);
  });
});

describe('folders', () => {
  const adapter = { config: { peft_type: 'LORA' }, tensors: { a: float32([1], [1]) } };

  test('with content are not written over', async () => {
    const path = join(folder, 'full');
    await mkdir(path);
    await writeFile(join(path, 'mine'), 'x');
    await expect(writePeftAdapter(path, adapter)).rejects.toThrow(/full is not empty; choose another folder/);
    expect(await readdir(path)).toEqual(['mine']);
  });

  test('with a settings file that is too large or no JSON are refused', async () => {
    const path = join(folder, 'large');
    await mkdir(path);
    await writeSafetensors(join(path, 'adapter_model.safetensors'), adapter.tensors);
    await writeFile(join(path, 'adapter_config.json'), ' '.repeat(2 ** 20 + 1));
    await expect(readPeftAdapter(path)).rejects.toThrow(/has 1048577 bytes, expected at most 1048576/);
    await writeFile(join(path, 'adapter_config.json'), '{"peft_type"');
    await expect(readPeftAdapter(path)).rejects.toThrow(/adapter_config\.json: the file is not valid JSON/);
    await expect(readPeftAdapter(join(folder, 'nowhere'))).rejects.toThrow(/adapter_config\.json: cannot read it: there is no such file/);
  });

  test('hold what PEFT looks for', async () => {
    const path = join(folder, 'new');
    await writePeftAdapter(path, adapter);
    expect((await readdir(path)).sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
    expect(JSON.parse(await readFile(join(path, 'adapter_config.json'), 'utf8'))).toEqual(adapter.config);
    expect((await readSafetensors(join(path, 'adapter_model.safetensors'))).metadata).toEqual({ format: 'pt' });
  });
});

test.each([
  ['base_model.model.a.lora_A.weight', 'a.lora_A.weight'],
  ['base_model.model.a.lora_magnitude_vector', 'a.lora_magnitude_vector'],
  ['base_model.model.a.lora_magnitude_vector.weight', 'a.lora_magnitude_vector'],
  ['base_model.model.a.modules_to_save.bias', 'a.bias'],
  ['base_model.model.a.original_module.bias', undefined],
])('%s is the parameter %s', (key, name) => {
  expect(parameterName(key)).toBe(name);
});
