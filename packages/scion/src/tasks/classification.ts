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

export interface ClassificationReport extends ClassificationMetrics {
  /** By class: rows, accuracy (absent without rows). */
  perClass: { rows: number; accuracy?: number }[];
  /** `confusion[label][prediction]` */
  confusion: number[][];
}

const bins = 15;

/** Softmax of one row, in double precision. */
export function probabilities(logits: ArrayLike<number>): Float64Array {
  let max = -Infinity;
  for (let i = 0; i < logits.length; i++) max = Math.max(max, logits[i]!);
  const p = Float64Array.from(logits, (x) => Math.exp(x - max));
  const sum = p.reduce((a, b) => a + b, 0);
  return p.map((x) => x / sum);
}

/** Index of the largest value; the first one of equals. */
export function argMax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

export function classificationReport(
  logits: Float32Array | Float64Array, labels: Int32Array, classes: number,
): ClassificationReport {
  const confusion = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  const counts = new Float64Array(bins);
  const hits = new Float64Array(bins);
  const confidence = new Float64Array(bins);
  let loss = 0;
  labels.forEach((label, row) => {
    const p = probabilities(logits.subarray(row * classes, (row + 1) * classes));
    const prediction = argMax(p);
    confusion[label]![prediction]!++;
    const bin = Math.min(bins - 1, Math.floor(p[prediction]! * bins));
    counts[bin]!++;
    hits[bin]! += Number(prediction === label);
    confidence[bin]! += p[prediction]!;
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
  };
}
