import { describe, expect, it } from 'vitest';
import { accuracyInterval } from './interval.js';
import { differences, groupViewsOf, median, spread, standings, summarise, viewsOf } from './statistics.js';
import { sample, twoSets } from './testing/sample.js';

const at = (name: string, shots: number, result = sample(), view = viewsOf(result)[0]) =>
  summarise(result, view).find((m) => m.name === name)!.byShots[result.shots.indexOf(shots)];
const gapOf = (name: string, shots: number, reference: string, result = sample(), view = viewsOf(result)[0]) =>
  differences(result, view, reference).get(name)![result.shots.indexOf(shots)];

describe('spread and median', () => {
  it('divides by n - 1', () => {
    // mean 5; squared distances 9 1 1 1 0 0 4 16 = 32; 32 / 7
    expect(spread([2, 4, 4, 4, 5, 5, 7, 9])).toEqual({ mean: 5, deviation: Math.sqrt(32 / 7), n: 8 });
  });
  it('knows no deviation of one value', () => {
    expect(spread([0.5])).toEqual({ mean: 0.5, n: 1 });
  });
  it('takes the middle by size, not by place', () => {
    expect(median([10, 9, 2])).toBe(9);
    expect(median([10, 1, 2, 100])).toBe(6);
  });
});

describe('summarise', () => {
  it('gives mean, deviation, median time and size per method and shots', () => {
    const summary = at('graph-adapter', 16)!;
    expect(summary.accuracy.mean).toBeCloseTo(0.75, 12);
    expect(summary.accuracy.deviation).toBeCloseTo(0.01, 12);
    expect(summary.accuracy.n).toBe(3);
    expect(summary.interval).toEqual(accuracyInterval([0.75, 0.76, 0.74], [{ accuracy: 0.75, rows: 500 }]));
    expect(summary.ece.mean).toBeCloseTo(18 / 200, 12);
    expect(summary.seconds).toBe(16);
    expect(at('tip-adapter', 4)!.trainableParameters).toBe(20480);
  });

  it('leaves a gap where nothing was tested', () => {
    const { cells } = sample();
    const result = sample({ cells: cells.filter((c) => c.method === 'tip-adapter' && c.shots !== 4) });
    expect(at('tip-adapter', 4, result)).toBeUndefined();
    expect(at('graph-adapter', 1, result)).toBeUndefined();
  });
});

describe('several data sets', () => {
  it('are averaged first, seed by seed, and then shown each', () => {
    const result = twoSets();
    expect(viewsOf(result).map((v) => [v.title, v.datasets])).toEqual([
      ['average over 2 data sets', ['pets', 'food']], ['pets', ['pets']], ['food', ['food']],
    ]);
    // seeds of the average at 16 shots: (75 + 85) / 2, (76 + 86) / 2, (74 + 85) / 2
    const { accuracy, interval } = at('graph-adapter', 16, result)!;
    expect(accuracy.mean).toBeCloseTo((0.8 + 0.81 + 0.795) / 3, 12);
    expect(accuracy.deviation).toBeCloseTo(spread([0.8, 0.81, 0.795]).deviation!, 12);
    const expected = accuracyInterval([0.8, 0.81, 0.795], [
      { accuracy: 0.75, rows: 500 }, { accuracy: (0.85 + 0.86 + 0.85) / 3, rows: 100 },
    ]);
    interval.forEach((limit, i) => expect(limit).toBeCloseTo(expected[i]!, 12));
    expect(at('graph-adapter', 16, result, viewsOf(result)[2])!.accuracy.mean).toBeCloseTo(2.56 / 3, 12);
  });

  it('are averaged over the seeds that all of them have', () => {
    const all = twoSets();
    const result = twoSets({ cells: all.cells.filter((c) => c.dataset !== 'food' || c.seed === 1) });
    const { accuracy } = at('graph-adapter', 16, result)!;
    expect(accuracy.n).toBe(1);
    expect(accuracy.mean).toBeCloseTo(0.8, 12);
    const none = twoSets({ cells: all.cells.filter((c) => c.dataset !== 'food') });
    expect(at('graph-adapter', 16, none)).toBeUndefined();
    expect(at('graph-adapter', 16, none, viewsOf(none)[1])).toBeDefined();
  });

  it('give groups of rows over the data sets that have them', () => {
    const result = twoSets();
    const [seen, unseen] = groupViewsOf(result, viewsOf(result)[0]);
    expect([seen!.title, seen!.datasets]).toEqual(['food, seen', ['food']]);
    expect(at('graph-adapter', 16, result, seen)!.accuracy.mean).toBeCloseTo(0.9, 12);
    const small = at('graph-adapter', 16, result, unseen)!;
    expect(small.accuracy.mean).toBeCloseTo(0.75, 12);
    // 20 rows tell less than 100
    const whole = at('graph-adapter', 16, result, viewsOf(result)[2])!;
    expect(small.interval[1] - small.interval[0]).toBeGreaterThan(2 * (whole.interval[1] - whole.interval[0]));
    expect(groupViewsOf(result, viewsOf(result)[1]!)).toEqual([]);
  });
});

describe('differences', () => {
  it('are paired by seed on one data set', () => {
    // 4 shots: (66, 66.5, 65.5) - (65, 66, 64) = (1, 0.5, 1.5): mean 1, deviation 0.5; unpaired it would be over 1
    const { spread: found, interval } = gapOf('graph-adapter', 4, 'tip-adapter')!;
    expect(found.mean).toBeCloseTo(0.01, 12);
    expect(found.deviation).toBeCloseTo(0.005, 12);
    // t of 2 degrees of freedom: 4.3027
    expect(interval![1]).toBeCloseTo(0.01 + (4.30265 * 0.005) / Math.sqrt(3), 6);
    expect(gapOf('tip-adapter', 4, 'tip-adapter')).toBeUndefined();
  });

  it('speak of data sets where there are several', () => {
    const result = twoSets();
    // means over seeds: 15 on pets; food is 10 better for both and 1 more at one of three seeds: 15 + 1 / 3
    const { spread: found, interval } = gapOf('graph-adapter', 16, 'zero-shot', result)!;
    expect(found.mean).toBeCloseTo(0.15 + 0.01 / 6, 12);
    const half = (12.7062 * (0.01 / 3)) / Math.sqrt(2) / Math.sqrt(2); // t of 1 degree, s = gap / √2
    expect(interval![0]).toBeCloseTo(found.mean - half, 6);
    expect(interval![1]).toBeCloseTo(found.mean + half, 6);
  });

  it('use only seeds that both have, and need one', () => {
    const { cells } = sample();
    const result = sample({ cells: cells.filter((c) => !(c.method === 'tip-adapter' && c.seed === 2)) });
    expect(gapOf('graph-adapter', 4, 'tip-adapter', result)!.spread).toMatchObject({ n: 2 });
    expect(gapOf('graph-adapter', 4, 'tip-adapter', result)!.spread.mean).toBeCloseTo(0.0125, 12);
    const lone = sample({ cells: cells.filter((c) => c.method === 'graph-adapter') });
    expect(gapOf('graph-adapter', 4, 'tip-adapter', lone)).toBeUndefined();
    const once = sample({ cells: cells.filter((c) => c.seed === 1) });
    expect(gapOf('graph-adapter', 4, 'tip-adapter', once)).not.toHaveProperty('interval');
  });
});

describe('standings', () => {
  const brief = (result = sample()) => standings(summarise(result)).map(({ shots, best, rivals, clear }) =>
    ({ shots, best: best.name, rivals: rivals?.map((m) => m.name), clear }));

  it('is clear only beyond one deviation', () => {
    expect(brief()).toEqual([
      { shots: 1, best: 'graph-adapter', rivals: ['tip-adapter'], clear: false },
      // 66.0 ± 0.5 against 65.0 ± 1.0: the larger deviation counts
      { shots: 4, best: 'graph-adapter', rivals: ['tip-adapter'], clear: false },
      { shots: 16, best: 'graph-adapter', rivals: [], clear: true },
    ]);
  });
  it('judges nothing by one seed', () => {
    const { cells } = sample();
    expect(brief(sample({ seeds: [1], cells: cells.filter((c) => c.seed === 1) })).map((s) => s.clear || s.rivals))
      .toEqual([undefined, undefined, undefined]);
  });
  it('does not call a lone method the best', () => {
    const { cells } = sample();
    const lone = brief(sample({ cells: cells.filter((c) => c.method === 'tip-adapter' && c.shots === 4) }));
    expect(lone).toEqual([{ shots: 4, best: 'tip-adapter', rivals: [], clear: false }]);
  });
});
