/** Classification: metrics of logits [N, K] against labels [N]. */

export interface ClassificationMetrics {
  /** Share of rows whose largest logit is at the label, 0 … 1. */
  accuracy: number;
  /** Mean cross entropy, in nats. */
  loss: number;
  /** Expected calibration error over 15 bins of equal width (Guo et al., ICML 2017), 0 … 1. */
  ece: number;
  rows: number;
}

/** Named groups of rows: for each row its place in `names`, -1 for none. */
interface Groups {
  readonly names: readonly string[];
  readonly of: Int32Array;
}

export interface ClassificationReport extends ClassificationMetrics {
  /** By class: rows, accuracy (absent without rows). */
  perClass: { rows: number; accuracy?: number }[];
  /** `confusion[label][prediction]` */
  confusion: number[][];
  /** By name of group: rows and accuracy; absent without groups. */
  groups?: Record<string, { rows: number; accuracy: number }>;
}

const bins = 15;

/** Softmax of one row, in double precision. */
export function probabilities(logits: ArrayLike<number>): Float64Array {
  return softmaxInto(new Float64Array(logits.length), logits, 0);
}

/** The same of the row that starts at `from`, without an array of its own: this is the inner loop of validation. */
function softmaxInto(p: Float64Array, logits: ArrayLike<number>, from: number): Float64Array {
  let max = -Infinity;
  for (let i = 0; i < p.length; i++) max = Math.max(max, logits[from + i]!);
  let sum = 0;
  for (let i = 0; i < p.length; i++) sum += p[i] = Math.exp(logits[from + i]! - max);
  for (let i = 0; i < p.length; i++) p[i]! /= sum;
  return p;
}

/** Index of the largest value; the first one of equals. */
export function argMax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

/** @param groups groups of the rows, whose accuracy is given apart; those without a row are left out */
export function classificationReport(
  logits: Float32Array | Float64Array, labels: Int32Array, classes: number, groups?: Groups,
): ClassificationReport {
  const confusion = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  const counts = new Float64Array(bins);
  const hits = new Float64Array(bins);
  const confidence = new Float64Array(bins);
  const inGroup = groups?.names.map(() => ({ rows: 0, correct: 0 })) ?? [];
  const p = new Float64Array(classes);
  let loss = 0;
  labels.forEach((label, row) => {
    softmaxInto(p, logits, row * classes);
    const prediction = argMax(p);
    confusion[label]![prediction]!++;
    const bin = Math.min(bins - 1, Math.floor(p[prediction]! * bins));
    counts[bin]!++;
    hits[bin]! += Number(prediction === label);
    confidence[bin]! += p[prediction]!;
    const group = inGroup[groups?.of[row] ?? -1];
    if (group) {
      group.rows++;
      group.correct += Number(prediction === label);
    }
    loss -= Math.log(Math.max(p[label]!, Number.MIN_VALUE));
  });
  const rows = labels.length;
  const correct = confusion.reduce((sum, line, k) => sum + line[k]!, 0);
  return {
    accuracy: correct / rows,
    loss: loss / rows,
    ece: counts.reduce((sum, n, i) => sum + (n ? Math.abs(hits[i]! - confidence[i]!) : 0), 0) / rows,
    rows,
    perClass: confusion.map((line, k) => {
      const n = line.reduce((a, b) => a + b, 0);
      return n ? { rows: n, accuracy: line[k]! / n } : { rows: 0 };
    }),
    confusion,
    ...(groups && {
      groups: Object.fromEntries(inGroup.flatMap(({ rows, correct }, i) =>
        (rows > 0 ? [[groups.names[i]!, { rows, accuracy: correct / rows }]] : []))),
    }),
  };
}
