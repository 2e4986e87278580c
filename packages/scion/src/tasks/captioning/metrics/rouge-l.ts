import { mean, type MetricScores, type TokenizedExample } from './ngrams.js';

const beta = 1.2;

/**
 * ROUGE-L (Lin, 2004) with beta 1.2, of the best precision and the best recall among the references; mean over the
 * images, 0 … 1. A caption without words counts as one empty word, as in pycocoevalcap.
 */
export function rougeL(examples: readonly TokenizedExample[]): MetricScores {
  const perExample = examples.map(({ candidate, references }) => {
    const words = candidate.length > 0 ? candidate : [''];
    let [precision, recall] = [0, 0];
    for (const reference of references) {
      const own = reference.length > 0 ? reference : [''];
      const common = commonSubsequence(words, own);
      precision = Math.max(precision, common / words.length);
      recall = Math.max(recall, common / own.length);
    }
    if (precision === 0 || recall === 0) return 0;
    return ((1 + beta ** 2) * precision * recall) / (recall + beta ** 2 * precision);
  });
  return { score: mean(perExample), perExample };
}

/** Length of the longest common subsequence, in memory of one row: the shorter text. */
export function commonSubsequence(first: readonly string[], second: readonly string[]): number {
  const ids = new Map<string, number>();
  const encode = (words: readonly string[]): Int32Array => Int32Array.from(words, (word) => {
    const id = ids.get(word) ?? ids.size;
    ids.set(word, id);
    return id;
  });
  const [long, short] = first.length < second.length ? [encode(second), encode(first)] : [encode(first), encode(second)];
  const row = new Int32Array(short.length + 1);
  for (const word of long) {
    let diagonal = 0;
    for (let j = 1; j <= short.length; j++) {
      const above = row[j]!;
      row[j] = short[j - 1] === word ? diagonal + 1 : Math.max(above, row[j - 1]!);
      diagonal = above;
    }
  }
  return row[short.length]!;
}
