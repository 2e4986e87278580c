import { describe, expect, it } from 'vitest';
import { accuracyPlot, swatches } from './plot.js';
import { summarise } from './statistics.js';
import { sample } from './testing/sample.js';
import type { CompareResult } from './types.js';

const plot = (result: CompareResult) => accuracyPlot(summarise(result), result.shots, { id: 'plot', title: 'Test accuracy over shots' });
const { cells } = sample();

/** Long numbers rounded to a tenth of a pixel, one element a line: stable across machines, readable in a diff. */
const golden = (svg: string) =>
  `${svg.replace(/\d+\.\d{3,}/g, (x) => String(Number(Number(x).toFixed(1)))).replaceAll('><', '>\n<')}\n`;

describe('accuracyPlot', () => {
  it('is the golden picture', async () => {
    await expect(golden(plot(sample())!)).toMatchFileSnapshot('testing/accuracy.svg');
  });

  it('has a name and a description in words', () => {
    const svg = plot(sample())!;
    expect(svg).toMatch(/^<svg [^>]*role="img"/);
    expect(svg).toContain('<title id="plot-title">Test accuracy over shots</title>');
    expect(svg).toMatch(/<desc id="plot-desc">[^<]*GraphAdapter 75\.00 ± 1\.00 % at 16 shots/);
  });

  it.each([
    ['one seed', sample({ seeds: [2], cells: cells.filter((c) => c.seed === 2) }), 6],
    ['one number of shots', sample({ shots: [4], cells: cells.filter((c) => c.shots === 4) }), 2],
    ['missing cells', sample({ cells: cells.filter((c) => c.method !== 'graph-adapter' || c.shots !== 4) }), 5],
    ['equal accuracies', sample({ cells: cells.map((c) => ({ ...c, accuracy: 1 })) }), 6],
  ])('draws every point with %s', (_, result, points) => {
    const svg = plot(result)!;
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
    const dots = [...svg.matchAll(/aria-label="dot">(.*?)<\/g>/g)].map((m) => m[1]!);
    expect(dots.join('').match(/<title>/g)).toHaveLength(points);
  });

  it('is small beside others, with ids of its own and the same points', () => {
    const svg = accuracyPlot(summarise(sample()), [1, 4, 16], { id: 'plot-3', title: 'Pets', small: true })!;
    expect(svg).toContain('<title id="plot-3-title">Pets</title>');
    expect(svg).not.toMatch(/Labelled images|Test accuracy \(%\)/);
    const dots = [...svg.matchAll(/aria-label="dot">(.*?)<\/g>/g)].map((m) => m[1]!);
    expect(dots.join('').match(/<title>/g)).toHaveLength(6);
  });

  it('draws nothing without a tested cell', () => {
    expect(plot(sample({ cells: [] }))).toBeUndefined();
  });

  it('escapes titles', () => {
    const svg = plot(sample({ methods: [{ name: 'tip-adapter', method: 'tip-adapter', title: '</title><script>alert(1)</script>' }] }))!;
    expect(svg).not.toContain('<script');
    expect(svg).toContain('&lt;script&gt;');
  });
});

it('tells 42 methods apart by colour and marker', () => {
  const methods = Array.from({ length: 42 }, (_, i) => ({ name: `m${i}`, method: 'm', title: `m${i}`, byShots: [] }));
  const samples = swatches(methods);
  expect(new Set(samples).size).toBe(42);
});
