/** Choosing words: one after the other, or drawn; and what every way of choosing has. */
import type { Random } from '../../util/random.js';
import type { GenerationSettings } from './options.js';
import { type ScoreRow, processScores } from './processors.js';

/** What is fed to the next step. */
export interface Next {
  /** One for each row. */
  words: number[];
  /** The row that each goes on from, where they change places. */
  order?: number[];
}

export interface Generated {
  /** Without the prompt; the end is among them where it came. */
  ids: number[];
  /** Of beam search: the sum of the words' log-probabilities, divided by length ^ length_penalty. */
  score?: number;
}

export interface Search {
  /**
   * @param rows scores of the next word, which are changed: `copies` for each prompt
   * @returns undefined where all texts have ended
   */
  advance(rows: readonly ScoreRow[]): Next | undefined;
  /** Of each prompt, the best first where there are scores. */
  results(): Generated[][];
}

/** The place of the highest score; of equal ones the first. */
function argMax(scores: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < scores.length; i++) if (scores[i]! > scores[best]!) best = i;
  return best;
}

/** Draws a place by softmax(scores / temperature), among the `top_k` highest and of them the nucleus of `top_p`. */
function draw(scores: Float32Array, settings: GenerationSettings, random: Random): number {
  const { temperature, top_k: top, top_p: nucleus } = settings;
  const order = Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]!);
  const kept = top > 0 ? order.slice(0, top) : order;
  const most = scores[kept[0]!]!;
  const weights = kept.map((i) => Math.exp((scores[i]! - most) / temperature));
  const whole = weights.reduce((a, b) => a + b, 0);
  let count = 0; // of those that reach the nucleus' probability together
  for (let sum = 0; count < weights.length && sum < nucleus * whole; count++) sum += weights[count]!;
  const chosen = weights.slice(0, count);
  let rest = random.uniform() * chosen.reduce((a, b) => a + b, 0);
  const place = chosen.findIndex((weight) => (rest -= weight) < 0);
  return kept[place < 0 ? count - 1 : place]!;
}

/**
 * One text for each row, of the highest scores, or drawn.
 * @param prompts words of each prompt without padding
 * @param start length of the longest, which for an encoder-decoder is that of the output's start
 * @param randoms a stream for each row, where words are drawn
 */
export function oneByOne(
  prompts: readonly (readonly number[])[], start: number, end: number, settings: GenerationSettings,
  randoms: readonly Random[],
): Search {
  const { copies, ends, pad, do_sample: sample } = settings;
  const texts = prompts.flatMap((prompt) =>
    Array.from({ length: copies }, () => ({ prompt, words: [] as number[], over: false })));
  let generated = 0;
  return {
    advance(rows): Next | undefined {
      const length = start + generated;
      const words = texts.map((text, i) => {
        if (text.over) return pad;
        const row = rows[i]!;
        processScores(row, settings, { history: [...text.prompt, ...text.words], length, generated, end });
        const place = sample ? draw(row.scores, settings, randoms[i]!) : argMax(row.scores);
        const word = row.words ? row.words[place]! : place;
        text.words.push(word);
        text.over = ends.includes(word) || length + 1 >= end;
        return word;
      });
      generated++;
      return texts.every(({ over }) => over) ? undefined : { words };
    },
    results: () => prompts.map((_, i) =>
      texts.slice(i * copies, (i + 1) * copies).map(({ words }): Generated => ({ ids: words }))),
  };
}
