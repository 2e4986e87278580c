/** The comparison as one HTML page that needs nothing else: no script, no font, no image, no request. */
import {
  differenceKind, formatCompact, formatCount, formatInterval, formatPoints, formatRange, formatSeconds, formatShots,
  formatSpread, formatSpreadKind, intervalKind, missing, notes, percent,
} from './format.js';
import { html, type Markup, trusted } from './markup.js';
import { accuracyPlot, swatches } from './plot.js';
import {
  type Difference, type MethodSummary, type ShotSummary, type Standing, type View, differences, groupViewsOf, standings,
  summarise, viewsOf,
} from './statistics.js';
import { stylesheet } from './stylesheet.js';
import type { CompareMethod, CompareResult } from './types.js';

/**
 * The report as a self-contained HTML document. All texts of the result are escaped.
 * @param references names of the methods that the others are compared with
 */
export function htmlReport(result: CompareResult, references: readonly string[]): string {
  const [first, ...each] = viewsOf(result);
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Few-shot comparison – Scion</title>
<style>${trusted(stylesheet)}</style>
</head>
<body>
<main>
<h1>Few-shot comparison</h1>
<p class="lead">${headline(result, first, references[0])}</p>
<p class="quiet">${facts(result)}</p>
${result.warnings.length > 0 && html`<section class="warnings" aria-labelledby="warnings">
<h2 id="warnings">Warnings</h2>
<ul>${result.warnings.map((w) => html`<li>${w}</li>`)}</ul>
</section>`}
<h2>Accuracy over shots${each.length > 0 && html`: ${first.title}`}</h2>
${figure(result, first)}
${each.length > 0 && html`<h2>Every data set</h2>
<div class="multiples">${each.map((view, i) => small(result, view, i))}</div>
<h2>Tables: ${first.title}</h2>`}
${tables(result, first, references, 'first')}
${each.length > 0 && html`<h2>Tables: every data set</h2>
${each.map((view, i) => html`<details><summary>${view.title}</summary>
${tables(result, view, references, `set-${i}`)}
</details>`)}`}
<h2>Details</h2>
<details><summary>Every cell: ${formatCount(result.cells.length)} runs</summary>
${cells(result)}
</details>
<details><summary>Methods and papers</summary>
<ul>
${result.methods.map((m) => html`<li>${m.title} <span class="quiet">(<code>${m.name}</code>)</span>${paper(m)}</li>\n`)}</ul>
</details>
<details><summary>Data, recipe and environment</summary>
${result.datasets.map(({ name, ...data }, i) => record(`data-${i}`, `Data set ${name}`, data))}
${record('recipe', 'Recipe', result.recipe)}
${record('environment', 'Environment', result.environment)}
</details>
<p class="quiet">Written by Scion ${result.scionVersion},
<time datetime="${result.created}">${result.created}</time>.</p>
</main>
</body>
</html>
`.toString();
}

/** What holds at the largest number of shots. */
function headline(result: CompareResult, view: View, reference: string | undefined): Markup {
  const methods = summarise(result, view);
  const standing = standings(methods);
  if (standing.length === 0) return html`No cell was tested${view.datasets.length > 1 && html` on every data set`}.`;
  const { shots, best, accuracy, rivals, clear } = standing.reduce((a, b) => (b.shots > a.shots ? b : a));
  const gain = reference === undefined ? undefined
    : differences(result, view, reference).get(best.name)![result.shots.indexOf(shots)];
  const against = result.methods.find(({ name }) => name === reference)?.title;
  return html`With ${formatShots(shots)} per class, <b>${best.title}</b> reaches ${formatSpread(accuracy)} %${
    view.datasets.length > 1 && html` on ${view.title}`}${
    gain && html` (${formatSpread(gain.spread, true)} points over ${against})`}${
    rivals !== undefined && rivals.length > 0 && html`, within noise of ${rivals.map((m) => m.title).join(', ')}`}${
    clear && html`, more than one deviation above the other ${methods.length > 2 ? 'methods' : 'method'}`}${
    !rivals && methods.length > 1 && html`; one seed, so the noise is unknown`}.`;
}

function facts({ datasets, seeds, shots }: CompareResult): Markup {
  const models = [...new Set(datasets.flatMap(({ model }) => model ?? []))].join(', ');
  const [least, most] = [Math.min, Math.max].map((f) => formatCount(f(...datasets.map((d) => d.classes))));
  const tests = datasets.reduce((sum, d) => sum + d.test, 0);
  return html`${models !== '' && html`${models}, `}${datasets.length > 1 && html`${datasets.length} data sets, `}${
    [...new Set([least, most])].join(' to ')} classes, ${formatCount(tests)} test images; shots: ${
    shots.join(', ')}; seeds: ${seeds.join(', ')}.`;
}

function figure(result: CompareResult, view: View): Markup | undefined {
  const methods = summarise(result, view);
  const several = view.datasets.length > 1;
  const title = `Test accuracy over shots${several ? `, ${view.title}` : ''}`;
  const plot = accuracyPlot(methods, result.shots, { id: 'plot', title });
  // the legend is that of the small plots too, which may have cells where the average has none yet
  if (plot === undefined && !several) return undefined;
  const samples = swatches(methods);
  const bars = methods.some((m) => m.byShots.some((s) => s?.accuracy.deviation !== undefined));
  return html`<figure>
${plot === undefined ? html`<p class="quiet">No method has been tested on every data set.</p>` : trusted(plot)}
<figcaption>
<ul class="legend">${methods.map((m, i) => html`<li>${trusted(samples[i]!)}<span>${m.title}</span></li>`)}</ul>
${bars && html`<p class="quiet">Bars are one deviation over seeds${
    several && ' of the mean over data sets'}; methods at the same shots are drawn side by side.</p>`}
</figcaption>
</figure>`;
}

/** One of the plots beside each other; colours are those of the large one. */
function small(result: CompareResult, view: View, i: number): Markup {
  const plot = accuracyPlot(summarise(result, view), result.shots, {
    id: `plot-${i}`, title: `Test accuracy over shots, ${view.title}`, small: true,
  });
  return html`<figure class="small"><figcaption>${view.title}</figcaption>${
    plot === undefined ? html`<p class="quiet">No cell was tested.</p>` : trusted(plot)}</figure>`;
}

/** Everything about one view: accuracies, intervals, differences, groups of rows, calibration. */
function tables(result: CompareResult, view: View, references: readonly string[], id: string): Markup {
  const { shots } = result;
  const methods = summarise(result, view);
  const standing = standings(methods);
  const kind = formatSpreadKind(result, view);
  const below = `${kind}; below it the 95 % interval for ${intervalKind(result)}`;
  return html`${accuracies(`${id}-accuracy`, `Test accuracy in %, ${below}`, methods, standing, shots)}
${notes(result, methods, standing, 'Bold').map((n) => html`<p class="quiet">${n}</p>`)}
${references.map((name, i) => methods.length > 1 && difference(result, view, name, `${id}-difference-${i}`))}
${groupViewsOf(result, view).map((group, i) => {
    const own = summarise(result, group);
    return accuracies(`${id}-group-${i}`, `Test accuracy in %, ${group.title}, ${below}`, own, standings(own), shots);
  })}
${matrix(`${id}-ece`, `Expected calibration error in %, ${kind}`, methods, shots, (s) => html`${formatSpread(s.ece)}`)}`;
}

function accuracies(
  id: string, caption: string, methods: readonly MethodSummary[], standing: readonly Standing[], shots: readonly number[],
): Markup {
  const isBest = (m: MethodSummary, s: ShotSummary) =>
    standing.some((t) => t.clear && t.best === m && t.shots === s.shots);
  return matrix(id, caption, methods, shots, (s, m) => {
    const text = formatSpread(s.accuracy);
    return html`${isBest(m, s) ? html`<strong>${text}</strong>` : text}<small>${formatInterval(s.interval)}</small>`;
  }, true);
}

function difference(result: CompareResult, view: View, reference: string, id: string): Markup {
  const found: ReadonlyMap<string, readonly (Difference | undefined)[]> = differences(result, view, reference);
  const { title } = result.methods.find(({ name }) => name === reference)!;
  const caption = `Difference to ${title} in points, paired by data set and seed; below it the 95 % interval by ${
    differenceKind(view)}; bold where it leaves out 0`;
  return table(id, caption, ['Method', ...result.shots.map(formatShots)],
    result.methods.filter(({ name }) => name !== reference).map((m) => html`<th scope="row">${m.title}</th>${
      found.get(m.name)!.map((d) => html`<td>${differenceCell(d)}</td>`)}`));
}

function differenceCell(d: Difference | undefined): Markup {
  if (d === undefined) return html`${missing}`;
  const text = formatPoints(d.spread.mean);
  return html`${excludesZero(d) ? html`<b>${text}</b>` : text}${
    d.interval && html`<small>${formatInterval(d.interval, formatPoints)}</small>`}`;
}

const excludesZero = (d: Difference): boolean => d.interval !== undefined && (d.interval[0] > 0 || d.interval[1] < 0);

/** Columns of words, which are set to the left and wrap. */
const texts = new Set(['Value', 'Hyperparameters']);

/** A table that scrolls by itself on a narrow screen; reachable by keyboard for that. */
function table(id: string, caption: string, header: readonly string[], rows: readonly Markup[]): Markup {
  return html`<div class="scroll" role="region" aria-labelledby="${id}" tabindex="0"><table>
<caption><span id="${id}">${caption}</span></caption>
<thead><tr>${header.map((h) => html`<th scope="col"${texts.has(h) && html` class="text"`}>${h}</th>`)}</tr></thead>
<tbody>
${rows.map((row) => html`<tr>${row}</tr>\n`)}</tbody>
</table></div>`;
}

/** One row per method, one column per number of shots; with `cost` also size and time. */
function matrix(
  id: string, caption: string, methods: readonly MethodSummary[], shots: readonly number[],
  cell: (summary: ShotSummary, method: MethodSummary) => Markup, cost = false,
): Markup {
  const header = ['Method', ...shots.map(formatShots), ...(cost ? ['Parameters', 'Seconds'] : [])];
  return table(id, caption, header, methods.map((m) => html`<th scope="row">${m.title}</th>${
    m.byShots.map((s) => html`<td>${s ? cell(s, m) : missing}</td>`)}${
    cost && html`<td>${formatRange(m, (s) => s.trainableParameters, formatCompact)}</td><td>${
      formatRange(m, (s) => s.seconds, formatSeconds)}</td>`}`));
}

function cells({ cells, datasets, methods }: CompareResult): Markup {
  const several = datasets.length > 1;
  const header = ['Method', ...(several ? ['Data set'] : []), 'Shots', 'Seed', 'Accuracy %', 'Of rows', 'ECE %',
    'Parameters', 'Seconds', 'Hyperparameters'];
  const title = new Map(methods.map((m) => [m.name, m.title]));
  return table('cells', 'Every cell', header, cells.map((c) => html`<th scope="row">${
    title.get(c.method) ?? c.method}</th>${several && html`<td>${c.dataset}</td>`}<td>${c.shots}</td><td>${
    c.seed}</td><td>${percent(c.accuracy)}</td><td>${formatCount(c.rows)}</td><td>${
    percent(c.ece)}</td><td>${formatCount(c.trainableParameters)}</td><td>${
    formatSeconds(c.seconds)}</td><td class="text">${
    Object.entries(c.hyperparameters).map(([k, v]) => `${k} ${JSON.stringify(v)}`).join(', ')}</td>`));
}

function record(id: string, caption: string, values: object): Markup {
  return table(id, caption, ['Name', 'Value'], Object.entries(values).map(([name, value]) =>
    html`<th scope="row">${name}</th><td class="text">${
      typeof value === 'string' ? value : JSON.stringify(value)}</td>`));
}

/** Only web addresses become links: a `javascript:` address stays text. */
function paper({ paper }: CompareMethod): Markup | undefined {
  if (paper === undefined) return undefined;
  return /^https?:\/\//.test(paper) ? html`: <a href="${paper}" rel="noreferrer">${paper}</a>` : html`: ${paper}`;
}
