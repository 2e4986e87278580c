/** Beam search as Hugging Face's `generate` does it (transformers 5, `_beam_search`); sums are in float32 as there. */
import type { GenerationSettings } from './options.js';
import { type Progress, type ScoreRow, keptBeams, processScores } from './processors.js';
import type { Generated, Next, Search } from './search.js';

const { fround } = Math;
/** What a text that is not to be chosen has. */
const out = -1e9;

interface Beam {
  readonly words: readonly number[];
  readonly score: number;
}
interface Candidate extends Beam {
  /** The beam that it goes on from. */
  readonly parent: number;
  readonly ends: boolean;
}
interface Finished extends Beam {
  readonly done: boolean;
}

/** The `count` of highest score, in their order; of equal ones the first. */
const highest = <T extends Beam>(beams: readonly T[], count: number): T[] =>
  [...beams].sort((a, b) => b.score - a.score).slice(0, count);

/** The beams of one prompt. */
class Beams {
  running: Candidate[];
  finished: Finished[];
  /** Whether what runs may still be better than what has finished. */
  hopeful = true;

  constructor(readonly prompt: readonly number[], private readonly settings: GenerationSettings) {
    const beams = Array.from({ length: settings.num_beams }, (_, i) => i);
    // beams but the first do not count yet, so that the same words are not taken several times
    this.running = beams.map((parent) => ({ words: [], score: parent === 0 ? 0 : out, parent, ends: false }));
    this.finished = beams.map(() => ({ words: [], score: out, done: false }));
  }

  get complete(): boolean {
    return this.finished.every(({ done }) => done);
  }

  /**
   * @param rows scores of each beam's next word
   * @returns whether every continuation ends here
   */
  advance(rows: readonly ScoreRow[], { length, generated, end }: Omit<Progress, 'history'>): boolean {
    const { num_beams: beams, ends, length_penalty: penalty, early_stopping: early } = this.settings;
    rows.forEach((row, i) => {
      const history = [...this.prompt, ...this.running[i]!.words];
      processScores(row, this.settings, { history, length, generated, end });
    });
    const candidates = this.best(rows, keptBeams(this.settings)).map(({ parent, word, score }): Candidate => ({
      words: [...this.running[parent]!.words, word], score, parent, ends: ends.includes(word) || length + 1 >= end,
    }));
    this.running = highest(candidates.map((c) => (c.ends ? { ...c, score: fround(c.score + out) } : c)), beams);
    const closed = (early === true && this.complete) || !this.hopeful;
    const final = candidates.map(({ words, score, ends: over }, i): Finished => {
      const done = over && i < beams;
      const weighed = fround(score / (generated + 1) ** penalty);
      return { words, score: fround(weighed + (closed ? out : 0) + (done ? 0 : out)), done };
    });
    this.finished = highest([...this.finished, ...final], beams);
    this.hopeful &&= this.mayImprove(generated + 1, end - (length - generated));
    return candidates.every((c) => c.ends);
  }

  private mayImprove(generated: number, most: number): boolean {
    const { early_stopping: early, length_penalty: penalty } = this.settings;
    const length = early === 'never' && penalty > 0 ? most : generated;
    const possible = fround(this.running[0]!.score / length ** penalty);
    const least = Math.min(...this.finished.map(({ score }) => score));
    return this.finished.some(({ done }) => possible > (done ? least : out));
  }

  /** The highest sums of a beam's score and its next word's. */
  private best(rows: readonly ScoreRow[], count: number): { parent: number; word: number; score: number }[] {
    const found: { parent: number; word: number; score: number }[] = [];
    let least = -Infinity;
    rows.forEach(({ scores, words }, parent) => {
      const { score: before } = this.running[parent]!;
      for (let i = 0; i < scores.length; i++) {
        const score = fround(before + scores[i]!);
        if (found.length === count && score <= least) continue;
        const place = found.findIndex((other) => score > other.score);
        found.splice(place < 0 ? found.length : place, 0, { parent, word: words ? words[i]! : i, score });
        if (found.length > count) found.pop();
        if (found.length === count) least = found.at(-1)!.score;
      }
    });
    return found;
  }
}

/**
 * @param prompts words of each prompt without padding
 * @param start length of the longest, in which an encoder-decoder has the one token of the output's start
 */
export function beamSearch(
  prompts: readonly (readonly number[])[], start: number, end: number, settings: GenerationSettings,
): Search {
  const { num_beams: beams, early_stopping: early, num_return_sequences: returned } = settings;
  const all = prompts.map((prompt) => new Beams(prompt, settings));
  let generated = 0;
  return {
    advance(rows): Next | undefined {
      const progress = { length: start + generated, generated, end };
      const over = all.map((one, i) => one.advance(rows.slice(i * beams, (i + 1) * beams), progress));
      generated++;
      const complete = early === true && all.every((one) => one.complete);
      if (complete || over.every(Boolean) || !all.some((one) => one.hopeful)) return undefined;
      return {
        words: all.flatMap(({ running }) => running.map(({ words }) => words.at(-1)!)),
        order: all.flatMap(({ running }, i) => running.map(({ parent }) => i * beams + parent)),
      };
    },
    results: (): Generated[][] =>
      all.map(({ finished }) => finished.slice(0, returned).map(({ words, score }) => ({ ids: [...words], score }))),
  };
}
