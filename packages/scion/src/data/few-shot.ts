/** Few-shot sampling: n images per class, and a validation set that training never sees. */
import { ScionError, type Issue } from '../util/errors.js';
import type { Random } from '../util/random.js';
import { float32 } from '../util/tensor.js';
import type { Split } from './feature-file.js';

/** The row numbers of each class, in the order of the file. */
export function rowsByClass(labels: Int32Array, classes: number): number[][] {
  const rows: number[][] = Array.from({ length: classes }, () => []);
  labels.forEach((label, row) => rows[label]!.push(row));
  return rows;
}

/** The rows of plain views: the first one of each picture. */
export function plainRows({ labels, pictures }: Pick<Split, 'labels' | 'pictures'>): number[] {
  const seen = new Set<number>();
  return Array.from(labels.keys()).filter((row) => {
    if (!pictures) return true;
    const known = seen.has(pictures[row]!);
    seen.add(pictures[row]!);
    return !known;
  });
}

/** The given plain rows, each followed by the further views of its picture. */
export function withViews({ pictures }: Pick<Split, 'pictures'>, rows: readonly number[]): readonly number[] {
  if (!pictures) return rows;
  const views = new Map<number, number[]>(rows.map((row) => [pictures[row]!, []]));
  pictures.forEach((picture, row) => views.get(picture)?.push(row));
  return rows.flatMap((row) => views.get(pictures[row]!)!);
}

/** Some rows of a split, in the given order. */
export function subset({ features, labels, pictures, images }: Split, rows: readonly number[]): Split {
  const dim = features.shape[1]!;
  const out = new Float32Array(rows.length * dim);
  rows.forEach((row, i) => out.set(features.data.subarray(row * dim, (row + 1) * dim), i * dim));
  const pick = (of: Int32Array): Int32Array => Int32Array.from(rows, (row) => of[row]!);
  return {
    features: float32([rows.length, dim], out), labels: pick(labels), ...(pictures && { pictures: pick(pictures) }),
    ...(images && { images: rows.map((row) => images[row]!) }),
  };
}

export interface FewShot {
  /** Rows of the training split, by class; of pictures with several views the plain one. */
  train: readonly number[];
  /** Rows of the training split that are left, by class. */
  rest: readonly number[][];
  warnings: readonly string[];
}

/**
 * Draws `min(shots, available)` pictures per class; each class has a random stream of its own, and more shots include
 * the fewer ones of the same seed. `strict` makes a class with too few rows an error; `where` names the labels in
 * errors.
 * @throws ScionError of kind `input` for a class without any row, of kind `usage` under `strict`
 */
export function drawShots(
  split: Split, classNames: readonly string[], shots: number, random: Random,
  { strict = false, where = 'train.labels' } = {},
): FewShot {
  const train: number[] = [];
  const rest: number[][] = [];
  const issues: Issue[] = [];
  const short: string[] = [];
  const plain = new Set(plainRows(split));
  const available = rowsByClass(split.labels, classNames.length).map((rows) => rows.filter((row) => plain.has(row)));
  const least = Math.min(...available.map((rows) => rows.length));
  available.forEach((rows, k) => {
    const name = JSON.stringify(classNames[k]);
    if (rows.length === 0) {
      issues.push({ path: where, message: `class ${name} has no training row, expected at least 1; add some or remove the class` });
    } else if (rows.length < shots) {
      short.push(`${name} has ${rows.length}`);
      if (strict) {
        issues.push({ path: `--shots ${shots}`, message: `class ${name} has ${rows.length} rows; use --shots ${least} or fewer` });
      }
    }
    const order = random.child('shots', k).shuffle(rows);
    train.push(...order.slice(0, shots));
    rest.push(order.slice(shots));
  });
  if (issues.length > 0) throw new ScionError(least > 0 ? 'usage' : 'input', issues);
  const warnings = short.length
    ? [`fewer than ${shots} training rows in ${short.length} of ${classNames.length} classes, all of them are used: `
      + `${short.slice(0, 5).join(', ')}${short.length > 5 ? ', …' : ''}`]
    : [];
  return { train, rest, warnings };
}

/** Stratified folds: the i-th picture of every class goes to fold `i mod k`. Gives the plain rows of each fold. */
export function folds(
  split: Pick<Split, 'labels' | 'pictures'>, classes: number, k: number, random: Random,
): number[][] {
  const parts: number[][] = Array.from({ length: k }, () => []);
  const plain = new Set(plainRows(split));
  rowsByClass(split.labels, classes).map((rows) => rows.filter((row) => plain.has(row))).forEach((rows, c) => {
    random.child('folds', c).shuffle(rows).forEach((row, i) => parts[i % k]!.push(row));
  });
  return parts;
}
