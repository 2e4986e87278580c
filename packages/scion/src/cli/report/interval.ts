/** 95 % confidence intervals of accuracies and of differences between them. */

/** From lower to upper limit. */
export type Interval = readonly [number, number];

/**
 * The interval of a mean accuracy over seeds (and over data sets, where there are several), from two sources of doubt:
 * which rows were tested, and what the seed drew.
 *
 * `a ± t · √(V + s²/S)` with `V = 1/D² · Σ p̃ (1 - p̃) / (n + 4)`, `p̃ = (n p + 2) / (n + 4)` over D data sets with n test
 * rows (Agresti and Coull 1998: no width of zero at 0 and 1), s the sample deviation over S seeds, and t Student's 97.5 %
 * quantile with Welch and Satterthwaite's `(V + s²/S)² / ((s²/S)² / (S - 1))` degrees of freedom. With one seed, `s²/S`
 * is left out and the interval holds the test rows alone. Cut to 0 … 1.
 *
 * @param means accuracy of every seed, 0 … 1, at least one
 * @param tested for every data set the mean accuracy and the number of test rows
 */
export function accuracyInterval(
  means: readonly number[], tested: readonly { accuracy: number; rows: number }[],
): Interval {
  const test = tested.reduce((sum, { accuracy, rows }) => {
    const p = (rows * accuracy + 2) / (rows + 4);
    return sum + (p * (1 - p)) / (rows + 4);
  }, 0) / tested.length ** 2;
  const seeds = means.length > 1 ? varianceOfMean(means) : 0;
  const freedom = seeds > 0 ? (test + seeds) ** 2 / (seeds ** 2 / (means.length - 1)) : Infinity;
  const half = studentQuantile(freedom) * Math.sqrt(test + seeds);
  const mean = average(means);
  return [Math.max(0, mean - half), Math.min(1, mean + half)];
}

/**
 * The interval of a mean of paired differences: `d ± t · s / √n`, Student's t with n - 1 degrees of freedom. Undefined
 * for fewer than two values.
 */
export function pairedInterval(differences: readonly number[]): Interval | undefined {
  if (differences.length < 2) return undefined;
  const half = studentQuantile(differences.length - 1) * Math.sqrt(varianceOfMean(differences));
  const mean = average(differences);
  return [mean - half, mean + half];
}

const average = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0) / values.length;

function varianceOfMean(values: readonly number[]): number {
  const mean = average(values);
  return values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (values.length - 1) / values.length;
}

/** From here on Student's distribution is the normal one to four digits. */
const manyDegrees = 5000;
/** Steps of Simpson's rule, and of halving the range. */
const steps = 400;
const halvings = 50;

/**
 * The t that 95 % of Student's distribution lie within, for 1 or more degrees of freedom (1.96 for infinitely many).
 * With `t = √ν · tan θ` the share within t is `∫₀^θ cos^(ν-1) / ∫₀^(π/2) cos^(ν-1)`, whose norm needs no gamma function.
 */
export function studentQuantile(freedom: number): number {
  if (freedom > manyDegrees) return 1.959964;
  const integral = (end: number): number => {
    const value = (x: number): number => Math.max(0, Math.cos(x)) ** (freedom - 1);
    const h = end / steps;
    let sum = value(0) + value(end);
    for (let i = 1; i < steps; i++) sum += (i % 2 ? 4 : 2) * value(i * h);
    return (sum * h) / 3;
  };
  // beyond this the integrand is below 1e-12 of its largest value, and the rule would waste its steps there
  const far = Math.min(Math.PI / 2, Math.acos(Math.min(1, 10 ** (-12 / Math.max(1e-9, freedom - 1)))));
  const wanted = 0.95 * integral(far);
  let [low, high] = [0, far];
  for (let i = 0; i < halvings; i++) {
    const middle = (low + high) / 2;
    if (integral(middle) < wanted) low = middle;
    else high = middle;
  }
  return Math.sqrt(freedom) * Math.tan(low);
}
