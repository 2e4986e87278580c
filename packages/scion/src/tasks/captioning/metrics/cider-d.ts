import { countNgrams, mean, splitTokens, type MetricScores, type TokenizedExample } from './ngrams.js';

const orders = 4;
const sigma = 6;

/** A caption as weighted n-grams of each length. */
interface Weighted {
  vectors: Map<string, number>[];
  norms: number[];
  /** Number of bigrams: what pycocoevalcap takes for the length. */
  bigrams: number;
}

/**
 * CIDEr-D (Vedantam et al., CVPR 2015, with clipping and the Gaussian penalty of sigma 6), 0 … 10: what
 * pycocoevalcap's `Cider` computes, although it is named CIDEr there. Document frequencies come from the references of
 * these images, so that a corpus of one image scores 0, and the penalty compares numbers of bigrams, as there.
 */
export function ciderD(examples: readonly TokenizedExample[]): MetricScores {
  const texts = examples.map(({ candidate, references }) => ({
    candidate: ngrams(candidate), references: references.map(ngrams),
  }));
  const images = new Map<string, number>();
  for (const { references } of texts) {
    for (const ngram of new Set(references.flatMap((counts) => counts.flatMap((c) => [...c.keys()])))) {
      images.set(ngram, (images.get(ngram) ?? 0) + 1);
    }
  }
  const weigh = (counts: readonly ReadonlyMap<string, number>[]): Weighted => {
    const vectors = counts.map((of) => new Map(Array.from(of, ([ngram, count]) =>
      [ngram, count * (Math.log(examples.length) - Math.log(images.get(ngram) ?? 1))] as const)));
    return {
      vectors, norms: vectors.map((vector) => Math.sqrt([...vector.values()].reduce((sum, w) => sum + w * w, 0))),
      bigrams: [...counts[1]!.values()].reduce((a, b) => a + b, 0),
    };
  };
  const perExample = texts.map(({ candidate, references }) => {
    const own = weigh(candidate);
    return 10 * mean(references.map((reference) => similarity(own, weigh(reference))));
  });
  return { score: mean(perExample), perExample };
}

const ngrams = (tokens: readonly string[]): Map<string, number>[] => {
  const words = splitTokens(tokens);
  return Array.from({ length: orders }, (_, k) => countNgrams(words, k + 1));
};

/** Mean over the lengths of clipped cosine similarities, times the penalty. */
function similarity(candidate: Weighted, reference: Weighted): number {
  const penalty = Math.exp(-((candidate.bigrams - reference.bigrams) ** 2) / (2 * sigma ** 2));
  return penalty * mean(candidate.vectors.map((vector, k) => {
    let dot = 0;
    for (const [ngram, weight] of vector) {
      const other = reference.vectors[k]!.get(ngram) ?? 0;
      dot += Math.min(weight, other) * other;
    }
    const norms = candidate.norms[k]! * reference.norms[k]!;
    return norms === 0 ? 0 : dot / norms;
  }));
}
