import { describe, expect, it } from 'vitest';
import { median, spread, standings, summarise } from './statistics.js';
import { sample } from './testing/sample.js';

const at = (name: string, shots: number, result = sample(), reference?: string) =>
  summarise(result, reference).find((m) => m.name === name)!.byShots[result.shots.indexOf(shots)];

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
    expect(summary.ece.mean).toBeCloseTo(18 / 200, 12);
    expect(summary.seconds).toBe(16);
    expect(at('tip-adapter', 4)!.trainableParameters).toBe(20480);
  });

  it('pairs differences by seed', () => {
    // 4 shots: (66, 66.5, 65.5) - (65, 66, 64) = (1, 0.5, 1.5): mean 1, deviation 0.5; unpaired it would be over 1
    const difference = at('graph-adapter', 4, sample(), 'tip-adapter')!.difference!;
    expect(difference.mean).toBeCloseTo(0.01, 12);
    expect(difference.deviation).toBeCloseTo(0.005, 12);
    expect(at('tip-adapter', 4, sample(), 'tip-adapter')).not.toHaveProperty('difference');
    expect(at('graph-adapter', 4)!.difference!.mean).toBeCloseTo(0.06, 12);
  });

  it('pairs only seeds that both have', () => {
    const { cells } = sample();
    const result = sample({ cells: cells.filter((c) => !(c.method === 'tip-adapter' && c.seed === 2)) });
    const { difference } = at('graph-adapter', 4, result, 'tip-adapter')!;
    expect(difference).toMatchObject({ n: 2 });
    expect(difference!.mean).toBeCloseTo(0.0125, 12);
  });

  it('leaves a gap where nothing was tested and no difference without the reference', () => {
    const { cells } = sample();
    const result = sample({ cells: cells.filter((c) => c.method === 'tip-adapter' && c.shots !== 4) });
    expect(at('tip-adapter', 4, result)).toBeUndefined();
    expect(at('graph-adapter', 1, result)).toBeUndefined();
    expect(at('tip-adapter', 1, result)).not.toHaveProperty('difference');
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
