import { countNgrams, splitTokens, type MetricScores, type TokenizedExample } from './ngrams.js';

const orders = 4;
// so that no quotient is 0 / 0
const small = 1e-9;
const tiny = 1e-15;

/** What BLEU needs of one image: candidate's length, closest reference length, n-grams and those found in a reference. */
interface Counts {
  length: number;
  reference: number;
  total: number[];
  correct: number[];
}

/**
 * BLEU-1 to BLEU-4 (Papineni et al., ACL 2002) over a corpus, with the reference length closest to the candidate's (the
 * shorter of equals) and pycocoevalcap's small constants instead of zeros. Element n - 1 is BLEU-n, 0 … 1.
 */
export function bleu(examples: readonly TokenizedExample[]): MetricScores[] {
  const counts = examples.map(countMatches);
  const sum = (of: (c: Counts) => number): number => counts.reduce((total, c) => total + of(c), 0);
  const perOrder = (of: (c: Counts) => number[]): number[] => Array.from({ length: orders }, (_, k) => sum((c) => of(c)[k]!));
  const corpus = scores({
    length: sum((c) => c.length), reference: sum((c) => c.reference),
    total: perOrder((c) => c.total), correct: perOrder((c) => c.correct),
  });
  const each = counts.map(scores);
  return corpus.map((score, k) => ({ score, perExample: each.map((values) => values[k]!) }));
}

function countMatches(example: TokenizedExample): Counts {
  const candidate = splitTokens(example.candidate);
  const references = example.references.map(splitTokens);
  const correct = Array.from({ length: orders }, (_, k) => {
    const inReferences = references.map((reference) => countNgrams(reference, k + 1));
    let matches = 0;
    for (const [ngram, count] of countNgrams(candidate, k + 1)) {
      matches += Math.min(count, inReferences.reduce((most, counts) => Math.max(most, counts.get(ngram) ?? 0), 0));
    }
    return matches;
  });
  const { length } = candidate;
  const distance = (n: number): number => Math.abs(n - length);
  const reference = references.map((r) => r.length)
    .reduce((best, n) => (distance(n) < distance(best) || (distance(n) === distance(best) && n < best) ? n : best));
  return { length, reference, total: correct.map((_, k) => Math.max(0, length - k)), correct };
}

/** Geometric means of the precisions, times the penalty of what is too short. */
function scores({ length, reference, total, correct }: Counts): number[] {
  const ratio = (length + tiny) / (reference + small);
  const penalty = ratio < 1 ? Math.exp(1 - 1 / ratio) : 1;
  let product = 1;
  return correct.map((matches, k) => {
    product *= (matches + tiny) / (total[k]! + small);
    return product ** (1 / (k + 1)) * penalty;
  });
}
