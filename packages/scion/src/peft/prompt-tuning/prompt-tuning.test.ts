import { describe, expect, test } from 'vitest';
import { testRuntime } from '../../models/testing/reference.js';
import { compileInference } from '../../trainer/compile.js';
import { Random } from '../../util/random.js';
import type { Tensor } from '../../util/tensor.js';
import {
  type Model, adapted, classificationLoss, descend, drawn, fixtures, rowGradients, wordsOf,
} from '../testing/adapted.js';
import { promptTuning } from './index.js';

const runtime = testRuntime();
const clip = 'clip/pictures/model';
const siglip = 'siglip/sentencepiece';
const picto = `${fixtures}../packages/scion/models/picto`;
const table = 'text_model.embeddings.token_embedding.prompt_embeddings';
const at = (tower: string, layer: number): string => `${tower}.${layer}.tokens.prompt_embeddings`;
const [vision, text] = ['vision_model.encoder.layers', 'text_model.encoder.layers'];

const flat = (ids: Tensor<'int64'>): Tensor<'int64'> =>
  ({ ...ids, shape: [ids.shape[0]! * ids.shape[1]!, ids.shape[2]!] });
const pictures = (model: Model, count: number): Tensor<'float32'> => {
  const { imageSize } = model as unknown as { imageSize: number };
  return drawn([count, 3, imageSize, imageSize], Random.seeded(8));
};

describe.each([
  ['clip/quick-gelu', {}, undefined, [at(vision, 0)]],
  ['clip/quick-gelu', { deep: true }, undefined, [at(vision, 0), at(vision, 1)]],
  ['clip/gelu-half', { deep: true }, undefined, [at(vision, 0), at(vision, 1)]],
  [siglip, { deep: true, modality: 'both' }, 16, [table, at(text, 1), at(vision, 0), at(vision, 1)]],
  [siglip, { modality: 'text' }, 16, [table]],
  [clip, { modality: 'both' }, 24, [table, at(vision, 0)]],
  ['vit/model', { deep: true }, undefined, [at('encoder.layer', 0), at('encoder.layer', 1)]],
  ['dinov2/swiglu', { deep: true }, undefined, [at('dinov2.encoder.layer', 0), at('dinov2.encoder.layer', 1)]],
  [picto, { modality: 'text' }, 12, ['text_model.token_embedding.prompt_embeddings']],
])('%s %j', (folder, config, length, names) => {
  test('learns these tokens and nothing else, and every one of them counts', async () => {
    const words = length === undefined ? undefined : await wordsOf(folder, ['cat', 'of'], length, ['a {}', '{}.']);
    const { model, initial, promptIds } = await adapted(
      promptTuning, folder, { num_virtual_tokens: 3, ...config }, words);
    expect(Object.keys(initial).sort()).toEqual([...names].sort());
    const feeds = {
      ...(names.some((name) => !name.startsWith('text_')) ? { images: pictures(model, 2) } : {}),
      ...(promptIds ? { ids: flat(promptIds) } : {}),
    };
    const rows = await rowGradients(runtime, model, feeds, initial);
    expect(Object.keys(rows).sort()).toEqual([...names].sort());
    for (const [name, all] of Object.entries(rows)) {
      expect(all.length).toBe(3);
      for (const largest of all) expect(largest, name).toBeGreaterThan(1e-7);
    }
  });
});

test('every prompt of every class gets the tokens behind the begin mark, where there is one', async () => {
  const rows = async (folder: string, length: number): Promise<{ shape: readonly number[]; got: number[][]; plain: number[][] }> => {
    const words = await wordsOf(folder, ['cat', 'of'], length, ['a {}', '{}.']);
    const { promptIds } = await adapted(promptTuning, folder, { modality: 'text', num_virtual_tokens: 2 }, words);
    const split = (ids: Tensor<'int64'>): number[][] =>
      Array.from({ length: 4 }, (_, i) => [...ids.data.slice(i * length, (i + 1) * length)].map(Number));
    return { shape: promptIds!.shape, got: split(promptIds!), plain: split(words.tokenize(words.prompts.flat())) };
  };
  const [marked, unmarked] = [await rows(clip, 24), await rows(siglip, 16)];
  expect([marked.shape, unmarked.shape]).toEqual([[2, 2, 24], [2, 2, 16]]);
  expect(marked.got).toEqual(marked.plain.map((row) => [row[0], -1, -2, ...row.slice(1, -2)]));
  expect(unmarked.got).toEqual(unmarked.plain.map((row) => [-1, -2, ...row.slice(0, -2)]));
});

test('tokens of pictures start uniform within VPT\'s bound, those of texts normal with deviation 0.02', async () => {
  const words = await wordsOf(clip, ['red'], 24, ['{}']);
  const { initial } = await adapted(promptTuning, clip, { modality: 'both', num_virtual_tokens: 20 }, words);
  const bound = Math.sqrt(6 / (3 * 8 * 8 + 16));
  const largest = Math.max(...initial[at(vision, 0)]!.data.map(Math.abs));
  expect(largest).toBeLessThanOrEqual(bound);
  expect(largest).toBeGreaterThan(0.95 * bound);
  const { data } = initial[table]!;
  const deviation = Math.sqrt(data.reduce((sum, v) => sum + v * v, 0) / data.length);
  expect(Math.abs(deviation - 0.02)).toBeLessThan(0.002);
});

test.each([
  [false, [2 * (10 + 3), 2]],
  [true, [2 * 10, 2]], // what replaced prompts would become is not computed either
])('layers compute what is read alone, the last one the class token: deep %s', async (deep, rows) => {
  const { model } = await adapted(promptTuning, 'clip/quick-gelu', { deep, num_virtual_tokens: 3 });
  const { step } = compileInference((graph) => ({ y: model.imageFeatures(graph.input('images', 'float32', [2, 3, 12, 12])) }));
  const products = step.nodes.filter((n) => n.path.endsWith('mlp.fc1') && n.op === 'Gemm');
  expect(products.map((n) => n.outputs[0]!.shape[0])).toEqual(rows);
});

test.each([[clip, 'both'], [clip, 'vision'], [siglip, 'both']])('training lowers the cross entropy: %s, %s', async (folder, modality) => {
  const length = folder === clip ? 24 : 16;
  const words = await wordsOf(folder, ['cat', 'of', 'dog'], length, ['a {}']);
  const { model, initial, promptIds } = await adapted(
    promptTuning, folder, { modality, num_virtual_tokens: 4, deep: true }, words);
  const [images, ids] = [pictures(model, 6), promptIds ? flat(promptIds) : words.tokenize(words.prompts.flat())];
  const { losses } = await descend(runtime, (graph) => classificationLoss(
    graph, model.imageFeatures(graph.input('images', 'float32', images.shape)),
    model.textFeatures(graph.input('ids', 'int64', ids.shape)),
  ), { images, ids }, initial, { steps: 60, lr: 0.1 });
  expect(losses.at(-1)!).toBeLessThan(losses[0]! - 0.05);
});

describe('is refused', () => {
  test.each([
    [picto, {}, /^config\.modality: vision: the image tower of this model has no transformer layers/],
    ['clip/openai-resnet', {}, /^config\.modality: vision: the image tower of this model has no transformer layers.*use modality text/],
    ['vit/model', { modality: 'text' }, /^method: prompt-tuning: the model has no table of token embeddings/],
    [clip, { modality: 'text' }, /^method: prompt-tuning: learns words/],
  ])('%s %j', async (folder, config, message) => {
    await expect(adapted(promptTuning, folder, config)).rejects.toThrow(message);
    await expect(adapted(promptTuning, folder, config)).rejects.toMatchObject({ kind: 'usage' });
  });

  test('deep prompts of texts where the text tower has no layers', async () => {
    const words = await wordsOf(picto, ['cat'], 12);
    await expect(adapted(promptTuning, picto, { modality: 'text', deep: true, num_virtual_tokens: 2 }, words))
      .rejects.toThrow(/^config\.modality: text: the text tower of this model has no transformer layers/);
  });

  test('prompts that do not fit, by the name of the class', async () => {
    const words = await wordsOf(clip, ['red', 'square'], 8, ['a photo of a {}.']);
    await expect(adapted(promptTuning, clip, { modality: 'text', num_virtual_tokens: 1 }, words))
      .rejects.toMatchObject({ kind: 'input', message: expect.stringMatching(/^class "red": its text has 9 tokens/) as string });
  });
});
