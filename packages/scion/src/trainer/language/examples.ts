/** From questions and captions to the rows of numbers that are trained on. */
import type { ImageRef } from '../../data/image-ref.js';
import type { WordTokenizer } from '../../data/tokenizer.js';
import { inputError } from '../../util/errors.js';
import type { Random } from '../../util/random.js';

/** A picture with what is asked and answered, or said about it. */
export interface Example {
  readonly id: string;
  /** Its place among the pictures. */
  readonly picture: number;
  readonly question?: string;
  /** Of several people, or one. Absent where they are not known, as of a test set. */
  readonly answers?: readonly string[];
  /** The one that stands for them, where the data say. */
  readonly usualAnswer?: string;
  readonly questionType?: string;
  readonly answerType?: string;
  readonly captions?: readonly string[];
}

export const languageSplits = ['train', 'val', 'test'] as const;
export type LanguageSplit = (typeof languageSplits)[number];

export interface LanguageData {
  /** Where it was read from. */
  readonly path: string;
  /** Every picture once. */
  readonly pictures: readonly ImageRef[];
  readonly splits: Readonly<Partial<Record<LanguageSplit, readonly Example[]>>>;
  readonly warnings: readonly string[];
}

/** One row of a batch. */
export interface Row {
  picture: number;
  ids: readonly number[];
  /** Answers to choose among, with their soft scores 0 … 1. */
  scores?: readonly (readonly [answer: number, score: number])[];
  /** What an encoder-decoder has written before each of its next words. */
  written?: readonly number[];
  /** The word that follows each token of `ids`, or of `written`; -1 where none is learned. */
  labels?: readonly number[];
}

/** What a text model needs to know of its own marks. */
export interface Marks {
  kind: 'encoder' | 'decoder' | 'encoder-decoder';
  begin: number | undefined;
  end: number | undefined;
  /** What every output of an encoder-decoder begins with. */
  decoderStart?: number | undefined;
  pad: number | undefined;
}

/** Makes rows for one model; counts what had to be cut. */
export interface RowMaker {
  /** A question to a classifier. */
  question(text: string): readonly number[];
  /**
   * What is written after: the ids that a text begins with, before a word of the answer or caption.
   * @param longest of a decoder, which goes on in the same places
   */
  prompt(question: string | undefined, longest?: number): readonly number[];
  row(picture: number, question: string | undefined, answer: string): Row;
  /** Texts that were cut to the longest that fits. */
  readonly cut: number;
  /** Tokens of the longest that fits. */
  readonly positions: number;
}

/** How a question is put to a model that goes on with the answer: between these. */
const [before, after] = ['question: ', ' answer:'];

/**
 * @param positions tokens of the longest text
 * @param where the model, for messages
 */
export function rowMaker(tokenizer: WordTokenizer, marks: Marks, positions: number, where: string): RowMaker {
  let cut = 0;
  /** @param kept how many ids at the end stay */
  const fit = (ids: readonly number[], most: number, kept = 0): readonly number[] => {
    if (ids.length <= most) return ids;
    cut++;
    const start = Math.max(0, most - kept);
    return [...ids.slice(0, start), ...ids.slice(ids.length - kept)];
  };
  const end = (): number => marks.end
    ?? missing(where, 'eos_token_id', 'a model that writes must know how a text ends');
  const maker = {
    positions,
    get cut() {
      return cut;
    },
    question: (text: string) => fit(tokenizer.tokens(text), positions, 1),
    prompt(question: string | undefined, longest = Infinity): readonly number[] {
      if (marks.kind === 'encoder-decoder') return fit(tokenizer.tokens(question ?? ''), positions, 1);
      const begin = marks.begin ?? end();
      if (question === undefined) return [begin];
      const words = tokenizer.tokens(`${before}${question.trim()}${after}`, { marks: false });
      // room for a word and the end behind it
      const most = Math.min(longest, positions - 2) - 1;
      return [begin, ...fit(words, most, tokenizer.tokens(after, { marks: false }).length)];
    },
    row(picture: number, question: string | undefined, answer: string): Row {
      const prompt = maker.prompt(question);
      // as GPT-2 was trained, words after others begin with a space
      const text = question === undefined || marks.kind === 'encoder-decoder' ? answer : ` ${answer.trim()}`;
      const words = tokenizer.tokens(text, { marks: false });
      if (marks.kind === 'encoder-decoder') {
        const start = [marks.decoderStart!, ...(marks.begin === undefined || marks.begin === marks.decoderStart ? [] : [marks.begin])];
        const whole = [...start, ...fit(words, positions - start.length - 1), end()];
        return { picture, ids: prompt, written: whole.slice(0, -1), labels: whole.slice(1) };
      }
      const whole = [...prompt, ...fit(words, positions - prompt.length - 1), end()];
      const ids = whole.slice(0, -1);
      return { picture, ids, labels: ids.map((_, i) => (i < prompt.length - 1 ? -1 : whole[i + 1]!)) };
    },
  };
  return maker;
}

function missing(where: string, key: string, why: string): never {
  throw inputError(`${where}/config.json`, `has no ${key}: ${why}; add it, or get the file of the checkpoint again`);
}

/** So many of all, in their order, drawn without repetition. */
export function drawn<T>(all: readonly T[], count: number | 'all', random: Random): readonly T[] {
  if (count === 'all' || count >= all.length) return all;
  return random.shuffle(all.map((_, i) => i)).slice(0, count).sort((a, b) => a - b).map((i) => all[i]!);
}
