import { describe, expect, test } from 'vitest';
import { Random } from '../util/random.js';
import { type Evaluation, lbfgs } from './lbfgs.js';

/** (a - x)² + b (y - x²)², whose valley is curved. */
const rosenbrock = ([x, y]: Float64Array): Promise<Evaluation> =>
  Promise.resolve({
    value: (1 - x!) ** 2 + 100 * (y! - x! * x!) ** 2,
    gradient: Float64Array.of(-2 * (1 - x!) - 400 * x! * (y! - x! * x!), 200 * (y! - x! * x!)),
  });

test.each([
  [-1.2, 1],
  [3, -4],
  [0, 0],
  [-5, 9],
])("Rosenbrock's valley from (%d, %d)", async (...start) => {
  const { x, value, converged } = await lbfgs(rosenbrock, Float64Array.from(start), {
    iterations: 200,
    tolerance: 1e-8,
  });
  expect(converged).toBe(true);
  expect(value).toBeLessThan(1e-14);
  expect(x[0]).toBeCloseTo(1, 6);
  expect(x[1]).toBeCloseTo(1, 6);
});

describe('a quadratic, ½ (x - m)ᵀ D (x - m)', () => {
  const n = 30;
  const random = Random.seeded(1);
  const scale = Float64Array.from({ length: n }, (_, i) => 10 ** (-1 + (2 * i) / (n - 1))); // condition 100
  const middle = Float64Array.from({ length: n }, () => random.normal());
  const quadratic = (x: Float64Array): Promise<Evaluation> => {
    const gradient = x.map((v, i) => scale[i]! * (v - middle[i]!));
    return Promise.resolve({ value: gradient.reduce((s, g, i) => s + (g * (x[i]! - middle[i]!)) / 2, 0), gradient });
  };

  test('is solved, each iteration lower than the one before', async () => {
    const values: number[] = [];
    const { x, converged } = await lbfgs(quadratic, new Float64Array(n), {
      iterations: 500,
      tolerance: 1e-9,
      onIteration: (k, value) => {
        expect(k).toBe(values.push(value));
      },
    });
    expect(converged).toBe(true);
    x.forEach((v, i) => expect(v).toBeCloseTo(middle[i]!, 6));
    values.slice(1).forEach((v, i) => expect(v).toBeLessThan(values[i]!));
  });

  test('in far fewer evaluations than gradient descent would take', async () => {
    let evaluations = 0;
    await lbfgs(
      (x) => {
        evaluations++;
        return quadratic(x);
      },
      new Float64Array(n),
      { iterations: 500, tolerance: 1e-6 },
    );
    expect(evaluations).toBeLessThan(120);
    // gradient descent: condition × ln(1 / tolerance), about 700 at its best step
  });

  test('stops after the iterations it was given, and says so', async () => {
    const { iterations, converged } = await lbfgs(quadratic, new Float64Array(n), { iterations: 3 });
    expect({ iterations, converged }).toEqual({ iterations: 3, converged: false });
  });

  test('at the minimum nothing is done', async () => {
    const found = await lbfgs(quadratic, middle, { iterations: 10 });
    expect(found).toMatchObject({ x: middle, iterations: 0, converged: true });
  });
});

test('a value that is no number is a step too far, not an end', async () => {
  // -log x + x, only defined right of 0
  const barrier = ([x]: Float64Array): Promise<Evaluation> =>
    Promise.resolve({ value: x! - Math.log(x!), gradient: Float64Array.of(1 - 1 / x!) });
  const { x } = await lbfgs(barrier, Float64Array.of(1e-3), { iterations: 100, tolerance: 1e-9 });
  expect(x[0]).toBeCloseTo(1, 8);
});

test('where rounding leaves no lower value it ends', async () => {
  const rounded = ([x]: Float64Array): Promise<Evaluation> =>
    Promise.resolve({ value: Math.fround(1 + x! * x!), gradient: Float64Array.of(2 * x! + 1e-4) });
  const { x, iterations } = await lbfgs(rounded, Float64Array.of(1), { iterations: 1000, tolerance: 1e-12 });
  expect(iterations).toBeLessThan(100);
  expect(Math.abs(x[0]!)).toBeLessThan(1e-2);
});
