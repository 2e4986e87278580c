/** Learned tokens behind texts that are padded. */
import { expect, test } from 'vitest';
import { readCheckpoint } from '../../hub/checkpoint.js';
import type { Value } from '../../ir/graph.js';
import { expected, fixtures, testRuntime } from '../../models/testing/reference.js';
import { loadTextModel } from '../../models/text-models.js';
import type { TextModel } from '../../models/text.js';
import * as f from '../../nn/functional.js';
import { init } from '../../nn/parameter.js';
import { blocksOf } from '../../nn/places.js';
import { ScionError } from '../../util/errors.js';
import { type Tensor, float32, int64 } from '../../util/tensor.js';
import { compute, distance, initialValues } from '../testing/adapted.js';
import { PromptTokens } from './layer.js';

const runtime = testRuntime();
const added = 2;
type Encoding = Exclude<TextModel, { kind: 'decoder' }>;

/** A model with learned tokens behind the input of every layer of its encoder; they replace those of the layer before. */
async function prompted(folder: string): Promise<{ model: Encoding; values: Record<string, Tensor> }> {
  const model = loadTextModel(await readCheckpoint(fixtures + folder)) as Encoding;
  for (const [, block] of blocksOf(model)) {
    const { causal, layer, width } = block.kind;
    if (!causal) block.plug('tokens', new PromptTokens(added, width, init.normal(1), { replaces: layer > 0 }));
  }
  model.named();
  return { model, values: initialValues(model) };
}

/** The last states [B, T, width] of texts: of the encoder, and of a decoder that has read them and writes `words`. */
async function read(
  { model, values }: Awaited<ReturnType<typeof prompted>>, ids: Tensor, mask: Tensor | undefined, words: Tensor,
): Promise<Record<string, Tensor>> {
  return compute(runtime, (graph): Record<string, Value> => {
    const shown = mask && graph.input('mask', 'float32', mask.shape);
    const { last } = model.encode(model.embed(graph.input('ids', 'int64', ids.shape)), shown);
    const texts = { encoder: f.transpose(last, [1, 0, 2]) };
    if (model.kind === 'encoder') return texts;
    const written = model.decode(model.embed(graph.input('words', 'int64', words.shape)), { last, mask: shown });
    return { ...texts, decoder: f.transpose(written.last, [1, 0, 2]) };
  }, { ids, ...(mask && { mask }), ...(model.kind === 'encoder' ? {} : { words }) }, values);
}

/** Of [B, T, width] one text, the tokens at the given places. */
function rows({ shape, data }: Tensor, text: number, places: readonly number[]): Tensor<'float32'> {
  const [, tokens, width] = shape as [number, number, number];
  return float32([places.length, width], Float32Array.from(places.flatMap((place) => {
    const start = (text * tokens + place) * width;
    return [...(data as Float32Array).slice(start, start + width)];
  })));
}
const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

test.each([
  ['bert/masked-lm', 'ids', 'mask'], ['roberta/masked-lm', 'ids', 'mask'], ['bart/conditional', 'sources', 'source_mask'],
])('%s: every text sees the learned tokens and not its padding', async (folder, idsName, maskName) => {
  const [trial, want] = [await prompted(folder), await expected(folder)];
  const [ids, mask] = [want(idsName), want(maskName)];
  const [texts, longest] = ids.shape as [number, number];
  const row = (i: number, n: number): number[] => [...ids.data.slice(i * longest, i * longest + n)].map(Number);
  const words = int64([texts, 3], upTo(texts * 3).map((i) => 5 + i));
  const [together, unmasked] = [await read(trial, ids, mask, words), await read(trial, ids, undefined, words)];
  const lengths = upTo(texts).map((i) => [...mask.data.slice(i * longest, (i + 1) * longest)].filter((m) => Number(m) === 1).length);
  expect(Math.min(...lengths)).toBeLessThan(longest);
  for (const [i, n] of lengths.entries()) {
    const alone = await read(trial, int64([1, n], row(i, n)), undefined, int64([1, 3], [5, 6, 7].map((w) => w + 3 * i)));
    for (const [name, state] of Object.entries(alone)) {
      // its own tokens, and the learned ones behind the longest text
      const places = name === 'encoder' ? [...upTo(n), ...upTo(added).map((k) => longest + k)] : upTo(3);
      const own = rows(state, 0, upTo(places.length));
      expect(distance(rows(together[name]!, i, places), own), `${name} of text ${i}`).toBeLessThan(1e-5);
      if (n < longest) expect(distance(rows(unmasked[name]!, i, places), own)).toBeGreaterThan(1e-3);
    }
  }
});

test('behind a causal text they are refused, since nothing would see them', async () => {
  const model = loadTextModel(await readCheckpoint(`${fixtures}gpt2/base`));
  if (model.kind !== 'decoder') throw new Error('no decoder');
  const [, block] = blocksOf(model)[0]!;
  block.plug('tokens', new PromptTokens(added, model.width, init.normal(1), { replaces: false }));
  model.named();
  const decode = compute(runtime, (graph) =>
    ({ last: model.decode(model.embed(graph.input('ids', 'int64', [1, 4]))).last }), {}, initialValues(model));
  await expect(decode).rejects.toThrow(ScionError);
  await expect(decode).rejects.toThrow('2 tokens are put behind the 4 of a causal model, where no other token sees them');
});
