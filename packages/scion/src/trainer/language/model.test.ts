/** Text models of every kind that see pictures: what they read, what trains, and that adapters learn more than the rest. */
import { describe, expect, test } from 'vitest';
import { readCheckpoint } from '../../hub/checkpoint.js';
import type { Value } from '../../ir/graph.js';
import { fixtures, run, testRuntime } from '../../models/testing/reference.js';
import { loadTextModel } from '../../models/text-models.js';
import type { AnswerHead, Sight, VisionText } from '../../nn/vision-text.js';
import { readParameter } from '../../nn/parameter-values.js';
import { type BackboneMethod, getMethod, isBackboneMethod, namesIn } from '../../peft/index.js';
import type { Tensors } from '../../runtime/session.js';
import { Random } from '../../util/random.js';
import { float32, int64 } from '../../util/tensor.js';
import { initialState } from '../compile.js';
import type { Fit } from '../descend.js';
import type { Row } from './examples.js';
import { type LanguageFitOptions, compileLanguageTraining, fitLanguage } from './fit.js';
import { type TextSource, buildModel } from './model.js';
import { type Visual, textInputs } from './objective.js';
import { resolveLanguageRecipe } from './recipe.js';

const runtime = testRuntime();

const kinds = {
  'roberta/masked-lm': 'encoder', 'bert/model': 'encoder', 'gpt2/lm-head': 'decoder', 'bart/conditional': 'encoder-decoder',
} as const;
type Name = keyof typeof kinds;
const names = Object.keys(kinds) as Name[];

/** A method that changes nothing: what is trained beside the adapter is all that is left. */
const none = { name: 'none', attach: () => undefined } as unknown as BackboneMethod;

async function source(name: Name): Promise<Pick<TextSource, 'fresh' | 'read'>> {
  const checkpoint = await readCheckpoint(`${fixtures}${name}`);
  return { fresh: () => loadTextModel(checkpoint), read: readParameter };
}

interface Built { sight?: Sight; head?: AnswerHead; method?: string; config?: Record<string, unknown> }

async function built(name: Name, { sight, head, method = 'none', config = {} }: Built): Promise<VisionText> {
  const { fresh, read } = await source(name);
  if (method === 'none') return buildModel({ fresh, read } as TextSource, { sight, head }, none, {});
  const found = getMethod(method);
  if (!isBackboneMethod(found)) throw new Error(method);
  const targets = method === 'lora' ? { target_modules: namesIn(fresh(), ['q_proj', 'v_proj']) } : {};
  return buildModel({ fresh, read } as TextSource, { sight, head }, found, found.config.parse({ ...targets, ...config }));
}

const normal = (count: number, seed: number): Float32Array => {
  const random = Random.seeded(seed);
  return Float32Array.from({ length: count }, () => random.normal());
};

const trainedNames = (model: VisionText): string[] =>
  [...model.parameters()].flatMap(([name, { origin }]) => (origin.kind === 'trained' ? [name] : [])).sort();

/** First values of what is trained, as a training with this seed draws them. */
const startOf = (model: VisionText, rows: readonly Row[], visual: Visual | undefined): Tensors => {
  const { program } = compileLanguageTraining({ model, train: rows, training, visual, pad: 1 });
  return Object.fromEntries(Object.entries(initialState(program, Random.seeded(1))).filter(([name]) => program.state.get(name)?.parameter));
};

const { training } = resolveLanguageRecipe({
  task: 'vqa', data: '-', training: { epochs: 12, batch_size: 8, lr: 0.01, schedule: 'constant', warmup_epochs: 0, checkpoint: 'last' },
}).recipe;

/** Outputs of a model with its first values: of the texts [2, 3], the second padded, about two pictures. */
async function outputs(
  model: VisionText, picture: Float32Array, of: (model: VisionText, inputs: { visual?: Value; ids: Value; mask: Value }) => Value,
  { length = 3, ids = [5, 6, 7, 8, 9] }: { length?: number; ids?: readonly number[] } = {},
): Promise<{ shape: readonly number[]; rows: number[][] }> {
  const row: Row = { picture: 0, ids: ids.slice(0, 3), scores: [[0, 1]], labels: [1, 1, 1], ...written(model) };
  const start = startOf(model, [row], visualOf(model, picture));
  const texts = [ids.slice(0, 3), ids.slice(3, 5)];
  const all = Array.from({ length: 2 * length }, (_, i) => texts[Math.floor(i / length)]![i % length]);
  const found = await run(runtime, (graph) => {
    const out = of(model, textInputs(graph, model, { rows: 2, length }));
    return { out };
  }, {
    ids: int64([2, length], all.map((id) => id ?? 1)), mask: float32([2, length], all.map((id) => Number(id !== undefined))),
    ...(model.sight && { visual: float32([2, model.sight.tokens, model.sight.dim], picture) }),
    ...start,
  });
  const { shape, data } = found.out!;
  const width = shape[1]!;
  return { shape, rows: Array.from({ length: shape[0]! }, (_, i) => Array.from(data as Float32Array).slice(i * width, (i + 1) * width)) };
}

const written = ({ text }: VisionText): Pick<Row, 'written'> => (text.kind === 'encoder-decoder' ? { written: [2, 4] } : {});
const visualOf = ({ sight }: VisionText, data: Float32Array): Visual | undefined => sight && { ...sight, data };
const distance = (a: readonly number[], b: readonly number[]): number => Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));
const widthOf = async (name: Name): Promise<number> => (await source(name)).fresh().width;

describe.each(names)('%s', (name) => {
  const head: AnswerHead = { answers: 5, layers: 2 };
  const sights: [string, (width: number) => Sight | undefined][] = [
    ['pooled', () => ({ tokens: 1, dim: 7, prefix: true })],
    ['patches in the width of the words', (width) => ({ tokens: 3, dim: width, prefix: true })],
    ['beside the words', () => ({ tokens: 3, dim: 7, prefix: false })],
    ['nothing seen', () => undefined],
  ];

  test.each(sights)('chooses answers: %s', async (_, sightOf) => {
    const width = await widthOf(name);
    const sight = sightOf(width);
    const model = await built(name, { ...(sight && { sight }), head });
    const classify = (m: VisionText, inputs: { visual?: Value; ids: Value; mask: Value }): Value => m.classify(inputs);
    const size = sight ? 2 * sight.tokens * sight.dim : 0;
    const { shape, rows } = await outputs(model, normal(size, 1), classify);
    expect(shape).toEqual([2, 5]);
    expect(rows.flat().every(Number.isFinite)).toBe(true);
    // another picture is another answer where one is read; so are other words
    const other = await outputs(model, normal(size, 2), classify);
    if (sight?.prefix) expect(distance(rows[0]!, other.rows[0]!)).toBeGreaterThan(1e-4);
    else expect(other.rows).toEqual(rows);
    const words = await outputs(model, normal(size, 1), classify, { ids: [5, 10, 7, 8, 9] });
    expect(distance(rows[0]!, words.rows[0]!)).toBeGreaterThan(1e-5);
    expect(distance(rows[1]!, words.rows[1]!)).toBe(0);
    // padding says nothing
    const longer = await outputs(model, normal(size, 1), classify, { length: 5 });
    rows.forEach((row, i) => expect(distance(row, longer.rows[i]!)).toBeLessThan(2e-6));
    // what is trained: the classifier, and a projection where the widths differ
    const projected = sight !== undefined && sight.dim !== width;
    expect(trainedNames(model)).toEqual([
      'classifier.dense.bias', 'classifier.dense.weight', 'classifier.norm.bias', 'classifier.norm.weight',
      'classifier.out_proj.bias', 'classifier.out_proj.weight',
      ...(projected ? ['visual_projection.bias', 'visual_projection.weight'] : []),
    ]);
    const count = [...model.parameters()].reduce((n, [, p]) => n + (p.origin.kind === 'trained' ? p.shape.reduce((a, b) => a * b, 1) : 0), 0);
    const classifier = width * 2 * width + 2 * width + 4 * width + 2 * width * 5 + 5;
    expect(count).toBe(classifier + (projected ? sight.dim * width + width : 0));
  });

  test.skipIf(kinds[name] === 'encoder')('writes words that follow', async () => {
    const sight = { tokens: 3, dim: 7, prefix: true };
    const model = await built(name, { sight });
    const follow = (m: VisionText, inputs: { visual?: Value; ids: Value; mask: Value }): Value => {
      if (m.text.kind !== 'encoder-decoder') return m.nextWords(inputs);
      return m.nextWords({ ...inputs, written: inputs.ids });
    };
    const { shape, rows } = await outputs(model, normal(42, 1), follow);
    expect(shape).toEqual([6, 96]);
    const other = await outputs(model, normal(42, 2), follow);
    expect(distance(rows[0]!, other.rows[0]!)).toBeGreaterThan(1e-4);
    // no word is read before its turn
    const later = await outputs(model, normal(42, 1), follow, { ids: [5, 6, 11, 8, 9] });
    if (model.text.kind === 'decoder') expect(distance(rows[0]!, later.rows[0]!)).toBeLessThan(1e-6);
    expect(distance(rows[4]!, later.rows[4]!)).toBeGreaterThan(1e-5);
  });
});

/** Sixteen pictures of two kinds; the answer, or the word that follows, is the kind. */
function task(model: VisionText): { rows: Row[]; visual: Visual | undefined } {
  const [count, size] = [16, model.sight ? model.sight.tokens * model.sight.dim : 1];
  const data = normal(count * size, 7).map((x, i) => 0.3 * x + (Math.floor(i / size) % 2 === 0 ? 1 : -1));
  const rows = Array.from({ length: count }, (_, picture): Row => {
    const kind = picture % 2;
    const ids = [5, 6 + (picture % 3)];
    if (model.head) return { picture, ids, scores: [[kind, 1], [2 + kind, 0.3]] };
    if (model.text.kind === 'decoder') return { picture, ids, labels: [-1, 20 + kind] };
    return { picture, ids, written: [2, 20 + kind], labels: [20 + kind, 2] };
  });
  return { rows, visual: visualOf(model, data) };
}

async function losses(model: VisionText): Promise<{ losses: number[]; fit: Fit; start: Tensors }> {
  const { rows, visual } = task(model);
  const found: number[] = [];
  const options: LanguageFitOptions = {
    model, runtime, train: rows, val: [], visual, pad: 1, training, threads: 1, random: Random.seeded(1),
    onMetric: (metric) => { if (metric.type === 'epoch') found.push(metric.loss); },
  };
  return { losses: found, fit: await fitLanguage(options), start: startOf(model, rows, visual) };
}

const lora = { method: 'lora', config: { r: 4, lora_alpha: 8 } };
const adapter = { method: 'adapter', config: { bottleneck_dim: 4 } };
const methods: [string, Pick<Built, 'method' | 'config'>][] = [
  ['lora', lora], ['lora, routed', { ...lora, config: { ...lora.config, routing: 'mul' } }],
  ['adapter', adapter], ['adapter, routed', { ...adapter, config: { ...adapter.config, routing: 'add' } }],
];

describe.each(names)('training of %s', (name) => {
  test.each(methods)('%s learns more than a control with the adapter frozen, and changes nothing else', async (_, method) => {
    const sight = { tokens: 2, dim: await widthOf(name), prefix: true };
    const head = kinds[name] === 'encoder' ? { answers: 5, layers: 1 as const } : undefined;
    const parts = { sight, ...(head && { head }) };
    const model = await built(name, { ...parts, ...method });
    const { losses: found, fit, start } = await losses(model);
    expect(found.every(Number.isFinite)).toBe(true);
    if (head) {
      const control = await losses(await built(name, parts));
      expect(found.at(-1)).toBeLessThan(control.losses.at(-1)!);
      expect(Object.keys(control.fit.values).sort()).toEqual(['classifier.out_proj.bias', 'classifier.out_proj.weight']);
    } else {
      // without a classifier and with equal widths, the control trains nothing: it stays where the first epoch began
      expect(trainedNames(await built(name, parts))).toEqual([]);
    }
    expect(found.at(-1)).toBeLessThan(0.8 * found[0]!);
    // the values that came out are the method's and the classifier's, and every one of them has moved
    expect(Object.keys(fit.values).sort()).toEqual(trainedNames(model));
    for (const [key, value] of Object.entries(fit.values)) {
      expect(key).toMatch(head ? /^classifier\.|lora_[AB]|down|up/ : /lora_[AB]|down|up/);
      expect(distance(Array.from(value.data as Float32Array), Array.from(start[key]!.data as Float32Array)), key).toBeGreaterThan(1e-6);
    }
  });
});

test('a picture of another width goes through a projection that is trained', async () => {
  const model = await built('gpt2/lm-head', { sight: { tokens: 2, dim: 5, prefix: true }, ...lora });
  const { fit, start, losses: found } = await losses(model);
  expect(found.at(-1)).toBeLessThan(0.8 * found[0]!);
  const moved = distance(Array.from(fit.values['visual_projection.weight']!.data as Float32Array),
    Array.from(start['visual_projection.weight']!.data as Float32Array));
  expect(moved).toBeGreaterThan(1e-3);
});

test('the picture is what is learned from: without it the losses stay higher', async () => {
  const head = { answers: 5, layers: 1 as const };
  const blind = await losses(await built('roberta/masked-lm', { head, ...lora }));
  const seeing = await losses(await built('roberta/masked-lm', { sight: { tokens: 1, dim: 6, prefix: true }, head, ...lora }));
  expect(seeing.losses.at(-1)).toBeLessThan(0.7 * blind.losses.at(-1)!);
});

test('what is trained whole gets no low-rank update beside it', async () => {
  const model = await built('roberta/masked-lm', {
    sight: { tokens: 1, dim: 6, prefix: true }, head: { answers: 5, layers: 2 }, method: 'lora', config: { r: 2, target_modules: 'all-linear' },
  });
  const adapted = trainedNames(model).filter((key) => key.includes('lora_'));
  expect(adapted.length).toBeGreaterThan(10);
  expect(adapted.filter((key) => !key.startsWith('text_model.'))).toEqual([]);
});

test('a batch that is not full has the loss of its rows', async () => {
  const model = await built('gpt2/lm-head', { sight: { tokens: 2, dim: 32, prefix: true }, ...lora });
  const { rows, visual } = task(model);
  const { objective } = compileLanguageTraining({ model, train: rows, training, visual, pad: 1 });
  const start = startOf(model, rows, visual);
  const loss = async (batch: readonly (Row | undefined)[]): Promise<number[]> => {
    const found = await run(runtime, (graph) => objective.build(graph), { ...objective.feeds(batch), ...start });
    return ['loss', 'weight'].map((key) => Number(found[key]!.data[0]));
  };
  const [short, weight] = await loss([rows[0], rows[1]]);
  const [one] = await loss([rows[0]]);
  const [two] = await loss([rows[1]]);
  expect(weight).toBe(2);
  expect(short).toBeCloseTo((one! + two!) / 2, 5);
  expect(one).not.toBeCloseTo(two!, 3);
});
