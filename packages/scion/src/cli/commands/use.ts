/** `scion eval` and `scion predict`: what a finished run is for. */
import type { Command } from 'commander';
import { loadRun, usageError } from '../../index.js';
import { percent, print, printable, table } from '../output.js';

export function addUse(program: Command): void {
  program
    .command('eval <run>')
    .summary('accuracy of a run: per class, confusion, calibration')
    .description(
      'Evaluates a run on the test split of a feature file, of the one it was trained on where none is given.',
    )
    .option('--features <file>', 'feature file with test.features and test.labels')
    .option('--json', 'print the result as JSON (accuracy, loss, ece, per_class, confusion)')
    .action(async (path: string, options: { features?: string; json?: boolean }) => {
      const run = await loadRun(path);
      try {
        const { accuracy, loss, ece, rows, perClass, confusion, groups, path: file } = await run.evaluate(options.features);
        const perName = perClass.map((c, k) => ({ class: run.classNames[k]!, ...c }));
        print(
          options.json === true,
          {
            run: path,
            features: file,
            accuracy,
            loss,
            ece,
            rows,
            ...(groups && { groups }),
            per_class: perName,
            class_names: run.classNames,
            confusion,
          },
          () =>
            [
              `accuracy ${percent(accuracy)} of ${rows} rows, loss ${loss.toFixed(4)}, calibration error ${percent(ece)}`,
              ...Object.entries(groups ?? {}).map(([name, group]) =>
                `${printable(name)}: accuracy ${percent(group.accuracy)} of ${group.rows} rows`),
              '',
              table(
                ['class', 'rows', 'accuracy', 'most often taken for'],
                perName.map((c, k) => [
                  printable(c.class),
                  String(c.rows),
                  c.accuracy === undefined ? '–' : percent(c.accuracy),
                  takenFor(confusion[k]!, k, run.classNames),
                ]),
              ),
            ].join('\n'),
        );
      } finally {
        await run.close();
      }
    });

  program
    .command('predict <run>')
    .summary('classes and probabilities of new features')
    .description(
      'Predicts every row of a feature file: `test.features` or `features` of a .safetensors file, labels are not needed.',
    )
    .option('--features <file>', 'feature file')
    .option('--top <n>', 'classes to list per row', '5')
    .option('--json', 'print the predictions as JSON')
    .action(async (path: string, options: { features?: string; top: string; json?: boolean }) => {
      const top = Number(options.top);
      if (!Number.isInteger(top) || top < 1)
        throw usageError('--top', `${options.top}: expected a whole number from 1 on`);
      if (options.features === undefined)
        throw usageError('--features', 'missing: name the file with the features to predict');
      const run = await loadRun(path);
      try {
        const predictions = await run.predictFile(options.features, { top });
        print(options.json === true, { run: path, features: options.features, predictions }, () =>
          predictions
            .map(
              ({ classes }, row) =>
                `${row}\t${classes.map((c) => `${printable(c.label)} ${percent(c.probability)}`).join('\t')}`,
            )
            .join('\n'),
        );
      } finally {
        await run.close();
      }
    });
}

/** The class that most of a class's misses went to. */
function takenFor(line: readonly number[], label: number, names: readonly string[]): string {
  const misses = line.map((n, k) => (k === label ? 0 : n));
  const most = Math.max(...misses);
  return most === 0 ? '' : `${printable(names[misses.indexOf(most)]!)} (${most})`;
}
