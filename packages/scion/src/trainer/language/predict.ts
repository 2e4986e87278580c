/** What an adapted text model says: answers that it chooses, texts that it writes. */
import type { WordTokenizer } from '../../data/tokenizer.js';
import type { VisionText } from '../../nn/vision-text.js';
import type { Runtime, Session, SessionOptions, Tensors } from '../../runtime/session.js';
import { assert, stopIf } from '../../util/errors.js';
import { compileInference } from '../compile.js';
import { type GenerationOptions, type Generator, openGenerator } from '../generate/index.js';
import { openProgram } from '../program.js';
import type { RowMaker } from './examples.js';
import { valuesFor } from './fit.js';
import { type BatchShape, type Visual, textFeeds, textInputs, visualFeed } from './objective.js';

/** A question about a picture, or a picture alone. */
export interface Asked {
  /** Its row among the pictures' features. */
  picture: number;
  question?: string | undefined;
}

export interface Choice {
  answer: string;
  /** 0 … 1, of each answer by itself: how right it is by the answers of the training. */
  score: number;
}

export interface Speaker {
  /** For each question the `top` best answers, best first. Of models with a classifier. */
  choose(asked: readonly Asked[], visual: Visual | undefined, top: number): Promise<Choice[][]>;
  /** A text for each. Of models that write. */
  write(asked: readonly Asked[], visual: Visual | undefined, options: GenerationOptions): Promise<string[]>;
  release(): Promise<void>;
}

export interface SpeakerOptions {
  runtime: Runtime;
  model: VisionText;
  /** Trained values, by the names of parameters. */
  values: Tensors;
  maker: RowMaker;
  tokenizer: WordTokenizer;
  pad: number;
  answers?: readonly string[] | undefined;
  session?: SessionOptions;
  /** Texts at a time. Default 32. */
  batchSize?: number;
  signal?: AbortSignal | undefined;
  onProgress?: ((done: number, total: number, what: string) => void) | undefined;
}

/** Programs are made for so many tokens, or a multiple. */
const stride = 8;

export function openSpeaker(options: SpeakerOptions): Speaker {
  const { runtime, model, values, maker, tokenizer, pad, answers, batchSize = 32, signal, onProgress } = options;
  const sessions = new Map<number, Promise<Session>>();
  const generators = new Map<string, Promise<Generator>>();

  const lengthOf = (texts: readonly (readonly number[])[], most = model.positions): number => {
    const longest = texts.reduce((length, ids) => Math.max(length, ids.length), 1);
    return longest === 1 ? 1 : Math.max(longest, Math.min(most, Math.ceil(longest / stride) * stride));
  };
  const classifier = (shape: BatchShape): Promise<Session> => {
    let session = sessions.get(shape.length);
    if (!session) {
      const program = compileInference((graph) => ({ logits: model.classify(textInputs(graph, model, shape)) }));
      session = openProgram(runtime, program, valuesFor(program, model, values), options.session);
      sessions.set(shape.length, session);
    }
    return session;
  };
  /** In batches; what comes back is in the order of what was asked. */
  const inBatches = async <T>(asked: readonly Asked[], what: string, answer: (batch: readonly Asked[]) => Promise<T[]>): Promise<T[]> => {
    const out: T[] = [];
    for (let start = 0; start < asked.length; start += batchSize) {
      stopIf(signal);
      out.push(...await answer(asked.slice(start, start + batchSize)));
      onProgress?.(out.length, asked.length, what);
    }
    return out;
  };
  const generator = (length: number, generation: GenerationOptions): Promise<Generator> => {
    const key = JSON.stringify([length, generation]);
    let opened = generators.get(key);
    if (!opened) {
      const { text, sight } = model;
      assert(text.kind !== 'encoder', 'an encoder writes nothing');
      opened = openGenerator(runtime, {
        model: text,
        ...(sight && {
          inputs: { visual: { dtype: 'float32', shape: [sight.tokens, sight.dim] } },
          condition: ({ visual }) => {
            const seen = model.look(visual!);
            return { routes: { visual: seen }, ...(sight.prefix && { prefix: seen }) };
          },
        }),
      }, generation, { batch: batchSize, promptLength: length, values, ...(options.session && { session: options.session }) });
      generators.set(key, opened);
    }
    return opened;
  };
  return {
    choose: (asked, visual, top) => inBatches(asked, 'answers', async (batch) => {
      const texts = batch.map(({ picture, question }) => ({ picture, ids: maker.question(question ?? '') }));
      const shape = { rows: batchSize, length: lengthOf(texts.map(({ ids }) => ids)) };
      const { logits } = await (await classifier(shape)).run(textFeeds(shape, texts, visual, pad));
      const count = answers!.length;
      return batch.map((_, i) => best((logits!.data as Float32Array).subarray(i * count, (i + 1) * count), answers!, top));
    }),
    write: (asked, visual, generation) => inBatches(asked, 'texts', async (batch) => {
      const longest = model.positions - (generation.max_new_tokens ?? 0);
      const prompts = batch.map(({ question }) => maker.prompt(question, longest));
      const opened = await generator(lengthOf(prompts, longest), generation);
      const inputs = visual && { visual: visualFeed(batch.length, batch, visual) };
      const written = await opened.generate({ ids: prompts, ...(inputs && { inputs }), ...(signal && { signal }) });
      return written.map(([first]) => tokenizer.text(first!.ids).trim());
    }),
    async release() {
      const opened = await Promise.allSettled([...sessions.values(), ...generators.values()]);
      for (const one of opened) if (one.status === 'fulfilled') await one.value.release();
    },
  };
}

function best(logits: Float32Array, answers: readonly string[], top: number): Choice[] {
  return Array.from(logits, (logit, i) => ({ answer: answers[i]!, score: 1 / (1 + Math.exp(-logit)) }))
    .sort((a, b) => b.score - a.score || (a.answer < b.answer ? -1 : 1)).slice(0, top);
}
