/** The comparison as one HTML page that needs nothing else: no script, no font, no image, no request. */
import {
  formatCompact, formatCount, formatRange, formatSeconds, formatShots, formatSpread, missing, notes, percent,
} from './format.js';
import { html, type Markup, trusted } from './markup.js';
import { accuracyPlot, swatches } from './plot.js';
import { type MethodSummary, type ShotSummary, type Standing, standings, summarise, zeroShot } from './statistics.js';
import { stylesheet } from './stylesheet.js';
import type { CompareMethod, CompareResult } from './types.js';

/** The report as a self-contained HTML document. All texts of the result are escaped. */
export function htmlReport(result: CompareResult): string {
  const methods = summarise(result);
  const standing = standings(methods);
  const { features } = result;
  const reference = methods.find((m) => m.name === zeroShot);
  const isBest = (m: MethodSummary, s: ShotSummary) =>
    standing.some((t) => t.clear && t.best === m && t.shots === s.shots);
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
<p class="lead">${headline(methods, standing, reference)}</p>
<p class="quiet">${facts(result)}</p>
${result.warnings.length > 0 && html`<section class="warnings" aria-labelledby="warnings">
<h2 id="warnings">Warnings</h2>
<ul>${result.warnings.map((w) => html`<li>${w}</li>`)}</ul>
</section>`}
<h2>Accuracy over shots</h2>
${figure(methods, result.shots)}
${matrix('accuracy', `Test accuracy in %, ${over(result.seeds)}`, methods, result.shots, (s, m) => {
    const text = formatSpread(s.accuracy);
    return isBest(m, s) ? html`<strong>${text}</strong>` : html`${text}`;
  })}
${notes(result, methods, standing, 'Bold').map((n) => html`<p class="quiet">${n}</p>`)}
${reference && methods.length > 1 && matrix(
    'difference', `Difference from ${reference.title} in percentage points, paired by seed`,
    methods.filter((m) => m !== reference), result.shots, (s) => html`${formatSpread(s.difference, true)}`)}
${matrix('ece', `Expected calibration error in %, ${over(result.seeds)}`, methods, result.shots,
    (s) => html`${formatSpread(s.ece)}`)}
<h2>Details</h2>
<details><summary>Every cell: ${formatCount(result.cells.length)} runs</summary>
${cells(result, methods)}
</details>
<details><summary>Methods and papers</summary>
<ul>
${methods.map((m) => html`<li>${m.title} <span class="quiet">(<code>${m.name}</code>)</span>${paper(m)}</li>\n`)}</ul>
</details>
<details><summary>Features, recipe and environment</summary>
${record('features', 'Feature file', { ...features })}
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

const over = (seeds: readonly number[]) =>
  (seeds.length === 1 ? 'one seed' : `mean ± sample standard deviation over ${seeds.length} seeds`);

/** What holds at the largest number of shots. */
function headline(
  methods: readonly MethodSummary[], standing: readonly Standing[], reference: MethodSummary | undefined,
): Markup {
  if (standing.length === 0) return html`No cell was tested.`;
  const { shots, best, accuracy, rivals, clear } = standing.reduce((a, b) => (b.shots > a.shots ? b : a));
  const gain = best.byShots.find((s) => s?.shots === shots)?.difference;
  return html`With ${formatShots(shots)} per class, <b>${best.title}</b> reaches ${formatSpread(accuracy)} %${
    reference && gain && html` (${formatSpread(gain, true)} points over ${reference.title})`}${
    rivals !== undefined && rivals.length > 0 && html`, within noise of ${rivals.map((m) => m.title).join(', ')}`}${
    clear && html`, more than one deviation above the other ${methods.length > 2 ? 'methods' : 'method'}`}${
    !rivals && methods.length > 1 && html`; one seed, so the noise is unknown`}.`;
}

function facts({ features, seeds, shots }: CompareResult): Markup {
  return html`${features.model && html`${features.model}, `}${formatCount(features.classes)} classes, ${
    formatCount(features.test)} test images; shots: ${shots.join(', ')}; seeds: ${seeds.join(', ')}.`;
}

function figure(methods: readonly MethodSummary[], shots: readonly number[]): Markup | undefined {
  const plot = accuracyPlot(methods, shots);
  if (plot === undefined) return undefined;
  const samples = swatches(methods);
  const bars = methods.some((m) => m.byShots.some((s) => s?.accuracy.deviation !== undefined));
  return html`<figure>
${trusted(plot)}
<figcaption>
<ul class="legend">${methods.map((m, i) => html`<li>${trusted(samples[i]!)}<span>${m.title}</span></li>`)}</ul>
${bars && html`<p class="quiet">Bars are one deviation; methods at the same shots are drawn side by side.</p>`}
</figcaption>
</figure>`;
}

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

/** One row per method, one column per number of shots; the accuracy table also shows size and time. */
function matrix(
  id: string, caption: string, methods: readonly MethodSummary[], shots: readonly number[],
  cell: (summary: ShotSummary, method: MethodSummary) => Markup,
): Markup {
  const cost = id === 'accuracy';
  const header = ['Method', ...shots.map(formatShots), ...(cost ? ['Parameters', 'Seconds'] : [])];
  return table(id, caption, header, methods.map((m) => html`<th scope="row">${m.title}</th>${
    m.byShots.map((s) => html`<td>${s ? cell(s, m) : missing}</td>`)}${
    cost && html`<td>${formatRange(m, (s) => s.trainableParameters, formatCompact)}</td><td>${
      formatRange(m, (s) => s.seconds, formatSeconds)}</td>`}`));
}

function cells(result: CompareResult, methods: readonly MethodSummary[]): Markup {
  const header = ['Method', 'Shots', 'Seed', 'Accuracy %', 'ECE %', 'Parameters', 'Seconds', 'Hyperparameters'];
  const title = new Map(methods.map((m) => [m.name, m.title]));
  return table('cells', 'Every cell', header, result.cells.map((c) => html`<th scope="row">${
    title.get(c.method) ?? c.method}</th><td>${c.shots}</td><td>${c.seed}</td><td>${percent(c.accuracy)}</td><td>${
    percent(c.ece)}</td><td>${formatCount(c.trainableParameters)}</td><td>${
    formatSeconds(c.seconds)}</td><td class="text">${
    Object.entries(c.hyperparameters).map(([k, v]) => `${k} ${JSON.stringify(v)}`).join(', ')}</td>`));
}

function record(id: string, caption: string, values: Record<string, unknown>): Markup {
  return table(id, caption, ['Name', 'Value'], Object.entries(values).map(([name, value]) =>
    html`<th scope="row">${name}</th><td class="text">${
      typeof value === 'string' ? value : JSON.stringify(value)}</td>`));
}

/** Only web addresses become links: a `javascript:` address stays text. */
function paper({ paper }: CompareMethod): Markup | undefined {
  if (paper === undefined) return undefined;
  return /^https?:\/\//.test(paper) ? html`: <a href="${paper}" rel="noreferrer">${paper}</a>` : html`: ${paper}`;
}
