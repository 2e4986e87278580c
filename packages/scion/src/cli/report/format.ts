/** Numbers and notes as words, the same in every form of the report. */
import type { Interval } from './interval.js';
import type { Difference, MethodSummary, ShotSummary, Spread, Standing, View } from './statistics.js';
import type { CompareResult } from './types.js';

const decimals = { minimumFractionDigits: 2, maximumFractionDigits: 2, useGrouping: false } as const;
const plain = new Intl.NumberFormat('en', decimals);
const signed = new Intl.NumberFormat('en', { ...decimals, signDisplay: 'exceptZero' });
const grouped = new Intl.NumberFormat('en');
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });
const brief = new Intl.NumberFormat('en', { maximumSignificantDigits: 3, useGrouping: false });

/** What stands in a table where no cell was tested. */
export const missing = '–';

/** A fraction as per cent, without the sign: `76.22`. */
export const percent = (fraction: number): string => plain.format(100 * fraction);

/** Per cent with deviation, where there is one: `76.22 ± 0.31`. */
export function formatSpread(value: Spread | undefined, sign = false): string {
  if (!value) return missing;
  const mean = (sign ? signed : plain).format(100 * value.mean);
  return value.deviation === undefined ? mean : `${mean} ± ${percent(value.deviation)}`;
}

/** A difference as points with its sign: `+1.20`. */
export const formatPoints = (difference: number): string => signed.format(100 * difference);

/** Limits in per cent: `[74.10, 78.34]`. */
export function formatInterval(interval: Interval | undefined, format: (limit: number) => string = percent): string {
  return interval ? `[${interval.map(format).join(', ')}]` : missing;
}

/** A difference in percentage points with its interval: `+1.20 [-0.31, +2.71]`. */
export function formatDifference(difference: Difference | undefined): string {
  if (!difference) return missing;
  const { spread, interval } = difference;
  return `${formatPoints(spread.mean)}${interval ? ` ${formatInterval(interval, formatPoints)}` : ''}`;
}

/** A time in seconds, three digits: `0.0123`, `12.3`. */
export const formatSeconds = (seconds: number): string => brief.format(seconds);

/** A count in three digits: `1.05M`. */
export const formatCompact = (count: number): string => compact.format(count);

/** A count with thousands separated: `1,024`. */
export const formatCount = (count: number): string => grouped.format(count);

/** What the numbers of a view are: `mean ± deviation over 3 seeds`. */
export function formatSpreadKind({ seeds }: CompareResult, { datasets }: View): string {
  const over = datasets.length > 1 ? ' of the mean over the data sets' : '';
  return seeds.length === 1 ? 'one seed' : `mean ± deviation over ${seeds.length} seeds${over}`;
}

/** What an interval holds, in words. */
export function intervalKind({ seeds }: CompareResult): string {
  return seeds.length === 1 ? 'the test rows alone, since one seed was tested' : 'the test rows and the draws of the seeds';
}

/** What the interval of a difference speaks of, in words. */
export const differenceKind = ({ datasets }: View): string => (datasets.length > 1
  ? `Student's t over ${datasets.length} data sets` : "Student's t over the seeds, without the doubt of the test rows");

export const formatShots = (shots: number): string => (shots === 1 ? '1 shot' : `${shots} shots`);

/** The smallest and the largest of a quantity over the shots: `5.12K–81.9K`, or one value where they are the same. */
export function formatRange(
  method: MethodSummary, quantity: (summary: ShotSummary) => number, format: (value: number) => string,
): string {
  const values = method.byShots.flatMap((s) => (s ? [quantity(s)] : []));
  if (values.length === 0) return missing;
  return [...new Set([Math.min(...values), Math.max(...values)].map(format))].join('–');
}

/**
 * What a reader of the accuracy table has to know about its doubts, one line per kind.
 * @param mark how a best is marked
 */
export function notes(
  { seeds, shots }: CompareResult, methods: readonly MethodSummary[], standings: readonly Standing[], mark: string,
): string[] {
  const lines: string[] = [];
  if (standings.some((s) => s.clear)) lines.push(`${mark}: best by more than one deviation.`);
  const close = standings.filter((s) => s.rivals?.length).map((s) =>
    `${formatShots(s.shots)}: ${[s.best, ...s.rivals!].map((m) => m.title).join(', ')}`);
  if (close.length > 0) lines.push(`Within noise of each other: ${close.join('; ')}.`);
  const single = standings.filter((s) => !s.rivals).map((s) => formatShots(s.shots));
  if (single.length > 0) lines.push(`No deviation, hence no best marked (one seed): ${single.join(', ')}.`);
  const incomplete = methods.flatMap(({ title, byShots }) => byShots.flatMap((s, i) => {
    const n = s?.accuracy.n ?? 0;
    return n < seeds.length ? [`${title} at ${formatShots(shots[i]!)} (${n} of ${seeds.length})`] : [];
  }));
  if (incomplete.length > 0) lines.push(`Fewer seeds than planned: ${incomplete.join(', ')}.`);
  return lines;
}
