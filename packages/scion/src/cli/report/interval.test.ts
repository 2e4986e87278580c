import { describe, expect, it } from 'vitest';
import { Random } from '../../util/random.js';
import { accuracyInterval, pairedInterval, studentQuantile } from './interval.js';

describe('studentQuantile', () => {
  // tables of Student's distribution, two-sided 95 %
  it.each([[1, 12.7062], [2, 4.30265], [3, 3.18245], [5, 2.57058], [10, 2.22814], [30, 2.04227], [120, 1.97993],
    [1000, 1.96234], [Infinity, 1.95996]])('with %d degrees of freedom is %d', (freedom, t) => {
    expect(studentQuantile(freedom)).toBeCloseTo(t, 4);
  });
  it('falls with every degree, also between whole ones', () => {
    const values = [1, 1.5, 2, 2.7, 4, 9.5, 60, 700, 4999, 5001].map(studentQuantile);
    expect(values).toEqual(values.toSorted((a, b) => b - a));
  });
});

describe('accuracyInterval', () => {
  it('of one seed is that of the test rows', () => {
    // p̃ = 82 / 104, √(p̃ (1 - p̃) / 104) = 0.0400
    const half = 1.959964 * Math.sqrt(((82 / 104) * (22 / 104)) / 104);
    const [low, high] = accuracyInterval([0.8], [{ accuracy: 0.8, rows: 100 }]);
    expect(low).toBeCloseTo(0.8 - half, 6);
    expect(high).toBeCloseTo(0.8 + half, 6);
  });
  it('has a width where all is right or wrong, and stays within 0 and 1', () => {
    expect(accuracyInterval([1, 1], [{ accuracy: 1, rows: 50 }])[0]).toBeLessThan(0.97);
    expect(accuracyInterval([1, 1], [{ accuracy: 1, rows: 50 }])[1]).toBe(1);
    expect(accuracyInterval([0], [{ accuracy: 0, rows: 50 }])[0]).toBe(0);
  });
  it('is as wide as few seeds with many rows ask for', () => {
    // a million rows leave the seeds alone: t of 2 degrees of freedom, s = 0.01
    const [low] = accuracyInterval([0.5, 0.51, 0.49], [{ accuracy: 0.5, rows: 1e9 }]);
    expect(low).toBeCloseTo(0.5 - (4.30265 * 0.01) / Math.sqrt(3), 4);
  });
  it('over data sets is narrower than over one of them', () => {
    const width = ([low, high]: readonly [number, number]): number => high - low;
    const one = { accuracy: 0.8, rows: 100 };
    expect(width(accuracyInterval([0.8], [one, one, one, one]))).toBeCloseTo(width(accuracyInterval([0.8], [one])) / 2, 6);
  });
  it('holds the truth in 95 % of made-up comparisons', () => {
    // each seed shifts the accuracy on all rows, and every row is right by chance
    const [truth, rows, trials] = [0.7, 200, 1500];
    let held = 0;
    for (let i = 0; i < trials; i++) {
      const random = Random.seeded(i);
      const luck = 0.03 * random.child('rows').normal(); // √(0.7 · 0.3 / 200) = 0.032: the rows, common to all seeds
      const means = [1, 2, 3].map((seed) => truth + luck + 0.02 * random.child('seed', seed).normal());
      const [low, high] = accuracyInterval(means, [{ accuracy: means.reduce((a, b) => a + b) / 3, rows }]);
      held += Number(low <= truth && truth <= high);
    }
    expect(held / trials).toBeGreaterThan(0.93);
    expect(held / trials).toBeLessThan(0.985);
  });
});

describe('pairedInterval', () => {
  it('is the paired t interval, and none of one value', () => {
    const interval = pairedInterval([1, 2, 3, 6])!; // mean 3, s² = 14 / 3, t of 3 degrees 3.18245
    expect(interval[0]).toBeCloseTo(3 - 3.18245 * Math.sqrt(14 / 12), 4);
    expect(interval[1]).toBeCloseTo(3 + 3.18245 * Math.sqrt(14 / 12), 4);
    expect(pairedInterval([1])).toBeUndefined();
  });
});
