import { expect, test } from 'vitest';
import { argMax, classificationReport, probabilities } from './classification.js';

test('softmax: sums to 1, does not overflow, and knows the usual values', () => {
  expect([...probabilities([0, Math.log(3)])].map((p) => p.toFixed(12))).toEqual(['0.250000000000', '0.750000000000']);
  const p = probabilities([3000, 3000, -3000]);
  expect([...p]).toEqual([0.5, 0.5, 0]);
});

test('of equal values the first is the largest', () => {
  expect([[1, 3, 3], [5, 5], [-2, -1]].map(argMax)).toEqual([1, 0, 1]);
});

/** Logits whose softmax is `p`. */
const rows = (...p: number[][]): Float32Array => Float32Array.from(p.flat(), Math.log);

test('a report, against values by hand', () => {
  const logits = rows([0.5, 0.25, 0.25], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.78, 0.02]);
  const report = classificationReport(logits, Int32Array.of(0, 1, 1, 0), 3);
  expect(report.accuracy).toBe(0.5);
  expect(report.rows).toBe(4);
  expect(report.loss).toBeCloseTo(-(Math.log(0.5) + Math.log(0.1) + Math.log(0.8) + Math.log(0.2)) / 4, 6);
  expect(report.confusion).toEqual([[1, 1, 0], [1, 1, 0], [0, 0, 0]]);
  expect(report.perClass).toEqual([{ rows: 2, accuracy: 0.5 }, { rows: 2, accuracy: 0.5 }, { rows: 0 }]);
  // bins of 1/15: 0.5 alone in the eighth; 0.8 twice in the thirteenth, one of them right; 0.78 alone in the twelfth, wrong
  expect(report.ece).toBeCloseTo((Math.abs(1 - 0.5) + Math.abs(1 - 1.6) + Math.abs(0 - 0.78)) / 4, 6);
});

test('groups of rows, some rows in none, a group without rows left out', () => {
  const logits = rows([0.5, 0.25, 0.25], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.78, 0.02]);
  const groups = { names: ['seen', 'nobody', 'unseen'], of: Int32Array.of(0, 2, -1, 0) };
  const report = classificationReport(logits, Int32Array.of(0, 1, 1, 0), 3, groups);
  expect(report.groups).toEqual({ seen: { rows: 2, accuracy: 0.5 }, unseen: { rows: 1, accuracy: 0 } });
  expect(classificationReport(logits, Int32Array.of(0, 1, 1, 0), 3)).not.toHaveProperty('groups');
});

test('certainty is in the last bin, and a certain mistake has a finite loss', () => {
  const report = classificationReport(Float32Array.of(1000, 0, 1000, 0), Int32Array.of(0, 1), 2);
  expect(report.ece).toBeCloseTo(0.5, 12);
  expect(report.loss).toBeGreaterThan(300);
  expect(Number.isFinite(report.loss)).toBe(true);
});
