/** The comparison as plain text for a terminal and as Markdown for a page of results. */
import {
  differenceKind, formatCompact, formatCount, formatDifference, formatInterval, formatRange, formatSeconds, formatShots,
  formatSpread, formatSpreadKind, intervalKind, missing, notes,
} from './format.js';
import { type View, differences, groupViewsOf, standings, summarise, viewsOf } from './statistics.js';
import type { CompareResult } from './types.js';

/** What is shown under a caption, the title of each row first. */
export interface Table {
  caption: string;
  header: string[];
  /** The title first. */
  rows: string[][];
  notes: string[];
}

/** How the best of a column is marked. */
interface Mark {
  name: string;
  put: (text: string, best: boolean) => string;
}

const star: Mark = { name: '*', put: (text, best) => `${text}${best ? '*' : ' '}` };
const bold: Mark = { name: 'Bold', put: (text, best) => (best ? `**${text}**` : text) };

/**
 * Aligned plain text: accuracies with trainable parameters and median seconds, their 95 % intervals, differences to the
 * references where there are several data sets, accuracies of groups of test rows and of every data set. Ends with a
 * newline.
 */
export function textTable(result: CompareResult, references: readonly string[]): string {
  const [first, ...more] = viewsOf(result);
  const groups = groupViewsOf(result, first);
  const tables = [
    accuracies(result, first, star),
    intervals(result, first),
    ...(more.length > 0 ? references.map((name) => difference(result, first, name)) : []),
    ...[...groups, ...more].map((view) => accuracies(result, view, star)),
  ];
  return tables.map(asText).join('\n');
}

/** All tables in GitHub's Markdown, a heading for each view, the best in bold. Ends with a newline. */
export function markdownTable(result: CompareResult, references: readonly string[]): string {
  const views = viewsOf(result);
  const sections = views.map((view) => {
    const tables = [
      accuracies(result, view, bold),
      intervals(result, view),
      ...references.map((name) => difference(result, view, name)),
      ...groupViewsOf(result, view).flatMap((group) => [accuracies(result, group, bold), intervals(result, group)]),
    ];
    return `## ${escapeMarkdown(heading(view))}\n${tables.map(asMarkdown).join('\n')}`;
  });
  return [...sections, `## Data sets\n${asMarkdown(dataTable(result))}`].join('\n');
}

/** At the start of a line; names of data sets stay as they are. */
const heading = ({ datasets, title }: View): string =>
  (datasets.length > 1 ? title.replace(/^./, (c) => c.toUpperCase()) : title);

function accuracies(result: CompareResult, view: View, mark: Mark): Table {
  const methods = summarise(result, view);
  const standing = standings(methods);
  return {
    caption: `${result.datasets.length > 1 || view.group !== undefined ? `${heading(view)}: test` : 'Test'} accuracy in %, ${
      formatSpreadKind(result, view)}`,
    header: ['method', ...result.shots.map((shots) => mark.put(formatShots(shots), false)), 'params', 'seconds'],
    rows: methods.map((method) => [
      method.title,
      ...method.byShots.map((s) => mark.put(
        formatSpread(s?.accuracy), standing.some((t) => t.clear && t.best === method && t.shots === s?.shots))),
      formatRange(method, (s) => s.trainableParameters, formatCompact),
      formatRange(method, (s) => s.seconds, formatSeconds),
    ]),
    notes: notes(result, methods, standing, mark.name),
  };
}

function intervals(result: CompareResult, view: View): Table {
  return {
    caption: `95 % intervals of these accuracies: ${intervalKind(result)}`,
    header: ['method', ...result.shots.map(formatShots)],
    rows: summarise(result, view).map((m) => [m.title, ...m.byShots.map((s) => formatInterval(s?.interval))]),
    notes: [],
  };
}

function difference(result: CompareResult, view: View, reference: string): Table {
  const found = differences(result, view, reference);
  const { title } = result.methods.find((m) => m.name === reference)!;
  return {
    caption: `Difference to ${title} in points, paired by data set and seed, 95 % intervals: ${differenceKind(view)}`,
    header: ['method', ...result.shots.map(formatShots)],
    rows: result.methods.filter((m) => m.name !== reference)
      .map((m) => [m.title, ...found.get(m.name)!.map(formatDifference)]),
    notes: [],
  };
}

function dataTable({ datasets }: CompareResult): Table {
  return {
    caption: 'Rows of features',
    header: ['data set', 'classes', 'train', 'test', 'model'],
    rows: datasets.map((d) => [
      d.name, ...[d.classes, d.train, d.test].map(formatCount), escapeMarkdown(d.model ?? missing),
    ]),
    notes: [],
  };
}

export function asText({ caption, header, rows, notes }: Table): string {
  const lines = [header, ...rows].map((row) => row.map(printable));
  const widths = header.map((_, i) => Math.max(...lines.map((row) => row[i]!.length)));
  const body = lines.map((row) =>
    row.map((text, i) => (i === 0 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!))).join('  ').trimEnd());
  body.splice(1, 0, widths.map((w) => '─'.repeat(w)).join('  '));
  return `${[printable(caption), '', ...body, '', ...notes.map(printable)].join('\n').trimEnd()}\n`;
}

export function asMarkdown({ caption, header, rows, notes }: Table): string {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`;
  const body = rows.map(([title, ...cells]) => line([escapeMarkdown(title!), ...cells]));
  const rule = line(header.map((_, i) => (i === 0 ? '---' : '---:')));
  const lines = [escapeMarkdown(caption), '', line(header), rule, ...body];
  return `${[...lines, ...notes.flatMap((n) => ['', escapeMarkdown(n)])].join('\n')}\n`;
}

/** Without control and direction characters, which could rewrite the terminal or break the rows. */
const printable = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ');

/** Every mark that Markdown or HTML in Markdown would read is escaped. */
const escapeMarkdown = (text: string): string => printable(text).replace(/[\\`*_{}[\]<>|~#&!$]/g, '\\$&');
