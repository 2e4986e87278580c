/** The comparison as plain text for a terminal and as Markdown. */
import { formatCompact, formatRange, formatSeconds, formatShots, formatSpread, notes } from './format.js';
import { standings, summarise } from './statistics.js';
import type { CompareResult } from './types.js';

interface Table {
  header: string[];
  /** The title first. */
  rows: string[][];
  caption: string;
  notes: string[];
}

/**
 * The accuracy table as aligned plain text: one row per method, one column per number of shots, trainable parameters
 * and median seconds. Ends with a newline.
 */
export function textTable(result: CompareResult): string {
  const { header, rows, caption, notes } = tableOf(result, (text, best) => `${text}${best ? '*' : ' '}`, '*');
  const lines = [header, ...rows].map((row) => row.map(printable));
  const widths = header.map((_, i) => Math.max(...lines.map((row) => row[i]!.length)));
  const body = lines.map((row) =>
    row.map((text, i) => (i === 0 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!))).join('  ').trimEnd());
  body.splice(1, 0, widths.map((w) => '─'.repeat(w)).join('  '));
  return `${[caption, '', ...body, '', ...notes.map(printable)].join('\n').trimEnd()}\n`;
}

/** The same table in GitHub's Markdown, the best in bold. Ends with a newline. */
export function markdownTable(result: CompareResult): string {
  const { header, rows, caption, notes } = tableOf(result, (text, best) => (best ? `**${text}**` : text), 'Bold');
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`;
  const body = rows.map(([title, ...cells]) => line([escapeMarkdown(title!), ...cells]));
  const rule = line(header.map((_, i) => (i === 0 ? '---' : '---:')));
  return `${[caption, '', line(header), rule, ...body, ...notes.flatMap((n) => ['', escapeMarkdown(n)])].join('\n')}\n`;
}

function tableOf(result: CompareResult, mark: (text: string, best: boolean) => string, markName: string): Table {
  const methods = summarise(result);
  const standing = standings(methods);
  const rows = methods.map((method) => [
    method.title,
    ...method.byShots.map((s) =>
      mark(formatSpread(s?.accuracy), standing.some((t) => t.clear && t.best === method && t.shots === s?.shots))),
    formatRange(method, (s) => s.trainableParameters, formatCompact),
    formatRange(method, (s) => s.seconds, formatSeconds),
  ]);
  const seeds = result.seeds.length;
  return {
    header: ['method', ...result.shots.map((shots) => mark(formatShots(shots), false)), 'params', 'seconds'],
    rows,
    caption: `Test accuracy in %, ${seeds === 1 ? 'one seed' : `mean ± deviation over ${seeds} seeds`}`,
    notes: notes(result, methods, standing, markName),
  };
}

/** Without control and direction characters, which could rewrite the terminal or break the rows. */
const printable = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ');

/** Every mark that Markdown or HTML in Markdown would read is escaped. */
const escapeMarkdown = (text: string): string => printable(text).replace(/[\\`*_{}[\]<>|~#&!$]/g, '\\$&');
