import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeData, model } from '../../test/support/pictures.js';
import { fixtures } from '../models/testing/reference.js';
import { readSafetensors } from '../formats/safetensors-node.js';
import { compare, loadRun, resume, train } from '../pipeline/index.js';
import type { RecipeInput } from './recipe.js';
import type { Run } from './run.js';
import { toFloat64 } from '../util/tensor.js';

let folder: string;
let data: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-adapted-'));
  data = await makeData(join(folder, 'data'), { train: 4, val: 2, test: 3 });
});
afterAll(() => rm(folder, { recursive: true }));

/** What is trained in the tests: rank, steps and the like are small. */
const recipe = (method: string, config: Record<string, unknown> = {}) => ({
  data, model, method, shots: 4, threads: 1, config, training: { epochs: 3, batch_size: 5, lr: 0.02 },
}) as const;
const probabilities = async (run: Run): Promise<number[]> =>
  (await run.predictImages([join(data, 'test')])).flatMap(({ classes }) =>
    [...classes].sort((a, b) => a.index - b.index).map(({ probability }) => probability));
const metrics = (path: string): Promise<string> => readFile(join(path, 'metrics.jsonl'), 'utf8');

describe.each([
  ['lora', { r: 2, lora_dropout: 0.1, target_modules: ['q_proj', 'fc1'] }],
  ['bitfit', {}],
  ['adapter', { bottleneck_dim: 3 }],
  ['coop', { n_ctx: 2 }],
])('a run of %s', (method, config) => {
  test('learns, and predicts from its folder what it predicted when it was trained', async () => {
    const path = join(folder, method);
    const run = await train({ ...recipe(method, config), out: path });
    const losses = (await metrics(path)).split('\n').flatMap((line) => {
      const { type, loss } = (line === '' ? {} : JSON.parse(line)) as { type?: string; loss?: number };
      return type === 'epoch' ? [loss!] : [];
    });
    expect(losses.at(-1)!).toBeLessThan(losses[0]!);
    const first = await probabilities(run);
    await run.close();
    expect(run.info.result!.test!.rows).toBe(9);
    const again = await loadRun(path);
    expect(await probabilities(again)).toEqual(first);
    const { accuracy } = await again.evaluate();
    expect(accuracy).toBeCloseTo(run.info.result!.test!.accuracy, 10);
    await again.close();
    const { tensors } = await readSafetensors(join(path, 'adapter.safetensors'));
    const numbers = [...tensors.values()].reduce((sum, t) => sum + t.data.length, 0);
    expect(numbers).toBe(run.info.result!.trainable_parameters);
  });
});

test('a model of pictures alone gets a trained vector for each class, which starts from the mean of its pictures', async () => {
  const own = { ...recipe('lora', { r: 2, target_modules: ['query', 'value'] }), model: `${fixtures}vit/model` };
  const path = join(folder, 'vit');
  const run = await train({ ...own, out: path });
  const first = await probabilities(run);
  await run.close();
  const { tensors } = await readSafetensors(join(path, 'adapter.safetensors'));
  expect([...tensors.keys()]).toContain('classes.weight');
  const again = await loadRun(path);
  expect(await probabilities(again)).toEqual(first);
  await again.close();
  await expect(train({ ...own, method: 'coop', config: {}, out: join(folder, 'no') })).rejects.toThrow(/sees pictures alone, and coop needs words/);
});

test('a run that was stopped goes on as if it had not been', async () => {
  const whole = { ...recipe('lora', { r: 2, lora_dropout: 0.2 }), training: { epochs: 4, batch_size: 5, lr: 0.02, augment: true } };
  const [one, two] = [join(folder, 'whole'), join(folder, 'stopped')];
  await (await train({ ...whole, out: one })).close();
  const stop = new AbortController();
  const stopped = train({ ...whole, out: two }, {
    signal: stop.signal, checkpointEvery: 0, onMetric: ({ step }) => { if (step === 5) stop.abort(); },
  });
  await expect(stopped).rejects.toThrow(/stopped; go on with `scion resume/);
  await (await resume(two)).close();
  expect(await metrics(two)).toBe(await metrics(one));
  const adapter = async (path: string): Promise<Map<string, Float64Array>> => new Map(
    [...(await readSafetensors(join(path, 'adapter.safetensors'))).tensors].map(([name, t]) => [name, toFloat64(t)]));
  expect(await adapter(two)).toEqual(await adapter(one));
});

test('every epoch sees other views unless it is told not to', async () => {
  const losses = async (augment: boolean): Promise<string> => {
    const path = join(folder, `views-${augment}`);
    await (await train({
      ...recipe('lora', { r: 1 }), training: { epochs: 2, batch_size: 12, lr: 1e-9, augment }, out: path,
    })).close();
    return (await metrics(path)).split('\n').filter((line) => line.includes('"step"') && line.includes('"lr"'))
      .map((line) => (JSON.parse(line) as { loss: number }).loss.toFixed(5)).join();
  };
  const [plain, varied] = [await losses(false), await losses(true)];
  expect(new Set(plain.split(',')).size).toBe(1);
  expect(new Set(varied.split(',')).size).toBe(2);
});

test('classes may have unequal numbers of texts, learned tokens in them or not', async () => {
  const descriptions = join(folder, 'texts.json');
  await writeFile(descriptions, JSON.stringify({ red: ['red', 'a red thing', 'very red'], green: ['green'], blue: ['blue', 'sky'] }));
  for (const [method, config] of [['prompt-tuning', { modality: 'text', num_virtual_tokens: 2 }], ['bitfit', {}]] as const) {
    const run = await train({ ...recipe(method, config), descriptions, out: join(folder, `texts-${method}`) });
    expect(await probabilities(run)).toHaveLength(27);
    await run.close();
  }
});

test('a damaged run folder is told as such', async () => {
  const path = join(folder, 'damaged');
  await (await train({ ...recipe('lora', { r: 2 }), out: path })).close();
  await copyFile(join(folder, 'bitfit', 'adapter.safetensors'), join(path, 'adapter.safetensors'));
  const run = await loadRun(path);
  await expect(run.predictImages([join(data, 'test')])).rejects.toThrow(/lora_A\.weight is missing, expected \[2, \d+\]; the run folder is damaged/);
  await run.close();
});

test('methods inside the backbone and on its features stand beside each other in a comparison', async () => {
  const { cells } = await compare({
    data, model, methods: ['zero-shot', 'bitfit', 'lora:r=2'], shots: [2], seeds: [1], threads: 1, training: { epochs: 2 },
  });
  expect(cells.map(({ method }) => method)).toEqual(['zero-shot', 'bitfit', 'lora:r=2']);
  for (const { accuracy, rows } of cells) {
    expect(rows).toBe(9);
    expect(accuracy).toBeGreaterThan(0.2);
  }
});

describe('what cannot be adapted is refused before anything is written', () => {
  const out = () => join(folder, 'refused');
  test.each<[string, Partial<RecipeInput>, RegExp]>([
    ['features alone', { features: 'f.safetensors' }, /lora adapts the model itself, which features are not enough for; name pictures with --data/],
    ['a target that is not there', { config: { target_modules: ['q_prj', 'v_proj'] } }, /"q_prj" is the end of the path of no .*q_proj/],
    ['views for a method on features', { method: 'linear-probe', training: { augment: true } }, /linear-probe trains on features.*--views/],
  ])('%s', async (_, change, message) => {
    const { data: pictures, ...rest } = recipe('lora');
    const given = 'features' in change ? { method: 'lora', ...change } : { ...rest, data: pictures, ...change };
    await expect(train({ ...given, out: out() })).rejects.toThrow(message);
    await expect(readFile(join(out(), 'run.json'))).rejects.toThrow(/ENOENT/);
  });
});
