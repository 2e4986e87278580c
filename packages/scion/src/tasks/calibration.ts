/**
 * Probabilities that can be believed, and when to say "none of these": one temperature, and the confidences of
 * validation rows to compare with.
 */
import { probabilities } from './classification.js';

/** What validation rows tell. */
export interface Calibration {
  /** What logits are divided by. */
  temperature: number;
  /**
   * Confidence (the largest calibrated probability) of validation rows at 101 evenly spaced ranks, from the least to
   * the most confident row.
   */
  confidence: number[];
  /** Validation rows that this comes from. */
  rows: number;
}

/** ln T is searched in ± this. */
const widest = Math.log(100);
const gridSteps = 60;

/**
 * The temperature with the least cross entropy on rows that were not trained on (Guo et al., "On calibration of modern
 * neural networks", ICML 2017), with a normal prior of deviation 1 on ln T that weighs about as much as one row: few
 * rows that are all classified rightly would otherwise ask for T = 0.
 * @param logits [N, K], row after row
 */
export function fitTemperature(logits: Float32Array, labels: Int32Array, classes: number): number {
  const cost = (lnT: number): number => {
    const beta = Math.exp(-lnT);
    let sum = (lnT * lnT) / 2;
    labels.forEach((label, row) => {
      const own = logits.subarray(row * classes, (row + 1) * classes);
      const max = own.reduce((a, b) => Math.max(a, b), -Infinity);
      let total = 0;
      for (const z of own) total += Math.exp((z - max) * beta);
      sum += Math.log(total) - (own[label]! - max) * beta;
    });
    return sum;
  };
  // the cost may have two valleys: a grid finds the deeper one, golden sections its bottom
  const at = (i: number): number => widest * ((2 * i) / gridSteps - 1);
  let best = 0;
  let least = Infinity;
  for (let i = 0; i <= gridSteps; i++) {
    const c = cost(at(i));
    if (c < least) [best, least] = [i, c];
  }
  let [low, high] = [at(Math.max(0, best - 1)), at(Math.min(gridSteps, best + 1))];
  const golden = (Math.sqrt(5) - 1) / 2;
  for (let i = 0; i < 25; i++) {
    const [a, b] = [high - golden * (high - low), low + golden * (high - low)];
    if (cost(a) < cost(b)) high = b;
    else low = a;
  }
  return Math.exp((low + high) / 2);
}

/** Temperature and confidences from validation rows. @param logits [N, K] */
export function calibrate(logits: Float32Array, labels: Int32Array, classes: number): Calibration {
  const temperature = fitTemperature(logits, labels, classes);
  const sorted = Array.from(labels.keys(), (row) =>
    confidenceOf(probabilities(scaled(logits.subarray(row * classes, (row + 1) * classes), temperature))),
  ).sort((a, b) => a - b);
  const confidence = Array.from({ length: 101 }, (_, i) => quantile(sorted, i / 100));
  return { temperature, confidence, rows: labels.length };
}

/** The confidence that the share `keep` of validation rows reaches: what is below is "none of these". */
export function rejectionThreshold({ confidence }: Pick<Calibration, 'confidence'>, keep: number): number {
  return quantile(confidence, 1 - keep);
}

/** The score of a prediction: its largest probability (Hendrycks & Gimpel, ICLR 2017). */
export function confidenceOf(p: Float64Array): number {
  return p.reduce((a, b) => Math.max(a, b), 0);
}

/** Logits over a temperature. */
export function scaled(logits: Float32Array, temperature: number): Float64Array {
  return Float64Array.from(logits, (z) => z / temperature);
}

/** Between the two nearest ranks, linearly. */
function quantile(sorted: readonly number[], share: number): number {
  const at = share * (sorted.length - 1);
  const [below, above] = [sorted[Math.floor(at)]!, sorted[Math.ceil(at)]!];
  return below + (above - below) * (at - Math.floor(at));
}
