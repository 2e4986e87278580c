/** Means, deviations and intervals over seeds and data sets, and which differences stand out from them. */
import { type Interval, accuracyInterval, pairedInterval } from './interval.js';
import type { CompareCell, CompareMethod, CompareResult } from './types.js';

/** The method that sees no training image, and so depends on neither shots nor seeds. */
export const zeroShot = 'zero-shot';

/** What is looked at: one data set or the mean over several, all test rows or one group of them. */
export interface View {
  title: string;
  datasets: readonly string[];
  group?: string;
}

/** Mean of `n` values and their sample standard deviation (n - 1), which one value does not have. */
export interface Spread {
  mean: number;
  deviation?: number;
  n: number;
}

/** One method at one number of shots, over the seeds that were tested. */
export interface ShotSummary {
  shots: number;
  /** 0 … 1. Over data sets: the spread over seeds of the mean over data sets. */
  accuracy: Spread;
  /** 95 %, see `accuracyInterval`. */
  interval: Interval;
  /** Expected calibration error, 0 … 1; of all rows, also for a group. */
  ece: Spread;
  /** Median over cells. */
  seconds: number;
  trainableParameters: number;
}

/** One method; `byShots` goes with `result.shots` and has a gap where no cell was tested. */
export interface MethodSummary extends CompareMethod {
  byShots: (ShotSummary | undefined)[];
}

/** Accuracy minus the reference's, both at the same data set and seed: the support rows are the same. */
export interface Difference {
  /** Over seeds, of the mean over data sets. */
  spread: Spread;
  /**
   * 95 % by Student's t: over the data sets (of the means over seeds) where there are several, so that it speaks of
   * tasks like these; over the seeds of one data set, where it holds what the seed drew alone.
   */
  interval?: Interval;
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

/** The average over all data sets first, where there are several; then every data set. */
export function viewsOf({ datasets }: CompareResult): [View, ...View[]] {
  const names = datasets.map(({ name }) => name);
  const [first, ...more] = names.map((name): View => ({ title: name, datasets: [name] }));
  return more.length === 0 ? [first!] : [{ title: titleOf(names), datasets: names }, first!, ...more];
}

const titleOf = (names: readonly string[]): string =>
  (names.length === 1 ? names[0]! : `average over ${names.length} data sets`);

/** The same for every named group of test rows; the average is over the data sets that have the group. */
export function groupViewsOf({ cells }: CompareResult, { datasets }: View): View[] {
  const own = cells.filter((c) => datasets.includes(c.dataset) && c.groups);
  return [...new Set(own.flatMap((c) => Object.keys(c.groups!)))].map((group) => {
    const having = datasets.filter((name) => own.some((c) => c.dataset === name && c.groups![group]));
    return { title: `${titleOf(having)}, ${group}`, datasets: having, group };
  });
}

/** What was tested of a cell in a view; undefined where the cell has no row of the group. */
const testedOf = (cell: CompareCell, { group }: View): { accuracy: number; rows: number } | undefined =>
  (group === undefined ? cell : cell.groups?.[group]);

/** The cells of one method and number of shots by seed: those seeds that have one for every data set of the view. */
function complete(result: CompareResult, view: View, method: string, shots: number): Map<number, CompareCell[]> {
  const cells = result.cells.filter((c) => c.method === method && c.shots === shots && testedOf(c, view));
  return new Map(result.seeds.flatMap((seed) => {
    const own = view.datasets.map((name) => cells.find((c) => c.seed === seed && c.dataset === name));
    return own.every((c) => c !== undefined) && own.length > 0 ? [[seed, own]] : [];
  }));
}

const mean = (values: readonly number[]): number => spread(values).mean;

/** Statistics per method and number of shots. */
export function summarise(result: CompareResult, view: View = viewsOf(result)[0]): MethodSummary[] {
  return result.methods.map((method) => ({
    ...method,
    byShots: result.shots.map((shots) => {
      const bySeed = complete(result, view, method.name, shots);
      if (bySeed.size === 0) return undefined;
      const seeds = [...bySeed.values()];
      const all = seeds.flat();
      const tested = (cell: CompareCell): { accuracy: number; rows: number } => testedOf(cell, view)!;
      const accuracies = seeds.map((cells) => mean(cells.map((c) => tested(c).accuracy)));
      return {
        shots,
        accuracy: spread(accuracies),
        interval: accuracyInterval(accuracies, view.datasets.map((_, i) => ({
          accuracy: mean(seeds.map((cells) => tested(cells[i]!).accuracy)), rows: tested(seeds[0]![i]!).rows,
        }))),
        ece: spread(seeds.map((cells) => mean(cells.map((c) => c.ece)))),
        seconds: median(all.map((c) => c.seconds)),
        trainableParameters: Math.max(...all.map((c) => c.trainableParameters)),
      };
    }),
  }));
}

/** For every method and number of shots the difference to a reference; absent without a common seed and for itself. */
export function differences(
  result: CompareResult, view: View, reference: string,
): Map<string, (Difference | undefined)[]> {
  return new Map(result.methods.map(({ name }) => [name, result.shots.map((shots): Difference | undefined => {
    if (name === reference) return undefined;
    const other = complete(result, view, reference, shots);
    const pairs = [...complete(result, view, name, shots)].flatMap(([seed, cells]) => {
      const against = other.get(seed);
      return against ? [cells.map((c, i) => testedOf(c, view)!.accuracy - testedOf(against[i]!, view)!.accuracy)] : [];
    });
    if (pairs.length === 0) return undefined;
    const bySeed = pairs.map(mean);
    const byDataset = view.datasets.map((_, i) => mean(pairs.map((row) => row[i]!)));
    const interval = pairedInterval(view.datasets.length > 1 ? byDataset : bySeed);
    return { spread: spread(bySeed), ...(interval && { interval }) };
  })]));
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
