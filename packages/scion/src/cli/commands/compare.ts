/** `scion compare`. */
import { rm } from 'node:fs/promises';
import type { Command } from 'commander';
import {
  type ComparisonInput, type LanguageComparisonInput, ScionError, compare, compareLanguage, resolveComparison,
  resolveLanguageComparison, writeAtomically,
} from '../../index.js';
import { Progress, checkTarget, interruptible, note, print, printable, watchSource } from '../output.js';
import { addRecipeFlags, allCompareFlags, givesTask, readRecipe, withFlagNames } from '../recipe-flags.js';
import { htmlReport } from '../report/html.js';
import { languageMarkdown, languageText } from '../report/language.js';
import { summaryOf } from '../report/summary.js';
import { zeroShot } from '../report/statistics.js';
import { markdownTable, textTable } from '../report/table.js';

/** Cells that are done, beside the result they go into. */
const journalOf = (file: string): string => `${file}.cells`;

export function addCompare(program: Command): void {
  const command = program
    .command('compare')
    .summary('methods against each other: accuracy over shots, on one or several data sets; answers or captions')
    .description(
      'Trains and tests every method with the same rows, for every data set, number of shots and seed; reports mean ' +
        'and deviation with 95 % intervals, trained numbers and seconds. Several cells are trained side by side.',
    )
    .option('--html <file>', 'write a report as one HTML page')
    .option('--json [file]', 'write the measurements as JSON to a file, or to stdout; with a file, the same command goes ' +
      'on where it was stopped')
    .option('--markdown [file]', 'write the tables as Markdown to a file, or to stdout')
    .option('--reference <a,b>', 'methods that the others are compared with (default zero-shot, else the first)');
  addRecipeFlags(command, allCompareFlags)
    .addHelpText(
      'after',
      `
Examples:
  scion compare --features pets.safetensors --methods zero-shot,tip-adapter-f,graph-adapter --shots 1,4,16 --html pets.html
  scion compare --features pets.safetensors food.safetensors --methods taskres,graph-adapter,graph-adapter:beta=0.8 \\
    --reference taskres --json both.json --markdown both.md
  scion compare --task vqa --data world --methods lora,lora:routing=mul --seeds 1,2,3 --json answers.json
Nothing is ever chosen on the test split. With few seeds, methods within a deviation of each other are not ranked.`,
    )
    .action(async (options: Record<string, unknown>) => {
      if (await givesTask(options)) return compareWords(options);
      const [html, json, markdown] = [options.html, options.json, options.markdown]
        .map((v) => (typeof v === 'string' ? v : undefined));
      const signal = interruptible();
      const progress = new Progress(true);
      const { result, references } = await withFlagNames(options, allCompareFlags, async () => {
        const { recipe, references } = await collected(options);
        for (const file of [html, json, markdown]) if (file !== undefined) await checkTarget(file);
        const result = await compare(recipe, {
          ...watching(progress, signal, json),
          onCell: ({ dataset, method, shots, seed }, done, total) =>
            progress.update(done, total, printable(`${dataset}, ${method}, ${shots} shots, seed ${seed}`)),
        });
        return { result, references };
      });
      progress.end();
      const whole = { ...result, summary: summaryOf(result, references) };
      print(options.json === true, whole, () => (options.markdown === true ? markdownTable : textTable)(result, references));
      await write(html, () => htmlReport(result, references));
      await write(markdown, () => markdownTable(result, references));
      await write(json, () => `${JSON.stringify(whole, undefined, 2)}\n`);
      await end([html, markdown], json, signal);
    });
}

/** Says where reports are, and what becomes of the finished cells. */
async function end(reports: readonly (string | undefined)[], json: string | undefined, signal: AbortSignal): Promise<void> {
  for (const file of reports) if (file !== undefined) note(`report: ${file}`);
  if (signal.aborted) process.exitCode = 1;
  if (json === undefined) return;
  if (!signal.aborted) await rm(journalOf(json), { force: true });
  else note(`${journalOf(json)} holds what is done; the same command goes on from there`);
}

/** What both kinds of comparison are watched by. */
const watching = (progress: Progress, signal: AbortSignal, json: string | undefined) => ({
  signal,
  ...(json === undefined ? {} : { journal: journalOf(json) }),
  ...watchSource(progress),
  onWarning: (warning: string): void => {
    progress.pause();
    note(`warning: ${warning}`);
  },
});

/** The recipe, and the names of the methods that differences are to; all that is wrong with either at once. */
async function collected(
  options: Record<string, unknown>,
): Promise<{ recipe: ComparisonInput; references: string[] }> {
  const given = typeof options.reference === 'string' ? options.reference.split(',').map((v) => v.trim()).filter(Boolean) : [];
  let names: string[] = [];
  const recipe = await readRecipe<ComparisonInput>(options, allCompareFlags, (values) => {
    names = resolveComparison(values).methods.map(({ name }) => name);
    const unknown = given.filter((name) => !names.includes(name));
    if (unknown.length > 0) throw new ScionError('usage', unknown.map((name) => (
      { path: '--reference', message: `${JSON.stringify(name)} is not compared; name one of ${names.join(', ')}` })));
  });
  return { recipe, references: given.length > 0 ? given : [names.includes(zeroShot) ? zeroShot : names[0]!] };
}

/** The same for tasks with words: a table, and no page. */
async function compareWords(options: Record<string, unknown>): Promise<void> {
  const [json, markdown, html] = [options.json, options.markdown, options.html].map((v) => (typeof v === 'string' ? v : undefined));
  if (html !== undefined) throw new ScionError('usage', [{ path: '--html', message: 'is for classes of pictures; use --markdown' }]);
  const signal = interruptible();
  const progress = new Progress(true);
  const { result, reference } = await withFlagNames(options, allCompareFlags, async () => {
    let names: string[] = [];
    const recipe = await readRecipe<LanguageComparisonInput>(options, allCompareFlags, (values) => {
      names = resolveLanguageComparison(values).methods.map(({ name }) => name);
    });
    const reference = typeof options.reference === 'string' ? options.reference : names[0]!;
    if (!names.includes(reference)) {
      throw new ScionError('usage', [{
        path: '--reference', message: `${JSON.stringify(reference)} is not compared; name one of ${names.join(', ')}`,
      }]);
    }
    for (const file of [json, markdown]) if (file !== undefined) await checkTarget(file);
    const result = await compareLanguage(recipe, {
      ...watching(progress, signal, json),
      onCell: ({ method, seed }, done, total) => progress.update(done, total, printable(`${method}, seed ${seed}`)),
    });
    return { result, reference };
  });
  progress.end();
  print(options.json === true, result, () => (options.markdown === true ? languageMarkdown : languageText)(result, reference));
  await write(markdown, () => languageMarkdown(result, reference));
  await write(json, () => `${JSON.stringify(result, undefined, 2)}\n`);
  await end([markdown], json, signal);
}

async function write(file: string | undefined, text: () => string): Promise<void> {
  if (file !== undefined) await writeAtomically(file, [new TextEncoder().encode(text())]);
}
