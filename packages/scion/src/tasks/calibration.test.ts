import { describe, expect, test } from 'vitest';
import { Random } from '../util/random.js';
import { calibrate, fitTemperature, rejectionThreshold, scaled } from './calibration.js';
import { classificationReport, probabilities } from './classification.js';

const classes = 4;
/** Logits that are right as probabilities once they are divided by `temperature`. */
function sample(rows: number, temperature: number, seed = 1): { logits: Float32Array; labels: Int32Array } {
  const random = Random.seeded(seed);
  const logits = new Float32Array(rows * classes);
  const labels = Int32Array.from({ length: rows }, (_, row) => {
    const own = logits.subarray(row * classes, (row + 1) * classes);
    for (let k = 0; k < classes; k++) own[k] = 2 * random.normal() * temperature;
    const p = probabilities(scaled(own, temperature));
    let u = random.uniform();
    return Math.max(
      0,
      p.findIndex((x) => (u -= x) < 0),
    );
  });
  return { logits, labels };
}

describe('the temperature', () => {
  test.each([0.2, 1, 5])('%f is found again', (temperature) => {
    const { logits, labels } = sample(4000, temperature);
    expect(fitTemperature(logits, labels, classes) / temperature).toBeCloseTo(1, 1);
  });

  test('has the least cross entropy of all, up to what the prior weighs', () => {
    const { logits, labels } = sample(500, 3);
    const loss = (t: number): number => 500 * classificationReport(scaled(logits, t), labels, classes).loss;
    const best = fitTemperature(logits, labels, classes);
    const cost = (t: number): number => loss(t) + Math.log(t) ** 2 / 2;
    for (const factor of [0.5, 0.9, 0.99, 1.01, 1.1, 2]) expect(cost(best * factor)).toBeGreaterThan(cost(best));
  });

  test('lowers the calibration error of other rows', () => {
    const [fitted, other] = [sample(300, 4), sample(2000, 4, 2)];
    const ece = (t: number): number => classificationReport(scaled(other.logits, t), other.labels, classes).ece;
    expect(ece(1)).toBeGreaterThan(0.2);
    expect(ece(fitTemperature(fitted.logits, fitted.labels, classes))).toBeLessThan(0.06);
  });

  test('few rows that are all right do not make it zero, nor all wrong infinite', () => {
    const logits = Float32Array.from([3, 0, 0, 0, 0, 4, 0, 0]);
    const right = fitTemperature(logits, Int32Array.of(0, 1), classes);
    expect(right).toBeGreaterThan(0.3);
    expect(right).toBeLessThan(1);
    const wrong = fitTemperature(logits, Int32Array.of(3, 3), classes);
    expect(wrong).toBeGreaterThan(1);
    expect(wrong).toBeLessThan(10);
  });

  test('large logits do not overflow', () => {
    const logits = Float32Array.from([3e4, -3e4, 0, 0, -3e4, 3e4, 0, 0]);
    expect(fitTemperature(logits, Int32Array.of(0, 0), classes)).toBeGreaterThan(1);
  });
});

describe('rejection', () => {
  test.each([1, 0.95, 0.9, 0.5, 0.1])('keeps the share %f of the rows it was set on', (keep) => {
    const { logits, labels } = sample(1000, 2);
    const calibration = calibrate(logits, labels, classes);
    expect(calibration.rows).toBe(1000);
    const threshold = rejectionThreshold(calibration, keep);
    const kept = Array.from(labels.keys()).filter((row) => {
      const p = probabilities(scaled(logits.subarray(row * classes, (row + 1) * classes), calibration.temperature));
      return Math.max(...p) >= threshold;
    }).length;
    expect(kept / 1000).toBeGreaterThanOrEqual(keep - 0.011);
    expect(kept / 1000).toBeLessThanOrEqual(keep + 0.011);
  });

  test('confidences are sorted, from a single row too', () => {
    const { confidence } = calibrate(Float32Array.of(1, 0, 0, 0), Int32Array.of(0), classes);
    expect(confidence).toHaveLength(101);
    expect(new Set(confidence).size).toBe(1);
  });
});
