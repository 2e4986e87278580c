import { describe, expect, test } from 'vitest';
import { ScionError } from '../util/errors.js';
import { Random } from '../util/random.js';
import { float32 } from '../util/tensor.js';
import type { Split } from './feature-file.js';
import { drawShots, folds, plainRows, rowsByClass, subset, withViews } from './few-shot.js';

/** Rows of the classes mixed; the one feature of a row is its number. */
function split(counts: readonly number[]): Split {
  const labels = Random.seeded(9).shuffle(counts.flatMap((n, k) => new Array<number>(n).fill(k)));
  return { features: float32([labels.length, 1], labels.map((_, i) => i)), labels: Int32Array.from(labels) };
}
const names = ['cat', 'dog', 'owl'];
const counts = [20, 6, 13];
const all = split(counts);
const draw = (shots: number, seed = 1): ReturnType<typeof drawShots> =>
  drawShots(all, names, shots, Random.seeded(seed));
const byClass = (rows: readonly number[]): number[] => counts.map((_, k) =>
  rows.filter((row) => all.labels[row] === k).length);

describe('drawing shots', () => {
  test.each([1, 4, 6, 7, 16, 100, Infinity])('%d: min(n, available) of each class, the others are left', (shots) => {
    const { train, rest } = draw(shots);
    expect(byClass(train)).toEqual(counts.map((n) => Math.min(n, shots)));
    expect([...train, ...rest.flat()].sort((a, b) => a - b)).toEqual(Array.from({ length: 39 }, (_, i) => i));
    rest.forEach((rows, k) => expect(rows.every((row) => all.labels[row] === k)).toBe(true));
  });

  test('more shots of a seed include the fewer', () => {
    for (const [few, more] of [[1, 2], [4, 8], [8, 16], [2, 100]] as const) {
      const larger = new Set(draw(more).train);
      expect(draw(few).train.every((row) => larger.has(row))).toBe(true);
    }
  });

  test('a class is drawn alike whatever the other classes have', () => {
    const other = split([20, 6]);
    const ranks = (s: Split, k: number, rows: readonly number[]): number[] =>
      rows.filter((r) => s.labels[r] === k).map((r) => rowsByClass(s.labels, 3)[k]!.indexOf(r));
    const two = drawShots(other, names.slice(0, 2), 4, Random.seeded(1)).train;
    expect(ranks(other, 0, two)).toEqual(ranks(all, 0, draw(4).train));
  });

  test('the same seed draws the same rows, another seed others', () => {
    expect(draw(4).train).toEqual(draw(4).train);
    expect(draw(4, 2).train).not.toEqual(draw(4).train);
  });

  test('every row of a class is drawn equally often', () => {
    const hits = new Array<number>(39).fill(0);
    for (let seed = 0; seed < 2000; seed++) draw(5, seed).train.forEach((row) => { hits[row]!++; });
    const chi2 = hits.reduce((sum, n, row) => {
      const expected = 2000 * 5 / counts[all.labels[row]!]!;
      return sum + (n - expected) ** 2 / (expected * (1 - 5 / counts[all.labels[row]!]!));
    }, 0);
    expect(chi2).toBeLessThan(80); // 36 degrees of freedom or so: far beyond 99.9 %
  });

  test('classes that are short are named, with what they have', () => {
    expect(draw(6).warnings).toEqual([]);
    expect(draw(16).warnings).toEqual(
      ['fewer than 16 training rows in 2 of 3 classes, all of them are used: "dog" has 6, "owl" has 13']);
  });

  const refusal = (body: () => unknown): ScionError => {
    try {
      body();
    } catch (error) {
      if (error instanceof ScionError) return error;
    }
    return expect.fail('was accepted');
  };

  test('strict: an error for every class that is short', () => {
    const error = refusal(() => drawShots(all, names, 16, Random.seeded(1), { strict: true }));
    expect(error.kind).toBe('usage');
    expect(error.message).toBe('--shots 16: class "dog" has 6 rows; use --shots 6 or fewer\n'
      + '--shots 16: class "owl" has 13 rows; use --shots 6 or fewer');
    expect(drawShots(all, names, 6, Random.seeded(1), { strict: true }).train).toEqual(draw(6).train);
  });

  test('a class without rows is an error, strict or not', () => {
    const error = refusal(() => drawShots(all, [...names, 'elk'], 2, Random.seeded(1), { where: 'f: train.labels' }));
    expect(error.kind).toBe('input');
    expect(error.message).toBe(
      'f: train.labels: class "elk" has no training row, expected at least 1; add some or remove the class');
  });
});

test('a subset has the rows in the order given', () => {
  const part = subset({ features: float32([3, 2], [1, 2, 3, 4, 5, 6]), labels: Int32Array.of(7, 8, 9) }, [2, 0, 2]);
  expect([...part.features.data]).toEqual([5, 6, 1, 2, 5, 6]);
  expect(part.features.shape).toEqual([3, 2]);
  expect([...part.labels]).toEqual([9, 7, 9]);
});

test('folds hold every row once, and each class evenly', () => {
  const parts = folds(all, 3, 4, Random.seeded(1));
  expect(parts.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: 39 }, (_, i) => i));
  counts.forEach((n, k) => {
    const sizes = parts.map((rows) => rows.filter((row) => all.labels[row] === k).length);
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
    expect(sizes.reduce((a, b) => a + b)).toBe(n);
  });
  expect(folds(all, 3, 4, Random.seeded(2))).not.toEqual(parts);
});

describe('several views of a picture', () => {
  // pictures 0 to 4 as plain rows, then two further views of each
  const pictures = Int32Array.from([0, 1, 2, 3, 4, ...[0, 1, 2, 3, 4].flatMap((p) => [p, p])]);
  const labels = Int32Array.from(pictures, (p) => p % 2);
  const viewed: Split = { features: float32([15, 1], Array.from(pictures.keys())), labels, pictures };

  test('the plain row is the first of its picture', () => {
    expect(plainRows(viewed)).toEqual([0, 1, 2, 3, 4]);
    expect(plainRows({ labels })).toEqual(Array.from({ length: 15 }, (_, i) => i));
    expect(withViews(viewed, [3, 0])).toEqual([3, 11, 12, 0, 5, 6]);
    expect(withViews({}, [3, 0])).toEqual([3, 0]);
  });

  test('shots count pictures and are those of the same pictures without views', () => {
    const plain: Split = { features: float32([5, 1], [0, 1, 2, 3, 4]), labels: labels.slice(0, 5) };
    for (const shots of [1, 2, 3, Infinity]) {
      const [a, b] = [viewed, plain].map((s) => drawShots(s, ['even', 'odd'], shots, Random.seeded(3)));
      expect(a!.train).toEqual(b!.train);
      expect(a!.rest).toEqual(b!.rest);
      expect(a!.warnings).toEqual(b!.warnings);
    }
  });

  test('a part keeps its views together, folds hold plain rows only', () => {
    const part = subset(viewed, withViews(viewed, [1, 4]));
    expect(Array.from(part.pictures!)).toEqual([1, 1, 1, 4, 4, 4]);
    expect(Array.from(part.labels)).toEqual([1, 1, 1, 0, 0, 0]);
    expect(folds(viewed, 2, 2, Random.seeded(1)).flat().sort()).toEqual([0, 1, 2, 3, 4]);
  });
});
