/** The built-in text models and their recipe: what they compute, the vocabulary, and what batches hold. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { readWordTokenizer } from '../src/data/tokenizer.js';
import { readCheckpoint } from '../src/hub/checkpoint.js';
import { resolveModel } from '../src/hub/resolve.js';
import { expectClose, expected, run, testRuntime } from '../src/models/testing/reference.js';
import { loadTextModel } from '../src/models/text-models.js';
import * as f from '../src/nn/functional.js';
import { Random } from '../src/util/random.js';
import { type Tensor, int64 } from '../src/util/tensor.js';
import { repository } from './command.js';

interface Learned { tokens: string[]; merges: [string, string][]; segments: Map<string, string[]> }
interface Files { size: number; id: (token: string) => number; files: Record<string, object | string> }
type Step = (step: number) => Record<'ids' | 'mask' | 'places' | 'targets' | 'weights', Tensor>;
interface Recipe {
  split: (text: string) => string[];
  learnMerges: (counts: Map<string, number>, size: number) => Learned;
  applyMerges: (piece: string, merges: [string, string][]) => string[];
  tokenizerFiles: (layout: 'roberta' | 'gpt2', learned: Learned, length: number) => Files;
  packRows: (texts: number[][], length: number, random: Random) => number[][];
  maskedBatches: (options: object) => Step;
  causalBatches: (options: object) => Step;
}
let recipe: Recipe;
beforeAll(async () => {
  const parts = await Promise.all(['vocabulary', 'batches'].map((name) =>
    import(pathToFileURL(join(repository, 'recipes/picto-text', `${name}.mjs`)).href) as Promise<object>));
  recipe = Object.assign({}, ...parts) as Recipe;
});

const numbers = (tensor: Tensor): number[] => [...tensor.data].map(Number);

const runtime = testRuntime();

describe.each(['picto-roberta', 'picto-gpt'])('the built-in %s', (name) => {
  test('reads and computes as transformers does', async () => {
    const { path } = await resolveModel(name);
    const reference = await expected('picto-text', name);
    const { texts, ids } = JSON.parse(await readFile(join(repository, 'fixtures/picto-text', `${name}.json`), 'utf8')) as {
      texts: string[]; ids: number[][] };
    const model = loadTextModel(await readCheckpoint(path));
    const tokenizer = await readWordTokenizer(path, { vocabularySize: model.vocabulary });
    for (const [i, text] of texts.entries()) {
      expect(tokenizer.tokens(text)).toEqual(ids[i]);
      const shape = [1, ids[i]!.length];
      const { last, logits } = await run(runtime, (graph) => {
        const tokens = model.embed(graph.input('ids', 'int64', shape));
        if (model.kind === 'encoder-decoder') throw new Error(`${name} is no encoder or decoder`);
        const states = model.kind === 'encoder' ? model.encode(tokens) : model.decode(tokens);
        const rows = f.reshape(states.last, [shape[1]!, model.width]);
        return { last: rows, logits: f.reshape(model.logits(f.slice(rows, 0, shape[1]! - 1, shape[1]!)), [-1]) };
      }, { ids: int64(shape, ids[i]!) });
      expectClose(last, reference(`last.${i}`), `last of ${text}`);
      expectClose(logits, reference(`logits.${i}`), `logits of ${text}`);
    }
  });

  test('is no larger than 8 MB, and knows positions for 64 tokens', async () => {
    const { path } = await resolveModel(name);
    expect((await stat(join(path, 'model.safetensors'))).size).toBeLessThan(8_000_000);
    expect(loadTextModel(await readCheckpoint(path)).positions).toBe(64);
  });
});

describe('the vocabulary', () => {
  test('joins what is next to each other most often', () => {
    const counts = new Map([['Ġlow', 5], ['Ġlower', 2], ['Ġwide', 3], ['aaa', 4]]);
    const { tokens, merges, segments } = recipe.learnMerges(counts, 256 + 5);
    // "aa" is in "aaa" twice; "lo", "ow" and "Ġl" are equally frequent: the first by code points
    expect(merges).toEqual([['a', 'a'], ['l', 'o'], ['lo', 'w'], ['Ġ', 'low'], ['aa', 'a']]);
    expect(tokens.slice(256)).toEqual(['aa', 'lo', 'low', 'Ġlow', 'aaa']);
    expect(segments.get('Ġlower')).toEqual(['Ġlow', 'e', 'r']);
    expect(segments.get('aaa')).toEqual(['aaa']);
  });

  test.each(['roberta', 'gpt2'] as const)('is read by the library as it was learned: %s', async (layout) => {
    const sentences = [
      'the dog barked all night.', 'a red car to the left of a dog', "it's 12 o'clock, isn't it?", 'Übergröße 🐶',
    ];
    const counts = new Map<string, number>();
    for (const piece of sentences.flatMap(recipe.split)) counts.set(piece, (counts.get(piece) ?? 0) + 1);
    const learned = recipe.learnMerges(counts, 290);
    const { files, id } = recipe.tokenizerFiles(layout, learned, 64);
    const folder = await mkdtemp(join(tmpdir(), 'scion-vocabulary-'));
    try {
      for (const [name, content] of Object.entries(files)) {
        await writeFile(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
      }
      const tokenizer = await readWordTokenizer(folder);
      for (const sentence of sentences) {
        const ids = recipe.split(sentence).flatMap((piece) => learned.segments.get(piece)!.map(id));
        expect(tokenizer.tokens(sentence, { marks: false })).toEqual(ids);
        expect(recipe.split(sentence).flatMap((piece) => recipe.applyMerges(piece, learned.merges).map(id))).toEqual(ids);
        expect(tokenizer.text(ids).trim()).toBe(sentence.toLowerCase());
      }
      const marked = tokenizer.tokens('the dog');
      expect([marked[0], marked.at(-1)].map((at) => at === id('<s>') || at === id('</s>'))).toEqual(
        layout === 'roberta' ? [true, true] : [false, false]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe('batches', () => {
  const end = 2;
  const random = Random.seeded(3);
  /** Texts of 1 to 20 words, each with the token that ends it. */
  const texts = Array.from({ length: 200 }, () =>
    [...Array.from({ length: 1 + random.integer(20) }, () => 4 + random.integer(95)), end]);

  test('rows hold every text once and whole, and little room is left', () => {
    const rows = recipe.packRows(texts, 30, Random.seeded(1));
    const found = rows.flatMap((row) => row.join().split(/(?<=,2|^2)(?:,|$)/)).filter(Boolean).sort();
    expect(found).toEqual(texts.map((t) => t.join()).sort());
    expect(Math.max(...rows.map(({ length }) => length))).toBeLessThanOrEqual(30);
    expect(rows.flat().length / (30 * rows.length)).toBeGreaterThan(0.95);
    expect(recipe.packRows(texts, 30, Random.seeded(1))).toEqual(rows);
    expect(recipe.packRows(texts, 30, Random.seeded(2))).not.toEqual(rows);
    expect(recipe.packRows([[5, 6, 7, end]], 3, random)).toEqual([[5, 6, 7]]);
  });

  test('hidden words: the mask for 80 %, another word for 10 %, the same for 10 %; marks are never hidden', () => {
    const rows = recipe.packRows(texts, 31, Random.seeded(1));
    const ids = { pad: 1, begin: 0, mask: 99, special: 4, size: 100 };
    const next = recipe.maskedBatches({ rows, batch: 8, length: 32, hidden: 4, ids, seed: 1 });
    const kinds = { mask: 0, same: 0, other: 0 };
    for (let step = 0; step < 60; step++) {
      const { ids: shown, mask, places, targets, weights } = next(step);
      expect(numbers(next(step).ids)).toEqual(numbers(shown));
      expect(numbers(mask)).toEqual(numbers(shown).map((id) => (id === 1 ? 0 : 1)));
      const restored = numbers(shown);
      numbers(places).forEach((place, i) => {
        if (numbers(weights)[i] === 0) return;
        const at = (place % 8) * 32 + Math.floor(place / 8);
        const [now, was] = [restored[at]!, numbers(targets)[i]!];
        expect(was).toBeGreaterThanOrEqual(4);
        kinds[now === 99 ? 'mask' : now === was ? 'same' : 'other']++;
        restored[at] = was;
      });
      // with the hidden words put back, every line is one of the rows
      for (let b = 0; b < 8; b++) {
        const line = restored.slice(b * 32, (b + 1) * 32);
        expect(rows.some((row) => [0, ...row].every((id, t) => line[t] === id))).toBe(true);
      }
    }
    const total = kinds.mask + kinds.same + kinds.other;
    expect(total).toBe(60 * 8 * 4);
    expect(kinds.mask / total).toBeCloseTo(0.8, 1);
    expect(kinds.other / total).toBeCloseTo(0.1, 1);
  });

  test('next words: each is asked for after the one before it, and what fills up a row is not', () => {
    const rows = recipe.packRows(texts, 30, Random.seeded(1));
    const next = recipe.causalBatches({ rows, batch: 8, length: 30, ids: { begin: end }, seed: 1 });
    const { ids, targets, weights } = next(3);
    const [shown, wanted, counting] = [ids, targets, weights].map(numbers) as [number[], number[], number[]];
    for (let b = 0; b < 8; b++) {
      const row = wanted.filter((_, i) => i % 8 === b && counting[i] === 1);
      expect(rows.map((r) => r.join())).toContain(row.join());
      expect(shown.slice(b * 30, (b + 1) * 30).slice(0, row.length)).toEqual([end, ...row.slice(0, -1)]);
    }
    const perEpoch = Math.floor(rows.length / 8);
    const epoch = Array.from({ length: perEpoch }, (_, i) => numbers(next(i).targets)).flat();
    const again = Array.from({ length: perEpoch }, (_, i) => numbers(next(perEpoch + i).targets)).flat();
    expect(again).not.toEqual(epoch);
  });
});
