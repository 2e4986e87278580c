/** `scion compare`. */
import type { Command } from 'commander';
import { type ComparisonInput, compare, resolveComparison, writeAtomically } from '../../index.js';
import { Progress, checkTarget, interruptible, note, print, watchSource } from '../output.js';
import { addRecipeFlags, compareFlags, readRecipe, withFlagNames } from '../recipe-flags.js';
import { htmlReport } from '../report/html.js';
import { markdownTable, textTable } from '../report/table.js';

export function addCompare(program: Command): void {
  const command = program
    .command('compare')
    .summary('methods against each other: accuracy over shots')
    .description(
      'Trains and tests every method with the same rows, for every number of shots and every seed; reports mean ' +
        'and deviation, trained numbers and seconds.',
    )
    .option('--html <file>', 'write a report as one HTML page')
    .option('--json [file]', 'write the measurements as JSON to a file, or to stdout')
    .option('--markdown', 'print the table as Markdown');
  addRecipeFlags(command, compareFlags)
    .addHelpText(
      'after',
      `
Example:
  scion compare --features pets.safetensors --methods zero-shot,tip-adapter-f,graph-adapter --shots 1,4,16 --html pets.html
Nothing is ever chosen on the test split. With few seeds, methods within a deviation of each other are not ranked.`,
    )
    .action(async (options: Record<string, unknown>) => {
      const toStdout = options.json === true;
      const signal = interruptible();
      const progress = new Progress(true);
      const result = await withFlagNames(options, compareFlags, async () => {
        const recipe = await readRecipe<ComparisonInput>(options, compareFlags, resolveComparison);
        for (const file of [options.html, options.json]) if (typeof file === 'string') await checkTarget(file);
        return compare(recipe, {
          signal,
          ...watchSource(progress),
          onCell: ({ method, shots, seed }, done, total) =>
            progress.update(done, total, `${method}, ${shots} shots, seed ${seed}`),
        });
      });
      progress.end();
      print(toStdout, result, () => (options.markdown === true ? markdownTable(result) : textTable(result)));
      const encode = (text: string): Uint8Array[] => [new TextEncoder().encode(text)];
      if (typeof options.html === 'string') await writeAtomically(options.html, encode(htmlReport(result)));
      if (typeof options.json === 'string')
        await writeAtomically(options.json, encode(`${JSON.stringify(result, undefined, 2)}\n`));
      if (typeof options.html === 'string') note(`report: ${options.html}`);
      if (signal.aborted) process.exitCode = 1;
    });
}
