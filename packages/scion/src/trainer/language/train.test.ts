/** Training of questions and captions from data to answers: repeatable, resumable, stored, with features that are kept. */
import { cp, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { generateWorld, loadLanguageRun, resumeLanguage, trainLanguage } from '../../index.js';
import { openBackbone } from '../../pipeline/backbone.js';
import { openTextModel } from '../../pipeline/text-model.js';
import { nodeRuntime } from '../../runtime/node.js';
import { ScionError } from '../../util/errors.js';
import type { Metric } from '../descend.js';
import { adaptTask } from './adapt.js';
import { compileLanguageTraining } from './fit.js';
import { padOf } from './model.js';
import { prepareTask, rowsOf } from './prepare.js';
import { type LanguageRecipeInput, resolveLanguageRecipe } from './recipe.js';
import type { LanguageRun } from './run.js';
import { type TinyTextModel, tinyTextModel } from './testing/text-models.js';

let folder: string;
let world: string;
const models = {} as Record<TinyTextModel, string>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-language-'));
  world = join(folder, 'world');
  await generateWorld(world, { scenes: 40, seed: 3 });
  for (const name of ['gpt2/lm-head', 'bart/conditional', 'roberta/masked-lm'] as const) models[name] = await tinyTextModel(name, folder);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const small = { training: { epochs: 2, batch_size: 16 }, threads: 1, config: { r: 4, routing: 'mul' } };
const vqa = (more: Partial<LanguageRecipeInput> = {}): LanguageRecipeInput => ({ task: 'vqa', data: world, examples: 40, ...small, ...more });
const caption = (text_model: string): LanguageRecipeInput => ({ task: 'caption', data: world, examples: 20, ...small, text_model });

interface Trained { run: LanguageRun; losses: string[]; info: LanguageRun['info'] }

async function trained(name: string, recipe: LanguageRecipeInput): Promise<Trained> {
  const losses: string[] = [];
  const run = await trainLanguage({ ...recipe, out: join(folder, name) }, {
    onMetric: (metric) => losses.push(JSON.stringify(metric)),
  });
  return { run, losses, info: run.info };
}
const adapterOf = (name: string): Promise<Buffer> => readFile(join(folder, name, 'adapter.safetensors'));
const picture = (): string => join(world, 'test2015');

describe('picto-roberta, questions', () => {
  let first: Trained;
  let said: unknown;
  beforeAll(async () => {
    first = await trained('first', vqa());
    said = await first.run.answer([picture()], 'what color is the dog?');
    await first.run.close();
  });

  test('the run says what it is: targets as the model names them, sight, answers, test', () => {
    const { recipe, answers, sight, length, result, models: used } = first.info;
    expect(recipe).toMatchObject({ text_model: 'picto-roberta', model: 'picto', config: { target_modules: ['query', 'value'], routing: 'mul' } });
    expect(answers!.length).toBeGreaterThan(5);
    expect(sight).toMatchObject({ tokens: 1, prefix: true });
    expect(length).toBeGreaterThan(4);
    expect(result!.test!.metrics.accuracy).toBeGreaterThanOrEqual(0);
    expect([used.images!.name, used.text.name]).toEqual(['picto', 'picto-roberta']);
  });

  test('loaded again it gives the same answers', async () => {
    const run = await loadLanguageRun(join(folder, 'first'));
    try {
      const again = await run.answer([picture()], 'what color is the dog?');
      expect(again).toEqual(said);
      expect(again).toHaveLength(4);
      expect(again[0]!.choices).toHaveLength(5);
      for (const { answer, choices } of again) {
        expect(choices![0]!.answer).toBe(answer);
        expect(choices!.map(({ score }) => score)).toEqual([...choices!.map(({ score }) => score)].sort((a, b) => b - a));
      }
      // the test of the training is the evaluation of the stored run
      const found = await run.evaluate();
      expect(found.metrics).toEqual(first.info.result!.test!.metrics);
      expect(found).toMatchObject({ split: 'test', examples: first.info.result!.test!.examples });
      expect(found.said).toHaveLength(found.examples);
      const val = await run.evaluate({ split: 'val' });
      expect(val.examples).toBeGreaterThan(0);
      expect(val.metrics.accuracy).toBeCloseTo(first.info.result!.validation!.accuracy, 1);
    } finally {
      await run.close();
    }
  });

  test('the same seed gives the same numbers, another does not', async () => {
    const again = await trained('again', vqa());
    await again.run.close();
    expect(again.losses).toEqual(first.losses);
    expect((await adapterOf('again')).equals(await adapterOf('first'))).toBe(true);
    const other = await trained('other', vqa({ seed: 2 }));
    await other.run.close();
    expect(other.losses).not.toEqual(first.losses);
  });

  test('stopped and gone on with, it is the run that was never stopped', async () => {
    const stop = new AbortController();
    const steps: string[] = [];
    const seen = (metric: Metric): void => {
      steps.push(JSON.stringify(metric));
      if (metric.type === 'step' && metric.step === 3) stop.abort();
    };
    const out = join(folder, 'stopped');
    await expect(trainLanguage({ ...vqa(), out }, { onMetric: seen, signal: stop.signal })).rejects.toThrow(/scion resume/);
    expect(steps.length).toBeLessThan(first.losses.length);
    const run = await resumeLanguage(out, { onMetric: (metric) => steps.push(JSON.stringify(metric)) });
    await run.close();
    expect(steps).toEqual(first.losses);
    expect((await readFile(join(out, 'metrics.jsonl'), 'utf8')).trim().split('\n')).toEqual(first.losses);
    expect((await adapterOf('stopped')).equals(await adapterOf('first'))).toBe(true);
    expect({ ...run.info.result, seconds: 0 }).toEqual({ ...first.info.result, seconds: 0 });
    const done = await resumeLanguage(out);
    expect(done.info.state).toBe('finished');
    await done.close();
  });

  test('a run whose data have changed is not gone on with', async () => {
    const stop = new AbortController();
    const changing = join(folder, 'changing');
    await cp(world, changing, { recursive: true });
    const out = join(folder, 'changed');
    const at = { ...vqa({ data: changing }), out };
    await expect(trainLanguage(at, { signal: stop.signal, onMetric: () => stop.abort() })).rejects.toThrow(/scion resume/);
    const train = join(changing, 'train2014');
    const one = join(world, 'train2014', 'COCO_train2014_000000000001.jpg');
    for (const name of await readdir(train)) await cp(one, join(train, name));
    await expect(resumeLanguage(out)).rejects.toThrow(/have changed since the run began; put the old ones back or train again/);
  });
});

/** All bytes of files that a program reads, by file. */
const filesOf = ({ prologue, step }: ReturnType<typeof compileLanguageTraining>['program']): Set<string> =>
  new Set([prologue, step].flatMap((graph) => (graph?.constants ?? []).flatMap(({ source }) =>
    (source.kind === 'constant' && 'path' in source.data ? [source.data.path] : []))));

describe('the image encoder', () => {
  test.each(['pooled', 'patches'] as const)('is no part of the training step: %s', async (visual) => {
    const { recipe, method } = resolveLanguageRecipe(vqa({ visual }));
    const runtime = nodeRuntime();
    try {
      const task = await prepareTask(runtime, recipe, ['train'], { openBackbone, openTextModel });
      const { model, maker } = await adaptTask(task, recipe, method);
      const train = rowsOf(task.examples.train!, maker, task.vocabulary);
      const { program } = compileLanguageTraining({ model, train, training: recipe.training, visual: task.visual, pad: padOf(model.text) });
      // weights come from the text model's file alone, nodes from its parts and the loss
      const { images, text } = task.models;
      const files = [...filesOf(program)];
      expect(files.length).toBeGreaterThan(0);
      expect(files.filter((file) => !file.startsWith(`${text.folder}/`))).toEqual([]);
      expect(files.some((file) => file.startsWith(`${images!.folder}/`))).toBe(false);
      const parts = new Set([...(program.prologue?.nodes ?? []), ...program.step.nodes].map(({ path }) => path.split('.')[0]));
      expect([...parts].filter((part) => /vision|image|patch_embed/.test(part!))).toEqual([]);
      expect(parts).toContain('text_model');
      // what is seen enters as numbers, for each row of the batch
      const inputs = program.step.inputs.flatMap(({ source, shape }) => (source.kind === 'input' ? [[source.name, shape] as const] : []));
      expect(Object.fromEntries(inputs).visual).toEqual([16, task.visual!.tokens, task.visual!.dim]);
      expect(inputs.map(([name]) => name).filter((name) => /pixel|image/.test(name))).toEqual([]);
    } finally {
      await runtime.close();
    }
  });

  test('runs once for a picture: the next training finds the features', async () => {
    const fresh = join(folder, 'other world');
    await generateWorld(fresh, { scenes: 20, seed: 11 });
    /** How many of the pictures have their features before any is encoded, of how many. */
    const known = async (name: string): Promise<[number, number]> => {
      const progress: [number, number][] = [];
      const run = await trainLanguage({ ...vqa({ data: fresh }), out: join(folder, name) }, {
        onEncode: (done, total, what) => { if (what === 'pictures') progress.push([done, total]); },
      });
      await run.close();
      return progress[0]!;
    };
    const [none, all] = await known('cold');
    expect([none, all > 10]).toEqual([0, true]);
    expect(await known('warm')).toEqual([all, all]);
    expect((await adapterOf('warm')).equals(await adapterOf('cold'))).toBe(true);
  });
});

describe('models that write', () => {
  test.each(['gpt2/lm-head', 'bart/conditional'] as const)('%s: captions', async (name) => {
    const out = `caption ${name.replace('/', ' ')}`;
    const { run, info } = await trained(out, caption(models[name]));
    expect(info.answers).toBeUndefined();
    expect(Object.keys(info.result!.test!.metrics)).toEqual(expect.arrayContaining(['bleu4', 'ciderD', 'rougeL']));
    const captions = await run.caption([picture()], { max_new_tokens: 6 });
    await run.close();
    expect(captions).toHaveLength(4);
    for (const { caption: text } of captions) expect(text.split(/\s+/).length).toBeLessThanOrEqual(6);
    const again = await loadLanguageRun(join(folder, out));
    expect(await again.caption([picture()], { max_new_tokens: 6 })).toEqual(captions);
    expect((await again.evaluate()).metrics).toEqual(info.result!.test!.metrics);
    await again.close();
  });

  test.each([['gpt2/lm-head', 'auto'], ['bart/conditional', 'generate']] as const)('%s: answers, head %s', async (name, head) => {
    const { run, info } = await trained(`written ${name.replace('/', ' ')}`, vqa({ text_model: models[name], head, generation: { max_new_tokens: 4 } }));
    expect(info.answers).toBeUndefined();
    const [one] = await run.answer([join(picture(), 'COCO_test2015_000000000040.jpg')], 'is there a dog?');
    expect(one!.choices).toBeUndefined();
    expect(one!.answer.split(/\s+/).length).toBeLessThanOrEqual(4);
    expect(info.result!.test!.metrics).toHaveProperty('accuracy');
    await run.close();
  });

  test('BART chooses answers too, and an encoder-decoder with more epochs has lower losses', async () => {
    const { run, info, losses } = await trained('chosen bart', vqa({ text_model: models['bart/conditional'], training: { epochs: 4, batch_size: 16, lr: 0.01 } }));
    await run.close();
    expect(info.answers!.length).toBeGreaterThan(5);
    const epochs = losses.map((line) => JSON.parse(line) as Metric).filter(({ type }) => type === 'epoch').map(({ loss }) => loss);
    expect(epochs.at(-1)).toBeLessThan(epochs[0]! * 0.8);
  });
});

describe('what is seen', () => {
  test.each([
    [{ visual: 'none' }, undefined], [{ visual: 'patches', prefix: false }, { tokens: 25, prefix: false }],
  ] as const)('%j', async (more, sight) => {
    const { run, info } = await trained(`seen ${JSON.stringify(more).replace(/\W/g, '')}`, vqa({
      ...more, examples: 20, test_examples: 5, text_model: models['roberta/masked-lm'], config: { r: 2 }, training: { epochs: 1, batch_size: 16 },
    }));
    const [one] = await run.answer([join(picture(), 'COCO_test2015_000000000040.jpg')], 'is there a dog?');
    await run.close();
    expect(one!.choices!.length).toBeGreaterThan(1);
    if (sight) expect(info.sight).toMatchObject({ prefix: sight.prefix });
    else expect(info).not.toHaveProperty('sight');
  });
});

test('words that cannot be cut away are refused where the picture leaves no place for them', async () => {
  const refusal = trainLanguage({ ...vqa({ visual: 'patches', text_model: models['roberta/masked-lm'] }), out: join(folder, 'crowded') });
  await expect(refusal).rejects.toThrow(ScionError);
  await expect(refusal).rejects.toThrow(/tokens of a picture leave 0 places for words.*use visual: pooled, or prefix: false/);
});
