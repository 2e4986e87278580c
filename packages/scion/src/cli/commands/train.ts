/** `scion train` and `scion resume`. */
import type { Command } from 'commander';
import { type RecipeInput, type Run, type TrainOptions, resolveRecipe, resume, train } from '../../index.js';
import { Progress, calibrationErrors, interruptible, percent, print, watchSource } from '../output.js';
import { addRecipeFlags, readRecipe, trainFlags, withFlagNames } from '../recipe-flags.js';

export function addTrain(program: Command): void {
  const command = program
    .command('train')
    .summary('adapt a classifier to a few examples per class')
    .description(
      'Trains a method on your pictures (--data) or on features of them (--features) and writes a run folder: ' +
        'everything that is needed to predict, evaluate, resume or copy the result elsewhere.',
    )
    .option('--out <folder>', 'run folder to make; must not exist yet')
    .option('--json', 'print the result as JSON');
  addRecipeFlags(command, trainFlags)
    .addHelpText(
      'after',
      `
Examples:
  scion train --data photos --model openai/clip-vit-base-patch32 --shots 16 --out runs/photos
  scion train --features pets.safetensors --shots 16 --out runs/pets
  scion train --features pets.safetensors --method tip-adapter-f --shots 4 --seed 2 --out runs/tip
  scion train --recipe recipes/graph-adapter.yaml --set beta=0.7 --out runs/beta
A run that was stopped goes on with \`scion resume runs/pets\`.`,
    )
    .action(async (options: Record<string, unknown>) => {
      const progress = new Progress(options.json !== true);
      const run = await withFlagNames(options, trainFlags, async () => {
        const recipe = await collected(options);
        return train(recipe, watch(progress, options.json !== true));
      });
      await finish(run, options.json === true, progress);
    });

  program
    .command('resume <run>')
    .summary('go on with a run that was stopped or killed')
    .description(
      'Goes on from the last checkpoint; the losses are those of a run that was never stopped. The feature ' +
        'file must still be where it was, unchanged.',
    )
    .option('--json', 'print the result as JSON')
    .action(async (path: string, options: { json?: boolean }) => {
      const progress = new Progress(options.json !== true);
      await finish(await resume(path, watch(progress, options.json !== true)), options.json === true, progress);
    });
}

/** The recipe and the folder. */
async function collected(options: Record<string, unknown>): Promise<RecipeInput & { out: string }> {
  const missing =
    typeof options.out === 'string' && options.out !== ''
      ? []
      : [{ path: '--out', message: 'missing: name the run folder to make, e.g. --out runs/first' }];
  const recipe = await readRecipe<RecipeInput>(options, trainFlags, resolveRecipe, missing);
  return { ...recipe, out: String(options.out) };
}

function watch(progress: Progress, bar: boolean): TrainOptions {
  let phase = 'training';
  return {
    signal: interruptible(),
    ...watchSource(progress),
    onPhase: (next) => {
      phase = next;
      progress.restart();
      if (bar && next !== 'training') progress.update(0, 1, next);
    },
    onMetric: (metric, { epochs }) => {
      const val =
        metric.type === 'epoch' && metric.val_accuracy !== undefined
          ? `  validation ${percent(metric.val_accuracy)}`
          : '';
      if (metric.type === 'epoch')
        progress.update(metric.epoch, epochs, `${phase}  loss ${metric.loss.toFixed(4)}${val}`);
    },
  };
}

async function finish(run: Run, json: boolean, progress: Progress): Promise<void> {
  progress.end();
  const { result, method, validation } = run.info;
  await run.close();
  print(json, { run: run.path, method, ...result, accuracy: result?.test?.accuracy }, () =>
    [
      `${method}: ${result!.trainable_parameters.toLocaleString('en')} trained numbers in ${result!.seconds.toFixed(1)} s`,
      ...(result!.validation ? [`validation (${validation}): ${percent(result!.validation.accuracy)}`] : []),
      ...(result!.test
        ? [
            `test: ${percent(result!.test.accuracy)} of ${result!.test.rows} rows, ` +
              calibrationErrors(result!.test.ece, result!.test.raw_ece),
          ]
        : []),
      `run folder: ${run.path}`,
    ].join('\n'),
  );
}
