/** Rules of constants: found where all sizes follow them, and nowhere else. */
import { describe, expect, test } from 'vitest';
import { type DType, fromFloat64, numel } from '../util/tensor.js';
import { type Listed, patternOf } from './pattern.js';

const made = (dtype: DType, shape: number[], at: (places: number[]) => number): Listed => ({
  dtype, shape, values: Float64Array.from({ length: numel(shape) }, (_, i) =>
    at(shape.map((length, axis) => Math.floor(i / numel(shape.slice(axis + 1))) % length))),
});
/** The same constant for n of 4, 5 and 7. */
const sizes = (dtype: DType, shape: (n: number) => number[], at: (places: number[], n: number) => number): Listed[] =>
  [4, 5, 7].map((n) => made(dtype, shape(n), (places) => at(places, n)));

describe('the rule of a constant', () => {
  test.each([
    ['one number', sizes('int64', (n) => [n, 3, n], () => 6),
      { kind: 'same', values: fromFloat64('int64', [1, 1, 1], Float64Array.of(6)) }],
    ['a row for each', sizes('float32', (n) => [n, 3], ([, j]) => j! * j!),
      { kind: 'same', values: fromFloat64('float32', [1, 3], Float64Array.of(0, 1, 4)) }],
    ['places along an axis', sizes('int64', (n) => [3, n, 1], ([, j]) => j!), { kind: 'range', axis: 1 }],
    ['a causal mask', sizes('float32', (n) => [n, 1, n, n], ([, , i, j]) => (j! > i! ? -Infinity : 0)),
      { kind: 'triangle', axes: [2, 3], from: 1, before: 0, after: -Infinity }],
    ['a mask that lets the diagonal out', sizes('bool', (n) => [n, n], ([i, j]) => Number(j! < i!)),
      { kind: 'triangle', axes: [0, 1], from: 0, before: 1, after: 0 }],
  ])('%s', (_, all, expected) => expect(patternOf(all)).toEqual(expected));

  test.each([
    ['squares', sizes('int64', (n) => [n], ([i]) => i! * i!)],
    ['a band', sizes('bool', (n) => [n, n], ([i, j]) => Number(Math.abs(i! - j!) < 2))],
    ['numbers that depend on the size', sizes('int64', (n) => [n, n], (_, n) => n)],
    ['places backwards', sizes('int64', (n) => [n], ([i], n) => n - 1 - i!)],
    ['a mask that depends on the size', sizes('bool', (n) => [n, n], ([i, j], n) => Number(j! - i! > n - 3))],
    ['two axes that are not alike', sizes('int64', (n) => [n, 3], ([i, j]) => i! + j!)],
  ])('is not found for %s', (_, all) => expect(patternOf(all)).toBeUndefined());
});
