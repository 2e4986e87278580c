/** Numbers and notes as words, the same in every form of the report. */
import type { MethodSummary, ShotSummary, Spread, Standing } from './statistics.js';
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

/** A time in seconds, three digits: `0.0123`, `12.3`. */
export const formatSeconds = (seconds: number): string => brief.format(seconds);

/** A count in three digits: `1.05M`. */
export const formatCompact = (count: number): string => compact.format(count);

/** A count with thousands separated: `1,024`. */
export const formatCount = (count: number): string => grouped.format(count);

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
