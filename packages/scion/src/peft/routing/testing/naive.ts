/** The routing functions of one example as the paper writes them, with matrices of numbers: the oracle of the tests. */
import type { RoutingFunction } from '../layer.js';

type Matrix = readonly (readonly number[])[];

const product = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => b[0]!.map((_, j) => row.reduce((sum, value, k) => sum + value * b[k]![j]!, 0)));
const transposed = (a: Matrix): Matrix => a[0]!.map((_, j) => a.map((row) => row[j]!));
const relu = (a: Matrix): Matrix => a.map((row) => row.map((value) => Math.max(0, value)));
const meanRow = (a: Matrix): number[] => a[0]!.map((_, j) => a.reduce((sum, row) => sum + row[j]! / a.length, 0));
/** The same numbers in their order, in rows of another length. */
const reread = (a: Matrix, columns: number): Matrix => {
  const all = a.flat();
  return Array.from({ length: all.length / columns }, (_, i) => all.slice(i * columns, (i + 1) * columns));
};

/** t [S, r] and v [n, r] of one example → [S, r] */
export function naiveRouting(name: RoutingFunction, t: Matrix, v: Matrix): Matrix {
  const rows = t.map(() => meanRow(v)); // x'_v
  switch (name) {
    case 'add': return t.map((row, i) => row.map((value, j) => value + rows[i]![j]!));
    case 'mul': return t.map((row, i) => row.map((value, j) => value * rows[i]![j]!));
    case 'expand': return product(t, t[0]!.map(() => meanRow(v))); // x''_v [r, r]
    case 'attend': return product(product(t, transposed(v)), v);
    case 'attend-relu': return product(product(relu(t), transposed(relu(v))), v);
    case 'self': return product(product(t, reread(t, t.length)), rows);
  }
}
