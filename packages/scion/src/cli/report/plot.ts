/**
 * Accuracy over shots, as in Figure 3 of the GraphAdapter paper (Li et al., NeurIPS 2023), as SVG.
 *
 * Colours are custom properties (`--series-0` …, `--muted`, `--paper`), which the page sets for light and dark.
 */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { formatShots, formatSpread } from './format.js';
import { type MethodSummary, zeroShot } from './statistics.js';

/** How many series colours the page has to define. */
export const seriesColours = 6;

// Lengths that have no common factor: 42 methods differ in colour or shape, most in both and in dash too.
const symbols = ['circle', 'square', 'triangle', 'diamond', 'star', 'cross', 'wye'] as const;
const dashes = ['none', '7 3', '2 4', '8 3 2 3'];
// Keeps markers that overlap apart.
const outline = { stroke: 'var(--paper)', strokeWidth: 0.75 };

/** The part of the DOM that is used here: Scion compiles without the browser's types. */
interface SvgElement {
  id: string;
  textContent: string;
  readonly outerHTML: string;
  setAttribute(name: string, value: string): void;
  prepend(child: SvgElement): void;
}
interface Page {
  document: { createElementNS(namespace: string, name: string): SvgElement };
}

interface Style {
  colour: string;
  symbol: (typeof symbols)[number];
  dash: string;
}

interface Point {
  shots: number;
  /** Per cent; NaN where no cell was tested, which interrupts the line. */
  mean: number;
  low: number;
  high: number;
  label: string;
}

/** Per method its colour, marker and dash; zero-shot is a dashed grey line. */
function stylesOf(methods: readonly MethodSummary[]): Style[] {
  let i = 0;
  return methods.map(({ name }) => {
    if (name === zeroShot) return { colour: 'var(--muted)', symbol: 'star', dash: '6 4' };
    const style = {
      colour: `var(--series-${i % seriesColours})`,
      symbol: symbols[i % symbols.length]!,
      dash: dashes[i % dashes.length]!,
    };
    i++;
    return style;
  });
}

function pointsOf(method: MethodSummary, shots: readonly number[]): Point[] {
  return method.byShots.map((s, i) => {
    const mean = s ? 100 * s.accuracy.mean : NaN;
    const deviation = 100 * (s?.accuracy.deviation ?? 0);
    const label = `${method.title}, ${formatShots(shots[i]!)}: ${formatSpread(s?.accuracy)} %`;
    return { shots: shots[i]!, mean, low: mean - deviation, high: mean + deviation, label };
  });
}

export interface PlotOptions {
  /** Makes the ids of title and description unique on the page. */
  id: string;
  /** Name of the picture for those who do not see it. */
  title: string;
  /** One of many beside each other: smaller, without words on the axes. */
  small?: boolean;
}

/**
 * The plot: x is shots (log2), y accuracy in %, error bars are one deviation.
 * @param shots the numbers of shots that `byShots` of the methods goes with
 * @returns an `<svg>` element as text, or undefined if no cell was tested
 */
export function accuracyPlot(
  methods: readonly MethodSummary[], shots: readonly number[], options: PlotOptions,
): string | undefined {
  const { small = false } = options;
  const series = methods.map((m) => pointsOf(m, shots));
  const extent = series.flat().filter((p) => !Number.isNaN(p.mean)).flatMap((p) => [p.low, p.high]);
  if (extent.length === 0) return undefined;
  const [low, high] = [Math.min(...extent), Math.max(...extent)];
  const margin = Math.max(0.05 * (high - low), 0.5);
  const styles = stylesOf(methods);
  return draw({
    ...(small
      ? { width: 300, height: 220, marginLeft: 30, marginRight: 8, marginBottom: 24, marginTop: 10 }
      : { width: 600, height: 400, marginLeft: 48, marginRight: 12, marginBottom: 56, marginTop: 28 }),
    x: {
      type: 'log',
      base: 2,
      domain: [Math.min(...shots) * 2 ** -0.35, Math.max(...shots) * 2 ** 0.35],
      ticks: [...shots],
      tickFormat: String,
      label: small ? null : 'Labelled images per class (shots, log scale)',
      labelAnchor: 'center',
      labelArrow: 'none',
    },
    y: {
      domain: [Math.max(0, low - margin), Math.min(100, high + margin)],
      nice: true, grid: true, ticks: small ? 4 : 6, label: small ? null : 'Test accuracy (%)', labelArrow: 'none',
    },
    marks: methods.flatMap((method, i) =>
      // A few pixels apart, or else the error bars of methods at the same shots hide each other.
      marksOf(series[i]!, styles[i]!, {
        flat: method.name === zeroShot, dx: (i - (methods.length - 1) / 2) * (small ? 2 : 3), small,
      })),
  }, { ...options, description: describe(methods) });
}

function marksOf(
  points: Point[], style: Style, { flat, dx, small }: { flat: boolean; dx: number; small: boolean },
): Plot.Markish[] {
  const { colour, symbol, dash } = style;
  if (flat) {
    const known = points.filter((p) => !Number.isNaN(p.mean)).slice(0, 1);
    return [Plot.ruleY(known, {
      y: 'mean', stroke: colour, strokeWidth: 2, strokeDasharray: dash, title: (p: Point) => p.label,
    })];
  }
  return [
    Plot.ruleX(points, { x: 'shots', y1: 'low', y2: 'high', stroke: colour, strokeWidth: 1.5, dx }),
    Plot.line(points, { x: 'shots', y: 'mean', stroke: colour, strokeWidth: small ? 1.5 : 2, strokeDasharray: dash, dx }),
    Plot.dot(points, {
      x: 'shots', y: 'mean', fill: colour, symbol, r: small ? 3 : 4, ...outline, dx,
      title: (p: Point) => p.label,
    }),
  ];
}

/** For every method a sample of its line and marker, in the order given. */
export function swatches(methods: readonly MethodSummary[]): string[] {
  return stylesOf(methods).map(({ colour, symbol, dash }, i) => {
    const marks: Plot.Markish[] =
      [Plot.link([0], { x1: 0, x2: 1, y1: 0, y2: 0, stroke: colour, strokeWidth: 2, strokeDasharray: dash })];
    if (methods[i]!.name !== zeroShot) {
      marks.push(Plot.dot([0], { x: 0.5, y: 0, fill: colour, symbol, r: 4, ...outline }));
    }
    return draw({
      width: 40, height: 16, margin: 2, axis: null, x: { domain: [0, 1] }, y: { domain: [-1, 1] }, marks,
    });
  });
}

function describe(methods: readonly MethodSummary[]): string {
  const ends = methods.flatMap((m) => {
    const last = m.byShots.findLast((s) => s !== undefined);
    return last ? [`${m.title} ${formatSpread(last.accuracy)} % at ${formatShots(last.shots)}`] : [];
  });
  return `${ends.join('; ')}. All values are in the tables.`;
}

/** Renders without a browser. With a name the picture has a description too, else it is decoration. */
function draw(options: Plot.PlotOptions, name?: { id: string; title: string; description: string }): string {
  const { document } = parseHTML('<html></html>') as unknown as Page;
  const svg = Plot.plot({ ...options, document, className: 'plot' }) as unknown as SvgElement;
  if (name === undefined) {
    svg.setAttribute('aria-hidden', 'true');
    return svg.outerHTML;
  }
  svg.setAttribute('role', 'img');
  const { id, title, description } = name;
  svg.setAttribute('aria-labelledby', `${id}-title`);
  svg.setAttribute('aria-describedby', `${id}-desc`);
  for (const [tag, text] of [['desc', description], ['title', title]] as const) {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    element.id = `${id}-${tag}`;
    element.textContent = text;
    svg.prepend(element);
  }
  return svg.outerHTML;
}
