import { describe, expect, test } from 'vitest';
import { tinyContent } from '../../test/support/features.js';
import type { FeatureFile, Split } from '../data/feature-file.js';
import { float32 } from '../util/tensor.js';
import { combinations, prepareRows } from './select.js';

const file = (options: Parameters<typeof tinyContent>[0]): FeatureFile => ({
  ...tinyContent(options),
  path: 'f',
  digest: '',
  dim: 8,
  notes: [],
});
const large = file({ train: [20, 15, 12] });
type Asked = Parameters<typeof prepareRows>[1];
const prepare = (f: FeatureFile, asked: Partial<Asked>) =>
  prepareRows(f, { shots: 4, seed: 1, validation: 'auto', strict_shots: false, ...asked });

/** A row by its numbers: no two are alike. */
const keys = ({ features: { data, shape } }: Split): string[] =>
  Array.from({ length: shape[0]! }, (_, r) => data.slice(r * shape[1]!, (r + 1) * shape[1]!).join());
const perClass = ({ labels }: Split): number[] => [0, 1, 2].map((k) => labels.filter((l) => l === k).length);
const disjoint = (a: Split, b: Split): void => {
  const inB = new Set(keys(b));
  expect(keys(a).filter((key) => inB.has(key))).toEqual([]);
};

describe('a held-out set', () => {
  test.each([
    [1, 1],
    [2, 2],
    [4, 4],
    [8, 4],
  ])('%d shots: %d rows a class that training does not see', (shots, held) => {
    const { support, validation, pairs, warnings } = prepare(large, { shots });
    expect(validation).toBe('holdout');
    expect(pairs).toHaveLength(1);
    expect(perClass(support)).toEqual([shots, shots, shots]);
    expect(perClass(pairs[0]!.val)).toEqual([held, held, held]);
    disjoint(support, pairs[0]!.val);
    expect(warnings).toEqual([]);
  });

  test('all rows: a fifth of each class is kept back, four at most', () => {
    const { support, pairs } = prepare(large, { shots: 'all' });
    expect(perClass(pairs[0]!.val)).toEqual([4, 3, 2]);
    expect(perClass(support)).toEqual([16, 12, 10]);
    disjoint(support, pairs[0]!.val);
  });

  test("the file's own validation rows come first", () => {
    const own = file({ train: [4, 4, 4], val: 6 });
    const { support, validation, pairs } = prepare(own, {});
    expect(validation).toBe('holdout');
    expect(perClass(support)).toEqual([4, 4, 4]);
    expect(perClass(pairs[0]!.val)).toEqual([4, 4, 4]);
    const theirs = new Set(keys(own.val!));
    expect(keys(pairs[0]!.val).every((key) => theirs.has(key))).toBe(true);
    expect(perClass(prepare(own, { shots: 'all' }).pairs[0]!.val)).toEqual([6, 6, 6]);
  });

  test('a class without validation rows in the file is no obstacle', () => {
    const own = file({ train: [4, 4, 4], val: 3 });
    const val = { features: own.val!.features, labels: own.val!.labels.map((k) => Math.min(k, 1)) };
    expect(perClass(prepare({ ...own, val }, { shots: 4 }).pairs[0]!.val)).toEqual([3, 4, 0]);
  });

  test('more shots train on what fewer shots did', () => {
    const [four, eight] = [prepare(large, { shots: 4 }).support, prepare(large, { shots: 8 }).support];
    const more = new Set(keys(eight));
    expect(keys(four).every((key) => more.has(key))).toBe(true);
  });
});

describe('cross-validation', () => {
  test.each([
    { counts: [6, 6, 6], shots: 6, k: 4 },
    { counts: [20, 3, 9], shots: 16, k: 3 },
    { counts: [5, 2, 2], shots: 8, k: 2 },
  ])('$counts with $shots shots: $k folds', ({ counts, shots, k }) => {
    const { support, validation, pairs } = prepare(file({ train: counts }), { shots });
    expect(validation).toBe('kfold');
    expect(pairs).toHaveLength(k);
    expect(perClass(support)).toEqual(counts.map((n) => Math.min(n, shots)));
    for (const { train, val } of pairs) {
      disjoint(train, val);
      expect([...keys(train), ...keys(val)].sort()).toEqual(keys(support).sort());
      expect(Math.min(...perClass(train), ...perClass(val))).toBeGreaterThan(0);
    }
    expect(pairs.flatMap((p) => keys(p.val)).sort()).toEqual(keys(support).sort());
  });

  test('on request, although rows are left', () => {
    expect(prepare(large, { validation: 'kfold' })).toMatchObject({ validation: 'kfold', warnings: [] });
  });

  test('one row in a class: nothing is chosen, and that is said', () => {
    const { validation, pairs, warnings } = prepare(file({ train: [8, 1, 8] }), {});
    expect({ validation, pairs }).toEqual({ validation: 'none', pairs: [] });
    expect(warnings.join()).toContain('nothing is chosen on validation, published values are used');
  });
});

test('none: all drawn rows are trained on', () => {
  const { support, validation, pairs, warnings } = prepare(large, { validation: 'none', shots: 'all' });
  expect({ validation, pairs, warnings }).toEqual({ validation: 'none', pairs: [], warnings: [] });
  expect(perClass(support)).toEqual([20, 15, 12]);
});

test('a grid in order, the last name fastest', () => {
  expect(combinations({ a: [1, 2], b: [3, 4] })).toEqual([
    { a: 1, b: 3 },
    { a: 1, b: 4 },
    { a: 2, b: 3 },
    { a: 2, b: 4 },
  ]);
  expect(combinations({})).toEqual([{}]);
});

describe('several views of a picture', () => {
  // each training row twice more, slightly moved
  const viewed = (plain: FeatureFile): FeatureFile => {
    const { features, labels } = plain.train!;
    const rows = labels.length;
    const train: Split = {
      features: float32([3 * rows, 8], [0, 1, 2].flatMap((v) => Array.from(features.data, (x) => x + v * 1e-3))),
      labels: Int32Array.from({ length: 3 * rows }, (_, i) => labels[i % rows]!),
      pictures: Int32Array.from({ length: 3 * rows }, (_, i) => i % rows),
    };
    return { ...plain, train };
  };

  test.each([
    ['holdout', { shots: 4 }, 4, 4],
    ['holdout', { shots: 'all' as const }, undefined, undefined],
    ['kfold', { shots: 12, validation: 'kfold' as const }, 12, 3],
  ])('%s: validation has plain views alone, of pictures that training has no view of', (how, asked, shots, held) => {
    const plain = prepare(large, asked);
    const { support, validation, pairs } = prepare(viewed(large), asked);
    expect(validation).toBe(how);
    expect(perClass(support)).toEqual(perClass(plain.support).map((n) => 3 * n));
    if (shots !== undefined) expect(perClass(support)).toEqual([shots, shots, shots].map((n) => 3 * n));
    pairs.forEach(({ train, val }, i) => {
      if (held !== undefined) expect(perClass(val)).toEqual([held, held, held]);
      const originals = new Set(keys(large.train!));
      expect(keys(val).every((key) => originals.has(key))).toBe(true);
      expect(keys(val).sort()).toEqual(keys(plain.pairs[i]!.val).sort());
      const seen = new Set(train.pictures);
      expect([...val.pictures!].filter((p) => seen.has(p))).toEqual([]);
      expect(train.labels.length % 3).toBe(0);
    });
  });
});
