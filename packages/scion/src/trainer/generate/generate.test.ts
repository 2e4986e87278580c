import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { readCheckpoint } from '../../hub/checkpoint.js';
import { fixtures, testRuntime } from '../../models/testing/reference.js';
import { loadTextModel } from '../../models/text-models.js';
import { float32 } from '../../util/tensor.js';
import {
  type GenerationOptions, type GenerationSource, type Generator, type GeneratorOptions, type Writer, openGenerator,
} from './index.js';

const runtime = testRuntime();

interface Case { prompts: number[][]; options: GenerationOptions; sequences: number[][]; scores?: number[] }
const cases = async (name: string): Promise<{ cases: Case[]; pad_token_id: number }> =>
  JSON.parse(await readFile(`${fixtures}${name}/generated.json`, 'utf8')) as { cases: Case[]; pad_token_id: number };
const loaded = async (name: string): Promise<Writer> =>
  loadTextModel(await readCheckpoint(`${fixtures}${name}`)) as Writer;

async function withGenerator<T>(
  source: GenerationSource, options: GenerationOptions, shape: GeneratorOptions,
  work: (generator: Generator) => Promise<T>,
): Promise<T> {
  const generator = await openGenerator(runtime, source, options, shape);
  try {
    return await work(generator);
  } finally {
    await generator.release();
  }
}

describe.each(['gpt2/lm-head', 'bart/conditional'])('%s', (name) => {
  test('writes what transformers writes', async () => {
    const [model, { cases: all, pad_token_id }] = [await loaded(name), await cases(name)];
    expect(all.length).toBeGreaterThan(12);
    for (const { prompts, options, sequences, scores } of all) {
      const what = JSON.stringify(options);
      // one more row than prompts, and longer ones than there are: neither may matter
      const shape = { batch: prompts.length + 1, promptLength: 11 };
      const given = { ...options, pad_token_id };
      const texts = await withGenerator({ model }, given, shape, (g) => g.generate({ ids: prompts }));
      const start = model.kind === 'decoder' ? [] : [model.decoderStart];
      const got = texts.flat().map(({ ids }) => [...start, ...ids]);
      const longest = Math.max(...got.map((ids) => ids.length));
      const filled = got.map((ids) => [...ids, ...Array<number>(longest - ids.length).fill(pad_token_id)]);
      expect(filled, what).toEqual(sequences);
      scores?.forEach((score, i) => {
        expect(Math.abs(texts.flat()[i]!.score! - score), what).toBeLessThan(1e-4 * Math.max(1, Math.abs(score)));
      });
    }
  });

  test('a prompt gives the same in any batch', async () => {
    const [model, { cases: all }] = [await loaded(name), await cases(name)];
    const { prompts } = all[0]!;
    for (const options of [
      { max_new_tokens: 9, num_beams: 3, repetition_penalty: 1.2 },
      { max_new_tokens: 9, do_sample: true, top_p: 0.9, num_return_sequences: 2 },
    ]) {
      const by = async (batch: number): Promise<number[][][]> => {
        const shape = { batch, promptLength: 9, seed: 4 };
        const texts = await withGenerator({ model }, options, shape, (g) => g.generate({ ids: prompts }));
        return texts.map((some) => some.map(({ ids }) => ids));
      };
      expect(await by(3)).toEqual(await by(1));
    }
  });
});

describe('sampling', () => {
  const many = async (options: GenerationOptions, seed = 0): Promise<number[]> => {
    const model = await loaded('gpt2/lm-head');
    const shape = { batch: 1, promptLength: 3, seed };
    const drawing = { do_sample: true, max_new_tokens: 1, num_return_sequences: 200, eos_token_id: null, ...options };
    const texts = await withGenerator({ model }, drawing, shape, (g) => g.generate({ ids: [[63, 54, 83]] }));
    return texts[0]!.map(({ ids }) => ids[0]!);
  };

  test('draws by the probabilities, the same for the same seed', async () => {
    const model = await loaded('gpt2/lm-head');
    const shape = { batch: 1, promptLength: 3 };
    const greedy = await withGenerator({ model }, { max_new_tokens: 1 }, shape, (g) => g.generate({ ids: [[63, 54, 83]] }));
    const [drawn, again, other] = [await many({ top_k: 0 }), await many({ top_k: 0 }), await many({ top_k: 0 }, 1)];
    expect(again).toEqual(drawn);
    expect(other).not.toEqual(drawn);
    expect(new Set(drawn).size).toBeGreaterThan(5);
    const counts = new Map<number, number>();
    for (const word of drawn) counts.set(word, (counts.get(word) ?? 0) + 1);
    expect([...counts].sort((a, b) => b[1] - a[1])[0]![0]).toBe(greedy[0]![0]!.ids[0]);
    // few words, by any of the three ways
    expect(new Set(await many({ top_k: 3 })).size).toBe(3);
    expect(new Set(await many({ top_k: 1 })).size).toBe(1);
    expect(new Set(await many({ top_p: 1e-6 })).size).toBe(1);
    expect(new Set(await many({ temperature: 0.01 })).size).toBe(1);
    expect(new Set(await many({ top_k: 0, top_p: 0.6 })).size).toBeLessThan(new Set(drawn).size);
  });
});

test.each(['gpt2/lm-head', 'bart/conditional'])('a prefix of a picture: %s writes as if its tokens were words', async (name) => {
  const model = await loaded(name);
  // the prefix is looked up in the words' own table, so that a prompt of these words is the reference
  const source: GenerationSource = {
    model, inputs: { picture: { dtype: 'int64', shape: [2] } },
    condition: ({ picture }) => ({ prefix: model.embed(picture!) }),
  };
  const options = { max_new_tokens: 6, num_beams: 3, eos_token_id: null };
  const shape = { batch: 2, promptLength: 4 };
  const [a, b] = [[44, 12], [71, 9]];
  const wanted = await withGenerator({ model }, options, { ...shape, promptLength: 6 }, (g) => g.generate({ ids: [[...a, 5, 7, 8, 20], [...b, 30]] }));
  const picture = { dtype: 'int64', shape: [2, 2], data: BigInt64Array.from([...a, ...b].map(BigInt)) } as const;
  await withGenerator(source, options, shape, async (generator) => {
    const texts = await generator.generate({ ids: [[5, 7, 8, 20], [30]], inputs: { picture } });
    expect(texts.map(([text]) => text!.ids)).toEqual(wanted.map(([text]) => text!.ids));
    await expect(generator.generate({ ids: [[5]] })).rejects.toThrow(/picture: is missing, expected int64 \[1, 2\]/);
    await expect(generator.generate({ ids: [[5]], inputs: { picture: float32([1, 2], [1, 2]) } })).rejects.toThrow(/picture: is float32 \[1, 2\]/);
  });
});

describe('is refused', () => {
  test.each<[GenerationOptions, RegExp]>([
    [{ num_beams: 0 }, /num_beams: is 0/], [{ num_return_sequences: 2 }, /num_return_sequences: is 2, expected at most num_beams 1/],
    [{ do_sample: true, num_beams: 2 }, /do_sample: true with num_beams 2/], [{ top_p: 1.5 }, /top_p: is 1.5/],
    [{ temperature: 0 }, /temperature: is 0/], [{ eos_token_id: 96 }, /eos_token_id: 96 is no token of a vocabulary of 96/],
    [{ num_beams: 60 }, /num_beams: 60 for a vocabulary of 96; take 48/], [{ max_new_tokens: 50 }, /max_new_tokens: texts would have 53 tokens.*40 positions/],
    [{ max_length: 42 }, /max_length: texts would have 41 tokens/], [{ beams: 2 } as GenerationOptions, /beams: there is no such option; known: max_new_tokens/],
  ])('%j', async (options, message) => {
    const model = await loaded('gpt2/lm-head');
    await expect(openGenerator(runtime, { model }, options, { batch: 1, promptLength: 4 })).rejects.toThrow(message);
  });

  test('a prompt that does not fit', async () => {
    const model = await loaded('gpt2/lm-head');
    await withGenerator({ model }, { max_length: 4 }, { batch: 1, promptLength: 4 }, async (generator) => {
      await expect(generator.generate({ ids: [[1, 2, 3, 4, 5]] })).rejects.toThrow(/prompt 1: has 5 tokens, expected at most promptLength 4/);
      await expect(generator.generate({ ids: [[1], [96]] })).rejects.toThrow(/prompt 2: 96 is no token/);
      await expect(generator.generate({ ids: [[1, 2, 3, 4]] })).rejects.toThrow(/a prompt has 4 tokens, and max_length 4/);
      expect((await generator.generate({ ids: [[]] }))[0]![0]!.ids.length).toBeGreaterThan(0); // the begin token
    });
  });
});
