/** A caption's words and those of its references, tokenised. */
export interface TokenizedExample {
  readonly candidate: readonly string[];
  readonly references: readonly (readonly string[])[];
}

/** A metric over a corpus, and for each of its images in order. */
export interface MetricScores {
  score: number;
  perExample: number[];
}

export const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/**
 * Counts of the n-grams of one length. A no-break space in a token parts words here, as Python's `split()` does in
 * BLEU and CIDEr.
 */
export function countNgrams(words: readonly string[], n: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + n <= words.length; i++) {
    const ngram = words.slice(i, i + n).join(' ');
    counts.set(ngram, (counts.get(ngram) ?? 0) + 1);
  }
  return counts;
}

/** Tokens without spaces in them. */
export const splitTokens = (tokens: readonly string[]): string[] => tokens.flatMap((token) => token.split('\u00a0'));
