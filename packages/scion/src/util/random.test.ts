import { describe, expect, test } from 'vitest';
import { Random, threefry } from './random.js';

test.each([
  // known answers of the Random123 distribution, kat_vectors, threefry2x32 with 20 rounds
  { key: [0, 0], counter: [0, 0], words: [0x6b200159, 0x99ba4efe] },
  { key: [0xffffffff, 0xffffffff], counter: [0xffffffff, 0xffffffff], words: [0x1cb996fc, 0xbb002be7] },
  { key: [0x13198a2e, 0x03707344], counter: [0x243f6a88, 0x85a308d3], words: [0xc4923a9c, 0x483df7a0] },
])('Threefry-2x32-20 of $counter gives $words', ({ key, counter, words }) => {
  expect(threefry(key[0]!, key[1]!, counter[0]!, counter[1]!)).toEqual(words);
});

const draw = (r: Random, n: number, f = (x: Random): number => x.uniform()): number[] =>
  Array.from({ length: n }, () => f(r));
const mean = (x: readonly number[]): number => x.reduce((a, c) => a + c, 0) / x.length;

function correlation(x: readonly number[], y: readonly number[]): number {
  const [mx, my] = [mean(x), mean(y)];
  const dot = (a: readonly number[], ma: number, b: readonly number[], mb: number): number =>
    a.reduce((s, v, i) => s + (v - ma) * (b[i]! - mb), 0);
  return dot(x, mx, y, my) / Math.sqrt(dot(x, mx, x, mx) * dot(y, my, y, my));
}

const n = 20_000;
/** Four standard deviations of a correlation between independent samples. */
const bound = 4 / Math.sqrt(n);

describe('streams', () => {
  test('the same path gives the same numbers, whatever was drawn from its parents before', () => {
    const root = Random.seeded(5);
    const before = draw(root.child('a', 3), 10);
    draw(root, 7);
    draw(root.child('b'), 7);
    expect(draw(root.child('a', 3), 10)).toEqual(before);
    expect(draw(Random.seeded(5).child('a').child(3), 10)).toEqual(before);
  });

  test('different paths and seeds give different numbers', () => {
    const root = Random.seeded(5);
    const streams = [
      root, root.child('a'), root.child('b'), root.child('ab'), root.child('a', 'b'), root.child('b', 'a'),
      root.child(1),
      root.child('1'), root.child(11), root.child(1, 1), root.child(''), Random.seeded(6), Random.seeded(2 ** 32 + 5),
    ];
    const first = streams.map((r) => draw(r, 4, (x) => x.uint32()).join());
    expect(new Set(first).size).toBe(streams.length);
  });

  test('siblings, parent and child, and neighbouring seeds are uncorrelated', () => {
    const of = (r: Random): number[] => draw(r, n);
    const root = (): Random => Random.seeded(5);
    for (const [x, y] of [
      [root().child('step', 1), root().child('step', 2)], [root(), root().child('a')], [root(), Random.seeded(6)],
    ] as const) {
      expect(Math.abs(correlation(of(x), of(y)))).toBeLessThan(bound);
    }
  });
});

describe('distributions', () => {
  test('uniform: in [0, 1), 24 bits, even over 16 bins, neighbours uncorrelated', () => {
    const x = draw(Random.seeded(1), n);
    expect(x.every((v) => v >= 0 && v < 1 && Math.fround(v) === v && Number.isInteger(v * 2 ** 24))).toBe(true);
    const bins = new Array<number>(16).fill(0);
    x.forEach((v) => { bins[Math.floor(v * 16)]!++; });
    const chi2 = bins.reduce((s, c) => s + (c - n / 16) ** 2 / (n / 16), 0);
    expect(chi2).toBeLessThan(37.7); // 99.9 % of chi² with 15 degrees of freedom
    expect(Math.abs(correlation(x.slice(1), x.slice(0, -1)))).toBeLessThan(bound);
    const wide = draw(Random.seeded(1), 100, (r) => r.uniform(-2, 3));
    expect(wide.every((v, i) => v === -2 + 5 * x[i]!)).toBe(true);
  });

  test('normal: mean 0, variance 1, third moment 0, fourth moment 3', () => {
    const x = draw(Random.seeded(2), n, (r) => r.normal());
    const moment = (k: number): number => mean(x.map((v) => v ** k));
    // each within four of its own standard errors, √(var(x^k) / n)
    expect(Math.abs(moment(1))).toBeLessThan(4 * Math.sqrt(1 / n));
    expect(Math.abs(moment(2) - 1)).toBeLessThan(4 * Math.sqrt(2 / n));
    expect(Math.abs(moment(3))).toBeLessThan(4 * Math.sqrt(15 / n));
    expect(Math.abs(moment(4) - 3)).toBeLessThan(4 * Math.sqrt(96 / n));
  });

  test('integers are even over a range that does not divide 2^32', () => {
    const counts = new Array<number>(7).fill(0);
    draw(Random.seeded(3), n, (r) => r.integer(7)).forEach((v) => { counts[v]!++; });
    expect(counts.reduce((s, c) => s + (c - n / 7) ** 2 / (n / 7), 0)).toBeLessThan(22.5); // 99.9 %, 6 degrees
  });

  test('a shuffle is a permutation, leaves its input alone, and every order of three is equally likely', () => {
    const items = Object.freeze([1, 2, 3]);
    const counts = new Map<string, number>();
    const random = Random.seeded(4);
    for (let i = 0; i < 6000; i++) {
      const order = random.shuffle(items).join('');
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect([...counts.keys()].sort()).toEqual(['123', '132', '213', '231', '312', '321']);
    expect([...counts.values()].reduce((s, c) => s + (c - 1000) ** 2 / 1000, 0))
      .toBeLessThan(20.6); // 99.9 %, 5 degrees
  });
});
