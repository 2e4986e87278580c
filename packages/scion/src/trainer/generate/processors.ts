/** What changes the scores of the next word before one is chosen, in the order of Hugging Face's logits processors. */
import type { Tensors } from '../../runtime/session.js';
import type { GenerationSettings } from './options.js';

/** Scores of the next word. Those of `words`, or of the whole vocabulary where there are none. */
export interface ScoreRow {
  readonly scores: Float32Array;
  readonly words?: Int32Array | undefined;
}

/** The rows of what a program hands over, the first `count`. */
export function scoreRows({ scores, words }: Tensors, count: number): ScoreRow[] {
  const width = scores!.shape[1]!;
  const part = <A extends { subarray(from: number, to: number): A }>(data: A, row: number): A =>
    data.subarray(row * width, (row + 1) * width);
  return Array.from({ length: count }, (_, row) => ({
    scores: part(scores!.data as Float32Array, row), words: words && part(words.data as Int32Array, row),
  }));
}

export const copyOf = ({ scores, words }: ScoreRow): ScoreRow => ({ scores: scores.slice(), words: words?.slice() });

/** What is known when a word is chosen. */
export interface Progress {
  /** Words that came before, of the prompt too, without padding. */
  readonly history: readonly number[];
  /** Length of the text with the longest prompt of its batch. */
  readonly length: number;
  /** Words that were generated. */
  readonly generated: number;
  /** Length at which all texts end. */
  readonly end: number;
}

const at = ({ words }: ScoreRow, word: number): number => (words ? words.indexOf(word) : word);

function ban(row: ScoreRow, word: number): void {
  const i = at(row, word);
  if (i >= 0) row.scores[i] = -Infinity;
}

/** Those given have probability 1 together. Where scores are few, all words are there whose place matters. */
function force({ scores, words }: ScoreRow, forced: readonly number[]): void {
  scores.fill(-Infinity);
  forced.forEach((word, i) => {
    if (words) words[i] = word;
    scores[words ? i : word] = 0;
  });
}

type Processor = (row: ScoreRow, settings: GenerationSettings, progress: Progress) => void;

/** Keskar et al., 2019 (CTRL), section 4.1. */
const repetition: Processor = (row, { repetition_penalty: penalty }, { history }) => {
  if (penalty === 1) return;
  for (const word of new Set(history)) {
    const score = row.scores[word]!;
    row.scores[word] = score < 0 ? score * penalty : score / penalty;
  }
};

const repeatedSequences: Processor = (row, { no_repeat_ngram_size: size }, { history }) => {
  if (size === 0 || history.length + 1 < size) return;
  const tail = history.length - size + 1;
  for (let start = 0; start < tail; start++) {
    let i = 0;
    while (i < size - 1 && history[start + i] === history[tail + i]) i++;
    if (i === size - 1) ban(row, history[start + i]!);
  }
};

const early: Processor = (row, { min_length: least, min_new_tokens: fewest, ends }, { length, generated }) => {
  if (length < least || generated < fewest) for (const end of ends) ban(row, end);
};

const forced: Processor = (row, { forced_bos_token_id: begin, forced_eos_token_id: last }, { length, end }) => {
  if (begin !== undefined && length === 1) force(row, [begin]);
  if (last && length === end - 1) force(row, last);
};

const all: readonly Processor[] = [repetition, repeatedSequences, early, forced];

/** Changes the scores in place. */
export function processScores(row: ScoreRow, settings: GenerationSettings, progress: Progress): void {
  for (const processor of all) processor(row, settings, progress);
}

/** How many words of the highest scores are enough to choose `kept` of them; undefined where all are needed. */
export function wordsNeeded(settings: GenerationSettings, vocabulary: number): number | undefined {
  const { num_beams: beams, do_sample: sample, top_k: top, ends, forced_eos_token_id: last = [] } = settings;
  if (settings.repetition_penalty !== 1 || settings.no_repeat_ngram_size > 0 || (sample && top === 0)) return undefined;
  const kept = sample ? top : beams > 1 ? keptBeams(settings) : 1;
  // of which the ends may be banned
  const enough = Math.max(kept, last.length) + ends.length;
  return enough < vocabulary / 4 ? enough : undefined;
}

/** Continuations that are looked at in a step of beam search: as many as go on even where others end. */
export const keptBeams = ({ num_beams: beams, ends }: Pick<GenerationSettings, 'num_beams' | 'ends'>): number =>
  Math.max(2, 1 + ends.length) * beams;
