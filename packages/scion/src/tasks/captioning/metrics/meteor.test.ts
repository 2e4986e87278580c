import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { align } from './meteor-alignment.js';
import { meteorWords } from './meteor-words.js';
import { meteorExactStem } from './meteor.js';

interface Drawn {
  score: number;
  examples: { candidate: string; references: string[]; score: number }[];
}
const drawn = JSON.parse(readFileSync(
  new URL('../../../../../../fixtures/captioning/meteor.json', import.meta.url), 'utf8')) as Drawn;

test('texts drawn at random have the scores of the official program, each and together', () => {
  const words = (text: string): string[] => text.split(' ');
  const found = meteorExactStem(drawn.examples.map(({ candidate, references }) =>
    ({ candidate: words(candidate), references: references.map(words) })));
  expect(drawn.examples.length).toBeGreaterThan(500);
  const off = drawn.examples.filter(({ score }, i) => !(Math.abs(found.perExample[i]! - score) < 1e-9));
  expect(off).toEqual([]);
  expect(Math.abs(found.score - drawn.score)).toBeLessThan(1e-9);
});

test.each([
  ['city child ran', 'cities children run', [[0, 0, 1]], 1],
  // a run that goes on is better than the same word elsewhere
  ['a dog and a cat', 'a cat', [[3, 0, 0], [4, 1, 0]], 1],
  ['abruptly', 'abrupt', [[0, 0, 1]], 1],
  // identical texts are matched by equal words alone
  ['run runs run', 'run runs run', [[0, 0, 0], [1, 1, 0], [2, 2, 0]], 1],
  ['a b', 'c', [], 0],
])('%s is aligned with %s', (candidate, reference, wanted, chunks) => {
  const found = align(candidate.split(' '), reference.split(' '));
  const links = found.matches.map((m) => [m.candidate, m.reference, m.module]).sort((a, b) => a[1]! - b[1]!);
  expect({ links, chunks: found.chunks }).toEqual({ links: wanted, chunks });
});

// as the official Normalizer writes them
test.each([
  ["wi-fi -lrb- is n't 50% & co", ['wi', 'fi', '-lrb-', 'is', 'n', "'t", '50', '%', '&', 'co']],
  ['the u.s. and st. john vs. 3,000 ...', ['the', 'us', 'and', 'st.', 'john', 'vs.', '3,000', '...']],
  ["o'clock mr. 5", ['o', "'clock", 'mr', '.', '5']],
  ['pp. 5 no. 5', ['pp.', '5', 'no', '.', '5']],
])('METEOR compares the words of %s', (text, words) => {
  expect(meteorWords(text.split(' '))).toEqual(words);
});
