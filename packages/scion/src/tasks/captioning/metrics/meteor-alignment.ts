import { stemmer } from '@orama/stemmers/english';

/** Weights of the modules: the same word, the same stem. */
export const moduleWeights = [1, 0.6] as const;
const beamWidth = 40;
/** Above this product of lengths only the best partial alignment is kept, which bounds time and memory. */
const largestSearch = 250_000;

/** One word of the candidate matched with one of the reference, by the module of that number. */
export interface WordMatch {
  readonly candidate: number;
  readonly reference: number;
  readonly module: number;
}

interface Partial {
  readonly last?: Link;
  readonly weight: number;
  readonly chunks: number;
  readonly distance: number;
}
interface Link {
  readonly match: WordMatch;
  readonly before?: Link;
}

/**
 * The alignment with the largest weight, among these with the fewest chunks (runs that follow each other in both texts),
 * among these with the least distance of places: a search from left to right that keeps 40 partial alignments, as METEOR.
 */
export function align(
  candidate: readonly string[], reference: readonly string[],
): { matches: WordMatch[]; chunks: number } {
  const places = new Map<string, number[]>();
  const stems = reference.map((word) => stemmer(word));
  stems.forEach((stem, i) => (places.get(stem) ?? places.set(stem, []).get(stem)!).push(i));
  const width = candidate.length * reference.length > largestSearch ? 1 : beamWidth;
  let beam: Partial[] = [{ weight: 0, chunks: 0, distance: 0 }];
  const taken = new Uint8Array(reference.length);
  candidate.forEach((word, i) => {
    const choices = places.get(stemmer(word)) ?? [];
    const next: Partial[] = [];
    for (const partial of beam) {
      next.push(partial);
      const links: WordMatch[] = [];
      for (let link = width > 1 ? partial.last : undefined; link; link = link.before) links.push(link.match);
      for (const { reference: j } of links) taken[j] = 1;
      for (const j of choices) if (!taken[j]) next.push(extend(partial, i, j, reference[j] === word ? 0 : 1));
      for (const { reference: j } of links) taken[j] = 0;
    }
    beam = width > 1 ? next.sort(better).slice(0, width) : [next.reduce((a, b) => (better(b, a) < 0 ? b : a))];
    const chosen = beam[0]?.last?.match;
    if (width === 1 && chosen?.candidate === i) taken[chosen.reference] = 1;
  });
  const best = beam[0]!;
  const matches: WordMatch[] = [];
  for (let link = best.last; link; link = link.before) matches.push(link.match);
  return { matches, chunks: best.chunks };
}

function extend(partial: Partial, candidate: number, reference: number, module: number): Partial {
  const before = partial.last?.match;
  const follows = before?.candidate === candidate - 1 && before.reference === reference - 1;
  return {
    last: { match: { candidate, reference, module }, ...(partial.last && { before: partial.last }) },
    weight: partial.weight + moduleWeights[module]!,
    chunks: partial.chunks + Number(!follows),
    distance: partial.distance + Math.abs(candidate - reference),
  };
}

const better = (a: Partial, b: Partial): number =>
  b.weight - a.weight || a.chunks - b.chunks || a.distance - b.distance;
