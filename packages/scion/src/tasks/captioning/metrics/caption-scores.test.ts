import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ScionError } from '../../../util/errors.js';
import { captionScores, type CaptionExample, type CaptionMetrics } from './caption-scores.js';
import { ptbTokenize } from './ptb-tokenize.js';
import { commonSubsequence } from './rouge-l.js';

const fixture = (name: string): string =>
  readFileSync(new URL(`../../../../../../fixtures/captioning/${name}`, import.meta.url), 'utf8');
type Scores = Record<keyof CaptionMetrics, { score: number; perExample: number[] }>;
const examples = JSON.parse(fixture('examples.json')) as CaptionExample[];
const expected = JSON.parse(fixture('scores.json')) as { all: Scores; one: Scores };
const tokens = fixture('tokens.txt').split('\n');
const metrics = ['bleu1', 'bleu2', 'bleu3', 'bleu4', 'rougeL', 'ciderD', 'meteorExactStem'] as const;

test('tokens are those of the official tokenizer', () => {
  const captions = fixture('captions.txt').trimEnd().split('\n');
  expect(captions.length).toBeGreaterThan(250);
  expect(captions.map((caption) => ptbTokenize(caption).join(' '))).toEqual(tokens.slice(0, captions.length));
});

describe.each([['all', examples], ['one', examples.slice(0, 1)]] as const)('scores of %s', (name, rows) => {
  const scores = captionScores(rows);
  test.each(metrics)('%s is the reference', (metric) => {
    expect(Math.abs(scores[metric] - expected[name][metric].score)).toBeLessThan(1e-9);
    expected[name][metric].perExample.forEach((value, i) => {
      expect(Math.abs(scores.perExample[i]![metric] - value)).toBeLessThan(1e-9);
    });
  });
});

test('no examples, or one without references, is said', () => {
  expect(() => captionScores([])).toThrow(ScionError);
  expect(() => captionScores([{ candidate: 'a', references: [] }])).toThrow('examples[0].references: is empty');
});

test('captions of ten thousand words end, with numbers', () => {
  const long = Array.from({ length: 10_000 }, (_, i) => ['a', 'dog', 'the', `w${i % 50}`][(i * 7) % 4]).join(' ');
  const scores = captionScores([{ candidate: long, references: [long, 'a dog'] }]);
  expect(scores.rougeL).toBe(1);
  expect(metrics.every((metric) => Number.isFinite(scores[metric]))).toBe(true);
}, 60_000);

test('a common subsequence need not be connected', () => {
  expect(commonSubsequence(['a', 'x', 'b', 'c'], ['b', 'a', 'b', 'y', 'c'])).toBe(3);
});
