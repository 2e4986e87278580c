import { describe, expect, test } from 'vitest';
import { expectClose, testRuntime } from '../../models/testing/reference.js';
import type { Value } from '../../ir/graph.js';
import { Random } from '../../util/random.js';
import { type Tensor, float32, int64 } from '../../util/tensor.js';
import type { PromptWords } from '../backbone-method.js';
import {
  adapted, classificationLoss, compute, descend, distance, drawn, fixtures, load, rowGradients, wordsOf,
} from '../testing/adapted.js';
import { type CoopConfig, arrange, coop } from './index.js';

const runtime = testRuntime();
const clip = 'clip/pictures/model';
const picto = `${fixtures}../packages/scion/models/picto`;
const names = ['red_square', 'photo', 'red photo square'];
const learned = (path: string): string => `${path}.prompt_embeddings`;
const table = learned('text_model.embeddings.token_embedding');

/** Text features of ids [K, 1, T]. */
const features = async (
  model: { textFeatures(ids: Value): Value }, ids: Tensor<'int64'>, values: Record<string, Tensor> = {},
): Promise<Tensor> => {
  const flat = { ...ids, shape: [ids.shape[0]! * ids.shape[1]!, ids.shape[2]!] };
  const got = await compute(runtime, (graph) => ({
    y: model.textFeatures(graph.input('ids', 'int64', flat.shape)),
  }), { ids: flat }, values);
  return got.y!;
};

describe.each([
  [clip, 24, names, table],
  ['siglip/gemma', 24, ['cat', 'red_dog', 'house'], table],
  // its tokenizer takes full stops out
  ['siglip/sentencepiece', 16, ['cat', 'dog', 'of'], table],
  [picto, 12, ['guitar', 'arrow_left', 'red car'], learned('text_model.token_embedding')],
] as const)('%s', (folder, length, classNames, parameter) => {
  test.each([[false], [true]])('a context that starts as words gives the features of these words, csc %s', async (csc) => {
    const words = await wordsOf(folder, classNames, length);
    const { model, promptIds, initial } = await adapted(coop, folder, { ctx_init: 'a photo of a', csc }, words);
    const plain = await load(folder);
    const texts = classNames.map((name) => `a photo of a ${name.replace('_', ' ')}.`);
    const ids = words.tokenize(texts);
    const want = await features(plain.model, { ...ids, shape: [classNames.length, 1, length] });
    expect(Object.keys(initial)).toEqual([parameter]);
    expectClose(await features(model, promptIds!, initial), want, 'features', 1e-6);
  });

  test('every learned vector counts, and nothing else is trained', async () => {
    const words = await wordsOf(folder, classNames, length);
    const { model, promptIds, initial } = await adapted(coop, folder, { n_ctx: 3, csc: true }, words);
    const ids = { ...promptIds!, shape: [classNames.length, length] };
    const rows = await rowGradients(runtime, model, { ids }, initial);
    expect(Object.keys(rows)).toEqual([parameter]);
    expect(rows[parameter]!.length).toBe(3 * classNames.length);
    for (const largest of rows[parameter]!) expect(largest).toBeGreaterThan(1e-6);
  });
});

test('the ids of a prompt: marks and words as the tokenizer has them, learned vectors below 0', async () => {
  const rows = async (config: object): Promise<number[][]> => {
    const { promptIds } = await adapted(coop, clip, config, await wordsOf(clip, ['red_square', 'photo'], 12));
    expect(promptIds!.shape).toEqual([2, 1, 12]);
    return [0, 12].map((at) => [...promptIds!.data.slice(at, at + 12)].map(Number));
  };
  const words = await wordsOf(clip, [], 12);
  const [begin, red, square, stop, end] = [...words.tokenize(['red square.']).data].map(Number) as [number, number, number, number, number];
  const photo = Number(words.tokenize(['photo']).data[1]);
  const row = (...ids: number[]): number[] => [begin, ...ids, ...Array<number>(11 - ids.length).fill(end)];
  expect(await rows({ n_ctx: 3 })).toEqual([row(-1, -2, -3, red, square, stop), row(-1, -2, -3, photo, stop)]);
  expect(await rows({ n_ctx: 3, class_token_position: 'front' }))
    .toEqual([row(red, square, -1, -2, -3, stop), row(photo, -1, -2, -3, stop)]);
  expect(await rows({ n_ctx: 3, class_token_position: 'middle' }))
    .toEqual([row(-1, red, square, -2, -3, stop), row(-1, photo, -2, -3, stop)]);
  expect(await rows({ n_ctx: 3, csc: true })).toEqual([row(-1, -2, -3, red, square, stop), row(-4, -5, -6, photo, stop)]);
  expect(await rows({ ctx_init: 'a_photo of a' })).toEqual([row(-1, -2, -3, -4, red, square, stop), row(-1, -2, -3, -4, photo, stop)]);
});

test('the middle of an odd context is nearer to its start', () => {
  const at = (position: CoopConfig['class_token_position']): number[] => arrange(position, [-1, -2, -3], [7], [8]);
  expect([at('front'), at('middle'), at('end')]).toEqual([[7, -1, -2, -3, 8], [-1, 7, -2, -3, 8], [-1, -2, -3, 7, 8]]);
});

test('with csc another context of one class changes the feature of that class alone, without it all', async () => {
  const changes = async (csc: boolean): Promise<number[]> => {
    const { model, promptIds, initial } = await adapted(coop, clip, { n_ctx: 2, csc }, await wordsOf(clip, names, 24));
    const value = initial[table]!;
    const width = value.shape[1]!;
    const from = csc ? 2 * width : 0; // class 1
    const changed = float32(value.shape, value.data.map((v, i) => (i >= from && i < from + 2 * width ? v + 0.5 * (i % 3) : v)));
    const [before, after] = [await features(model, promptIds!, initial), await features(model, promptIds!, { [table]: changed })];
    const d = before.shape[1]!;
    return names.map((_, k) => Math.max(...Array.from({ length: d }, (_v, i) =>
      Math.abs(Number(before.data[k * d + i]) - Number(after.data[k * d + i])))));
  };
  const [own, shared] = [await changes(true), await changes(false)];
  expect(own.map((v) => v > 1e-3)).toEqual([false, true, false]);
  expect([own[0], own[2]]).toEqual([0, 0]);
  expect(shared.every((v) => v > 1e-3)).toBe(true);
});

test('vectors start as normal numbers of deviation 0.02, 16 for all classes', async () => {
  const { initial } = await adapted(coop, clip, {}, await wordsOf(clip, names, 24));
  const { shape, data } = initial[table]!;
  expect(shape).toEqual([16, 16]);
  const deviation = Math.sqrt(data.reduce((sum, v) => sum + v * v, 0) / data.length);
  expect(deviation).toBeGreaterThan(0.017);
  expect(deviation).toBeLessThan(0.023);
});

test('training the context lowers the cross entropy of given pictures', async () => {
  const { model, promptIds, initial } = await adapted(coop, clip, { n_ctx: 4 }, await wordsOf(clip, names, 24));
  const ids = { ...promptIds!, shape: [3, 24] };
  const images = drawn([6, 12], Random.seeded(2));
  const { losses } = await descend(runtime, (graph) => classificationLoss(
    graph, graph.input('images', 'float32', [6, 12]), model.textFeatures(graph.input('ids', 'int64', [3, 24])),
  ), { ids, images }, initial, { steps: 40, lr: 0.02 });
  expect(losses.at(-1)!).toBeLessThan(losses[0]! - 0.1);
});

describe('is refused', () => {
  const attach = async (folder: string, config: object, words?: PromptWords): Promise<unknown> =>
    adapted(coop, folder, config, words);

  test('with a class whose prompt does not fit, by name', async () => {
    const words = await wordsOf(clip, ['photo', 'red square', 'red red red red'], 10);
    await expect(attach(clip, { n_ctx: 5 }, words)).rejects.toMatchObject({
      kind: 'input',
      message: expect.stringMatching(/^class "red red red red": its text has 12 tokens .* the model takes 10; learn fewer/) as string,
    });
    await expect(attach(clip, { n_ctx: 7 }, words)).rejects.toThrow(/^class "photo": .* 11 tokens .*\(2 more classes/);
    await expect(attach(clip, { n_ctx: 3 }, words)).resolves.toBeDefined();
  });

  test('without words, without a token table, with an empty start, with a tokenizer that pads on the left', async () => {
    const words = await wordsOf(clip, names, 24);
    await expect(attach(clip, {})).rejects.toThrow(/^method: coop: learns words .* nothing is classified by words/);
    await expect(attach('vit/model', {}, words)).rejects.toThrow(/^method: coop: the model has no table of token embeddings/);
    const siglip = await wordsOf('siglip/sentencepiece', ['cat'], 16);
    await expect(attach('siglip/sentencepiece', { ctx_init: '...' }, siglip)).rejects.toThrow(/^config\.ctx_init: "\.\.\." has no tokens/);
    const left: PromptWords = { ...words, tokenize: (texts) => {
      const { shape, data } = words.tokenize(texts);
      const rows = texts.map((_, i) => [...data.slice(i * 24, (i + 1) * 24)].map(Number));
      return int64(shape, rows.flatMap((row) => {
        const kept = row.slice(0, row.indexOf(1, 1) + 1);
        return [...Array<number>(24 - kept.length).fill(1), ...kept];
      }));
    } };
    await expect(attach(clip, {}, left)).rejects.toThrow(/padding_side/);
  });

  test.each([[{ n_ctx: 0 }], [{ class_token_position: 'start' }], [{ ctx_init: ' ' }], [{ ctx: 4 }]])('%j', (config) => {
    expect(coop.config.safeParse(config).success).toBe(false);
  });
});

test('distances see NaN', () => {
  expect(distance(float32([1], [NaN]), float32([1], [0]))).toBe(Infinity);
});
