import { stem } from 'porter2';

/** Weights of the modules in the score: the same word, the same stem. */
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
  /** Matches of the same word. */
  readonly exact: number;
  /** Runs that have ended. */
  readonly chunks: number;
  /** The place in the candidate that would continue the run, where one is open. */
  readonly open?: number | undefined;
  readonly distance: number;
}
interface Link {
  readonly match: WordMatch;
  readonly before?: Link;
}

/**
 * METEOR 1.5's alignment and its number of chunks (runs that follow each other in both texts): a search through the
 * reference from left to right, which keeps the 40 partial alignments with the most equal words, among these with the
 * fewest chunks, among these with the least distance. As in the official program, which this follows to the letter,
 * - matches of stems count nothing in the search (it adds their weight of one half to a whole number);
 * - a run counts when it ends, so that the search prefers alignments whose run is still open;
 * - the distance of a match is added to the alternatives that are tried after it, not to its own;
 * - words that can be matched in one way only are matched so, and identical texts by equal words alone.
 */
export function align(
  candidate: readonly string[], reference: readonly string[],
): { matches: WordMatch[]; chunks: number } {
  const choices = choicesOf(candidate, reference);
  const width = candidate.length * reference.length > largestSearch ? 1 : beamWidth;
  let beam: Partial[] = [{ exact: 0, chunks: 0, distance: 0 }];
  const taken = new Uint8Array(candidate.length);
  reference.forEach((word, i) => {
    const { places, only } = choices(word);
    const next: Partial[] = [];
    for (const partial of beam) {
      const links: WordMatch[] = [];
      for (let link = width > 1 ? partial.last : undefined; link; link = link.before) links.push(link.match);
      for (const match of links) taken[match.candidate] = 1;
      let { distance } = partial;
      for (const j of places) {
        if (taken[j]) continue;
        const match = { candidate: j, reference: i, module: candidate[j] === word ? 0 : 1 };
        const further = distance + Math.abs(i - j);
        next.push(extend(partial, match, only ? further : distance));
        distance = further;
      }
      if (!only) next.push({ ...close(partial), distance });
      for (const match of links) taken[match.candidate] = 0;
    }
    beam = best(next, width);
    const chosen = beam[0]?.last?.match;
    if (width === 1 && chosen?.reference === i) taken[chosen.candidate] = 1;
  });
  const found = best(beam.map(close), 1)[0]!;
  const matches: WordMatch[] = [];
  for (let link = found.last; link; link = link.before) matches.push(link.match);
  return { matches, chunks: found.chunks };
}

/**
 * By word of the reference: the places of the candidate that it can be matched with, equal words first, and whether
 * that is a single place, which no other word of the reference can be matched with.
 */
function choicesOf(
  candidate: readonly string[], reference: readonly string[],
): (word: string) => { places: readonly number[]; only: boolean } {
  const identical = candidate.length === reference.length && candidate.every((word, i) => word === reference[i]);
  const keyOf = identical ? (word: string): string => word : stem;
  const places = new Map<string, number[]>();
  candidate.forEach((word, j) => {
    const key = keyOf(word);
    (places.get(key) ?? places.set(key, []).get(key)!).push(j);
  });
  const words = new Map<string, { places: readonly number[]; only: boolean }>();
  const counts = new Map<string, number>();
  for (const key of reference.map(keyOf)) counts.set(key, (counts.get(key) ?? 0) + 1);
  for (const word of new Set(reference)) {
    const all = places.get(keyOf(word)) ?? [];
    words.set(word, {
      places: [...all.filter((j) => candidate[j] === word), ...all.filter((j) => candidate[j] !== word)],
      only: all.length === 1 && counts.get(keyOf(word)) === 1,
    });
  }
  return (word) => words.get(word)!;
}

function extend(partial: Partial, match: WordMatch, distance: number): Partial {
  const follows = partial.open === undefined || partial.open === match.candidate;
  return {
    last: { match, ...(partial.last && { before: partial.last }) },
    exact: partial.exact + Number(match.module === 0),
    chunks: partial.chunks + Number(!follows),
    open: match.candidate + 1,
    distance,
  };
}

const close = (partial: Partial): Partial =>
  ({ ...partial, chunks: partial.chunks + Number(partial.open !== undefined), open: undefined });

/** Of equals those that come first. */
const best = (all: Partial[], width: number): Partial[] =>
  width > 1 ? all.sort(better).slice(0, width) : [all.reduce((a, b) => (better(b, a) < 0 ? b : a))];

const better = (a: Partial, b: Partial): number =>
  b.exact - a.exact || a.chunks - b.chunks || a.distance - b.distance;
