/** What was trained inside a backbone, taken elsewhere: merged, to Python's PEFT and back, as ONNX, several at once. */
import { mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  encodePictures, exportRun, loadRun, mergeModel, openBackbone, openRuns, parseImageProcessor, readSafetensors, train,
} from '../src/index.js';
import { processImage } from '../src/data/image-processor.js';
import { repository } from './command.js';
import { makeData, model } from './support/pictures.js';

let folder: string;
let data: string;
const at = (...parts: string[]): string => join(folder, ...parts);
const trained = async (method: string, name: string, config: Record<string, unknown>, change: object = {}): Promise<string> => {
  const run = await train({
    data, model, method, config, shots: 3, threads: 1, training: { epochs: 4, batch_size: 9, lr: 0.03 }, ...change,
    out: at(name),
  });
  await run.close();
  return at(name);
};
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-adapters-'));
  data = await makeData(at('data'), { train: 3, val: 2, test: 3 });
  await trained('lora', 'lora', { r: 2, target_modules: ['q_proj', 'v_proj', 'fc1'] });
  await trained('lora', 'other', { r: 2, target_modules: ['q_proj', 'v_proj', 'fc1'] }, { seed: 2 });
  await trained('tip-adapter', 'tip', {}, { training: {} });
  await trained('adapter', 'bottleneck', { bottleneck_dim: 2 });
});
afterAll(() => rm(folder, { recursive: true }));

/** Features of the test pictures, one after the other. */
const features = async (of: { model: string; adapter?: string }): Promise<Float32Array> =>
  (await encodePictures({ data, cache: false, ...of })).content.test!.features.data;
const furthest = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Math.max(...Array.from(a, (v, i) => Math.abs(v - b[i]!)));

describe('scion merge', () => {
  test('gives a checkpoint with the outputs of the adapted model, and all its other tensors as they were', async () => {
    const { changed } = await mergeModel(at('lora'), at('merged'));
    expect(changed.every((name) => /(q_proj|v_proj|fc1)\.weight$/.test(name))).toBe(true);
    const [old, merged] = [
      (await readSafetensors(join(model, 'model.safetensors'))).tensors,
      (await readSafetensors(at('merged', 'model.safetensors'))).tensors,
    ];
    expect([...merged.keys()].sort()).toEqual([...old.keys()].sort());
    for (const [name, t] of merged) {
      expect([name, t.dtype, ...t.shape]).toEqual([name, old.get(name)!.dtype, ...old.get(name)!.shape]);
      if (!changed.includes(name)) expect(t.data).toEqual(old.get(name)!.data);
    }
    const adapted = await features({ model: at('merged') });
    expect(furthest(adapted, await features({ model }))).toBeGreaterThan(1e-3);
    const run = await loadRun(at('lora'));
    // the same classes by the same words: zero-shot of the merged model is the run
    const plain = await train({ data, model: at('merged'), method: 'zero-shot', shots: 3, threads: 1, validation: 'none', out: at('zero') });
    const pictures = [join(data, 'test')];
    const uncalibrated = (p: { classes: { label: string }[] }): string => p.classes.map(({ label }) => label).join();
    expect((await plain.predictImages(pictures)).map(uncalibrated)).toEqual((await run.predictImages(pictures)).map(uncalibrated));
    await plain.close();
    await run.close();
  });

  test('refuses what is no change of weights, and a method that changes none', async () => {
    await expect(mergeModel(at('bottleneck'), at('no'))).rejects.toThrow(/cannot be merged: they are no change of weights/);
    await expect(mergeModel(at('tip'), at('no'))).rejects.toThrow(/tip-adapter leaves its model as it is.*scion export/);
    await expect(mergeModel(at('lora'), at('merged'))).rejects.toThrow(/has content already/);
  });
});

describe("Python's PEFT", () => {
  test('takes a run, and what it has is part of a model: the features are those of the merged one', async () => {
    const { files } = await exportRun(at('lora'), at('peft'), { to: 'peft' });
    expect(files).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
    const config = JSON.parse(await readFile(at('peft', 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
    expect(config).toMatchObject({ peft_type: 'LORA', r: 2, lora_alpha: 8, base_model_name_or_path: model });
    await mergeModel(at('lora'), at('exact'), { dtype: 'float32' });
    const want = await features({ model: at('exact') });
    expect(furthest(await features({ model, adapter: at('peft') }), want)).toBeLessThan(1e-5);
    await mergeModel(at('peft'), at('again'), { model, dtype: 'float32' });
    expect(furthest(await features({ model: at('again') }), want)).toBeLessThan(1e-6);
  });

  test('an adapter is a part of the model that a run is built on, and is missed when it is gone', async () => {
    const path = await trained('bitfit', 'on-top', {}, { adapter: at('peft') });
    const run = await loadRun(path);
    expect(run.info.pictures!.model.adapter).toBe(at('peft'));
    expect(await run.predictImages([join(data, 'test')])).toHaveLength(9);
    await run.close();
    await rename(at('peft'), at('elsewhere'));
    const lost = await loadRun(path);
    await expect(lost.predictImages([join(data, 'test')])).rejects.toThrow(/the adapter of its model is not at .*; put it back/);
    await lost.close();
    await rename(at('elsewhere'), at('peft'));
  });

  test('gets nothing from other methods, and an adapter of another model is refused by its keys', async () => {
    await expect(exportRun(at('tip'), at('no'), { to: 'peft' })).rejects.toThrow(/tip-adapter is no method of Python's PEFT/);
    const other = join(repository, 'fixtures/clip/quick-gelu');
    await expect(openBackbone(other, { adapter: at('peft') })).rejects.toThrow(/expected|is not in the model|is missing/);
  });
});

test.each([
  ['lora', { r: 2, modules_to_save: ['embeddings', 'visual_projection'] }], ['full-finetuning', {}], ['bitfit', {}],
  ['adapter', { bottleneck_dim: 2 }], ['adaptformer', { ffn_num: 2 }], ['prompt-tuning', { num_virtual_tokens: 2 }],
  ['prompt-tuning', { num_virtual_tokens: 2, deep: true, modality: 'both' }], ['prefix-tuning', { num_virtual_tokens: 2 }],
  ['coop', { n_ctx: 2 }],
] as const)('%s is exported with open axes: any number of pictures gives what predict gives', async (method, config) => {
  const name = `open-${method}-${Object.keys(config).length}`;
  const path = await trained(method, name, config, { training: { epochs: 1 } });
  await exportRun(path, at(`${name}-onnx`), { to: 'onnx' });
  const run = await loadRun(path);
  const files = [0, 1, 2].map((i) => join(data, 'test', 'red', `${i}.png`));
  const want = (await run.predictImages(files)).map(({ classes }) =>
    [...classes].sort((a, b) => a.index - b.index).map(({ probability }) => Math.log(probability)));
  await run.close();
  const settings = JSON.parse(await readFile(at(`${name}-onnx`, 'preprocessor_config.json'), 'utf8')) as unknown;
  const processor = parseImageProcessor(settings);
  const session = await ort.InferenceSession.create(at(`${name}-onnx`, 'model.onnx'));
  for (const batch of [1, 2, 3]) {
    const pixels = new Float32Array(batch * 3 * processor.height * processor.width);
    for (let i = 0; i < batch; i++) pixels.set(await processImage(files[i]!, processor), i * pixels.length / batch);
    const { logits } = await session.run({
      pixel_values: new ort.Tensor('float32', pixels, [batch, 3, processor.height, processor.width]),
    });
    const rows = Array.from({ length: batch }, (_, i) => Array.from((logits!.data as Float32Array).subarray(3 * i, 3 * i + 3)));
    rows.forEach((row, i) => {
      const total = Math.log(row.reduce((sum, v) => sum + Math.exp(v), 0));
      expect(furthest(row.map((v) => v - total), want[i]!)).toBeLessThan(1e-3);
    });
  }
  await session.release();
});

test('as ONNX the adapter is in the weights, or beside them: the same logits', async () => {
  const logits = async (merge: boolean): Promise<{ out: Float32Array; bytes: number }> => {
    const place = at(`onnx-${merge}`);
    await exportRun(at('lora'), place, { to: 'onnx', merge });
    const bytes = await readFile(join(place, 'model.onnx'));
    const session = await ort.InferenceSession.create(bytes);
    const processor = parseImageProcessor(JSON.parse(await readFile(join(place, 'preprocessor_config.json'), 'utf8')));
    const pixels = await processImage(join(data, 'test', 'red', '0.png'), processor);
    const { logits: found } = await session.run({
      pixel_values: new ort.Tensor('float32', pixels, [1, 3, processor.height, processor.width]),
    });
    await session.release();
    return { out: found!.data as Float32Array, bytes: bytes.length };
  };
  const [merged, beside] = [await logits(true), await logits(false)];
  expect(furthest(merged.out, beside.out)).toBeLessThan(1e-4);
  expect(beside.bytes).toBeGreaterThan(merged.bytes);
});

test('runs that adapt a model in the same way share it, and answer as each does alone', async () => {
  const names = ['lora', 'other', 'tip', 'bottleneck'];
  const set = await openRuns(Object.fromEntries(names.map((name) => [name, at(name)])), { threads: 1 });
  expect(set.models).toBe(3); // both LoRA runs together
  const file = join(data, 'test', 'green', '1.png');
  const picture = await readFile(file);
  const answers = await Promise.all([set.classify(picture), set.classify(picture, { runs: ['other'] }), set.classify(picture)]);
  const alone = new Map<string, number[]>();
  for (const name of names) {
    const run = await loadRun(at(name));
    const [prediction] = await run.predictImages([file]);
    alone.set(name, prediction!.classes.map(({ probability }) => probability));
    await run.close();
  }
  for (const answer of answers) {
    for (const [name, { classes }] of answer) {
      expect(furthest(classes.map(({ probability }) => probability), alone.get(name)!), name).toBeLessThan(1e-5);
    }
  }
  expect(furthest(alone.get('lora')!, alone.get('other')!)).toBeGreaterThan(1e-4);
  await set.close();
});

test('a backbone of ONNX files is adapted like any other', async () => {
  const path = await trained('lora', 'onnx-backbone', { r: 2 }, { model: join(repository, 'fixtures/onnx/clip') });
  const run = await loadRun(path);
  expect(run.info.result!.trainable_parameters).toBeGreaterThan(0);
  const predictions = await run.predictImages([join(data, 'test')]);
  expect(predictions).toHaveLength(9);
  await run.close();
  await expect(mergeModel(path, at('no'))).rejects.toThrow(/is not in the layout of Hugging Face's checkpoints.*scion export/);
});
