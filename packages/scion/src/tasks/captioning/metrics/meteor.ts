import { align, moduleWeights } from './meteor-alignment.js';
import { meteorWords } from './meteor-words.js';
import type { MetricScores, TokenizedExample } from './ngrams.js';

/** Parameters of METEOR 1.5 for English, task "rank" (Denkowski & Lavie, WMT 2014). */
const [alpha, beta, gamma, delta] = [0.85, 0.2, 0.6, 0.75];

/** Words more frequent than one in a thousand, which METEOR 1.5 counts as function words of English. */
const functionWords = new Set(
  `the to of and a in that for is on 's it with was as said at he by be from have has are his but an this not i will they
  -lrb- -rrb- who their had we which were been more or s its would about new one after you also up when there than all out
  her people she year two can if last first over other into some what so no time years could 't
  ' ’ " “ ” , . : ? $ ( ) - -- —`.split(/\s+/),
);

/** Sums that METEOR adds over a corpus; pairs are candidate and reference. */
interface Counts {
  length: Pair;
  functionWords: Pair;
  /** By module: content words, function words. */
  content: Pair[];
  functional: Pair[];
  chunks: number;
}
type Pair = [number, number];

/**
 * METEOR 1.5 with its modules of equal words and equal stems (Snowball's English stemmer), its weights of function words
 * and its English parameters, without its synonyms of WordNet and its table of paraphrases: what the official program
 * computes with `-norm -m "exact stem" -w "1.0 0.6"`, 0 … 1. It is lower than the full METEOR, since it finds fewer
 * matches; docs/captions-metrics.md says by how much. Of several references the best counts. Between texts whose lengths
 * have a product above 250 000 the alignment is greedy, which the official one is not.
 */
export function meteorExactStem(examples: readonly TokenizedExample[]): MetricScores {
  const best = examples.map(({ candidate, references }) => {
    const words = meteorWords(candidate);
    const all = references.map((reference) => count(words, meteorWords(reference)));
    return all.reduce((a, b) => (scoreOf(b) > scoreOf(a) ? b : a));
  });
  // as in METEOR, candidates that are a reference add no chunk to the corpus
  const summed = best.map((counts) => (isComplete(counts) ? { ...counts, chunks: 0 } : counts));
  return { score: scoreOf(summed.reduce(add)), perExample: best.map(scoreOf) };
}

function count(candidate: readonly string[], reference: readonly string[]): Counts {
  const { matches, chunks } = align(candidate, reference);
  const functionsIn = (words: readonly string[]): number => words.filter((word) => functionWords.has(word)).length;
  const content = moduleWeights.map((): Pair => [0, 0]);
  const functional = moduleWeights.map((): Pair => [0, 0]);
  for (const match of matches) {
    [candidate[match.candidate]!, reference[match.reference]!].forEach((word, side) => {
      (functionWords.has(word) ? functional : content)[match.module]![side]!++;
    });
  }
  return {
    length: [candidate.length, reference.length], functionWords: [functionsIn(candidate), functionsIn(reference)],
    content, functional, chunks,
  };
}

const matched = ({ content, functional }: Counts, side: 0 | 1): number =>
  [...content, ...functional].reduce((sum, pair) => sum + pair[side], 0);
const isComplete = (counts: Counts): boolean =>
  counts.chunks === 1 && matched(counts, 0) === counts.length[0] && matched(counts, 1) === counts.length[1];

function scoreOf(counts: Counts): number {
  const { length, functionWords: functions, content, functional } = counts;
  const share = (side: 0 | 1): number => {
    const total = delta * (length[side] - functions[side]) + (1 - delta) * functions[side];
    const matched = moduleWeights.reduce((sum, weight, i) =>
      sum + weight * (delta * content[i]![side] + (1 - delta) * functional[i]![side]), 0);
    return total === 0 ? 0 : matched / total;
  };
  const [precision, recall] = [share(0), share(1)];
  if (precision === 0 || recall === 0) return 0;
  const words = (matched(counts, 0) + matched(counts, 1)) / 2;
  const fragmentation = isComplete(counts) ? 0 : counts.chunks / words;
  const fMean = (precision * recall) / (alpha * precision + (1 - alpha) * recall);
  return fMean * (1 - gamma * fragmentation ** beta);
}

const addPairs = (a: Pair, b: Pair): Pair => [a[0] + b[0], a[1] + b[1]];
const add = (a: Counts, b: Counts): Counts => ({
  length: addPairs(a.length, b.length), functionWords: addPairs(a.functionWords, b.functionWords),
  content: a.content.map((pair, i) => addPairs(pair, b.content[i]!)),
  functional: a.functional.map((pair, i) => addPairs(pair, b.functional[i]!)),
  chunks: a.chunks + b.chunks,
});
