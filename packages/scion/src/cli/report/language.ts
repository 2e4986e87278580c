/** A comparison on a task with words, as plain text and as Markdown. */
import type { LanguageCell, LanguageComparisonResult } from '../../index.js';
import { formatCompact, formatInterval, formatSeconds, formatSpread } from './format.js';
import { pairedInterval } from './interval.js';
import { median, spread } from './statistics.js';
import { type Table, asMarkdown, asText } from './table.js';

/** What tables of a task show, with the first one ranked. CIDEr-D and the like are shown times 100, as published. */
const shown: Readonly<Record<LanguageComparisonResult['task'], Readonly<Record<string, string>>>> = {
  vqa: { accuracy: 'accuracy' },
  caption: { ciderD: 'CIDEr-D', bleu4: 'BLEU-4', rougeL: 'ROUGE-L', meteorExactStem: 'METEOR (exact, stem)' },
};

export const languageText = (result: LanguageComparisonResult, reference: string): string => asText(tableOf(result, reference));
export const languageMarkdown = (result: LanguageComparisonResult, reference: string): string => asMarkdown(tableOf(result, reference));

function tableOf(result: LanguageComparisonResult, reference: string): Table {
  const names = Object.entries(shown[result.task]);
  const main = names[0]![0];
  const of = (method: string): LanguageCell[] => result.cells.filter((cell) => cell.method === method);
  const rows = result.methods.flatMap(({ name }) => {
    const cells = of(name);
    if (cells.length === 0) return [];
    const first = cells.map(({ trainableParameters }) => trainableParameters)[0]!;
    return [[
      name, ...names.map(([key]) => formatSpread(spread(cells.map(({ metrics }) => metrics[key]!)))),
      name === reference ? '' : differenceTo(cells, of(reference), main), formatCompact(first),
      formatSeconds(median(cells.map(({ seconds }) => seconds))),
    ]];
  });
  const seeds = result.seeds.length;
  return {
    caption: `Test ${names.map(([, title]) => title).join(', ')} × 100, mean ± deviation over ${seeds} seed${seeds === 1 ? '' : 's'}`,
    header: ['method', ...names.map(([, title]) => title), `to ${reference}, 95 %`, 'params', 'seconds'],
    rows,
    notes: result.warnings,
  };
}

/** `+3.1 [+1.0, +5.2]`: of the same seeds. */
function differenceTo(cells: readonly LanguageCell[], others: readonly LanguageCell[], metric: string): string {
  const pairs = cells.flatMap(({ seed, metrics }) => {
    const other = others.find((cell) => cell.seed === seed);
    return other ? [metrics[metric]! - other.metrics[metric]!] : [];
  });
  if (pairs.length === 0) return '–';
  const interval = pairedInterval(pairs);
  return `${formatSpread(spread(pairs), true)}${interval ? ` ${formatInterval(interval)}` : ''}`;
}
