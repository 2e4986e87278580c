/**
 * L-BFGS with a line search by the strong Wolfe conditions (Nocedal and Wright, Numerical Optimization, 2nd edition,
 * algorithms 7.4, 3.5 and 3.6), for smooth objectives that are evaluated as a whole.
 */
export interface Evaluation {
  value: number;
  gradient: Float64Array;
}

export interface LbfgsOptions {
  iterations: number;
  /** Stops where the gradient's largest element falls below this. */
  tolerance?: number;
  /** Pairs that approximate the curvature. */
  memory?: number;
  onIteration?: (iteration: number, value: number) => void;
}

const dot = (a: Float64Array, b: Float64Array): number => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
};
const along = (x: Float64Array, step: number, direction: Float64Array): Float64Array => {
  const out = new Float64Array(x.length);
  for (let i = 0; i < x.length; i++) out[i] = x[i]! + step * direction[i]!;
  return out;
};
const difference = (a: Float64Array, b: Float64Array): Float64Array => along(a, -1, b);

/** Minimises `evaluate` from `start`; gives the point reached, its value and whether the tolerance was met. */
export async function lbfgs(
  evaluate: (x: Float64Array) => Promise<Evaluation>,
  start: Float64Array,
  options: LbfgsOptions,
): Promise<{ x: Float64Array; value: number; converged: boolean; iterations: number }> {
  const { iterations, tolerance = 1e-5, memory = 10 } = options;
  let x = start;
  let here = await evaluate(x);
  const pairs: { s: Float64Array; y: Float64Array; rho: number }[] = [];
  const flat = ({ gradient }: Evaluation): boolean => gradient.every((g) => Math.abs(g) < tolerance);
  for (let k = 0; k < iterations; k++) {
    if (flat(here)) return { x, value: here.value, converged: true, iterations: k };
    let direction = descent(here.gradient, pairs);
    if (dot(direction, here.gradient) >= 0) {
      // rounding has spoilt the curvature: start afresh
      pairs.length = 0;
      direction = here.gradient.map((g) => -g);
    }
    const first = pairs.length === 0 ? Math.min(1, 1 / Math.sqrt(dot(here.gradient, here.gradient))) : 1;
    const found = await wolfe(evaluate, x, here, direction, first);
    // no further progress within the evaluation's precision
    if (!found) return { x, value: here.value, converged: flat(here), iterations: k };
    const s = difference(found.x, x);
    const y = difference(found.at.gradient, here.gradient);
    const curvature = dot(s, y);
    if (curvature > 1e-12 * dot(y, y)) {
      pairs.push({ s, y, rho: 1 / curvature });
      if (pairs.length > memory) pairs.shift();
    }
    x = found.x;
    here = found.at;
    options.onIteration?.(k + 1, here.value);
  }
  return { x, value: here.value, converged: flat(here), iterations };
}

/** The two-loop recursion: minus the approximate inverse Hessian times the gradient. */
function descent(
  gradient: Float64Array,
  pairs: readonly { s: Float64Array; y: Float64Array; rho: number }[],
): Float64Array {
  let q: Float64Array = Float64Array.from(gradient);
  const alphas: number[] = [];
  for (const { s, y, rho } of [...pairs].reverse()) {
    const alpha = rho * dot(s, q);
    alphas.push(alpha);
    q = along(q, -alpha, y);
  }
  const last = pairs.at(-1);
  if (last) {
    const scale = dot(last.s, last.y) / dot(last.y, last.y);
    q = q.map((v) => v * scale);
  }
  for (const { s, y, rho } of pairs) q = along(q, alphas.pop()! - rho * dot(y, q), s);
  return q.map((v) => -v);
}

interface Point {
  x: Float64Array;
  at: Evaluation;
}

/** A step that lowers the value enough and flattens the slope; undefined where rounding leaves none. */
async function wolfe(
  evaluate: (x: Float64Array) => Promise<Evaluation>,
  x: Float64Array,
  here: Evaluation,
  direction: Float64Array,
  first: number,
): Promise<Point | undefined> {
  const [c1, c2] = [1e-4, 0.9];
  const slope0 = dot(here.gradient, direction);
  let [low, high] = [0, Infinity];
  let step = first;
  let best: Point | undefined;
  for (let tries = 0; tries < 25; tries++) {
    const point = along(x, step, direction);
    const at = await evaluate(point);
    if (!Number.isFinite(at.value) || at.value > here.value + c1 * step * slope0) {
      high = step;
    } else {
      best = { x: point, at };
      const slope = dot(at.gradient, direction);
      if (Math.abs(slope) <= -c2 * slope0) return best;
      if (slope > 0) high = step;
      else low = step;
    }
    step = high === Infinity ? 2 * step : (low + high) / 2;
  }
  return best && best.at.value < here.value ? best : undefined;
}
