/** Means and deviations over seeds, and which differences stand out from them. */
import type { CompareCell, CompareMethod, CompareResult } from './types.js';

/** The method that sees no training image, and so depends on neither shots nor seeds. */
export const zeroShot = 'zero-shot';

/** Mean of `n` values and their sample standard deviation (n - 1), which one value does not have. */
export interface Spread {
  mean: number;
  deviation?: number;
  n: number;
}

/** One method at one number of shots, over the seeds that were tested. */
export interface ShotSummary {
  shots: number;
  /** 0 … 1. */
  accuracy: Spread;
  /** Expected calibration error, 0 … 1. */
  ece: Spread;
  /** Accuracy minus the reference method's at the same seed; absent without a common seed and for the reference. */
  difference?: Spread;
  /** Median over seeds. */
  seconds: number;
  trainableParameters: number;
}

/** One method; `byShots` goes with `result.shots` and has a gap where no cell was tested. */
export interface MethodSummary extends CompareMethod {
  byShots: (ShotSummary | undefined)[];
}

/** The best method of one number of shots, and whether the others are within noise of it. */
export interface Standing {
  shots: number;
  best: MethodSummary;
  /** The spread of the best method. */
  accuracy: Spread;
  /**
   * Methods whose mean is no more than one deviation (the larger of the two) below the best. Absent where the best has
   * no deviation, because it was tested with one seed.
   */
  rivals?: MethodSummary[];
  /** True if the best stands alone: there are other methods and none is a rival. */
  clear: boolean;
}

/** Mean and sample standard deviation of at least one value. */
export function spread(values: readonly number[]): Spread {
  const n = values.length;
  const mean = values.reduce((sum, x) => sum + x, 0) / n;
  if (n < 2) return { mean, n };
  return { mean, deviation: Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (n - 1)), n };
}

/** The middle value, or the mean of the two in the middle, of at least one value. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
}

/**
 * Statistics per method and number of shots.
 * @param reference name of the method that the others are compared with; without it there are no differences
 */
export function summarise(result: CompareResult, reference = zeroShot): MethodSummary[] {
  const cellsOf = (method: string, shots: number) =>
    result.cells.filter((c) => c.method === method && c.shots === shots);
  return result.methods.map((method) => ({
    ...method,
    byShots: result.shots.map((shots) => {
      const cells = cellsOf(method.name, shots);
      if (cells.length === 0) return undefined;
      const differences = method.name === reference ? [] : paired(cells, cellsOf(reference, shots));
      return {
        shots,
        accuracy: spread(cells.map((c) => c.accuracy)),
        ece: spread(cells.map((c) => c.ece)),
        ...(differences.length > 0 && { difference: spread(differences) }),
        seconds: median(cells.map((c) => c.seconds)),
        trainableParameters: Math.max(...cells.map((c) => c.trainableParameters)),
      };
    }),
  }));
}

/** Differences of accuracy at the seeds that both have: the support images are the same, so their luck cancels. */
function paired(cells: CompareCell[], reference: CompareCell[]): number[] {
  return cells.flatMap((cell) => {
    const other = reference.find((r) => r.seed === cell.seed);
    return other ? [cell.accuracy - other.accuracy] : [];
  });
}

/** The standing at every number of shots that has a tested cell, in the order of `byShots`. */
export function standings(methods: readonly MethodSummary[]): Standing[] {
  return (methods[0]?.byShots ?? []).flatMap((_, i): Standing[] => {
    const column = methods.flatMap((method) => {
      const summary = method.byShots[i];
      return summary ? [{ method, summary }] : [];
    });
    if (column.length === 0) return [];
    const best = column.reduce((a, b) => (b.summary.accuracy.mean > a.summary.accuracy.mean ? b : a));
    const { shots, accuracy } = best.summary;
    const { mean, deviation } = accuracy;
    if (deviation === undefined) return [{ shots, best: best.method, accuracy, clear: false }];
    const rivals = column
      .filter((c) => c !== best)
      .filter((c) => mean - c.summary.accuracy.mean <= Math.max(deviation, c.summary.accuracy.deviation ?? 0))
      .map((c) => c.method);
    return [{ shots, best: best.method, accuracy, rivals, clear: rivals.length === 0 && column.length > 1 }];
  });
}
