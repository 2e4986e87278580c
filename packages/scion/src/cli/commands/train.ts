/** `scion train` and `scion resume`. */
import type { Command } from 'commander';
import {
  type LanguageRecipeInput, type LanguageRun, type RecipeInput, type Run, type TrainOptions, isLanguageTask, resolveLanguageRecipe,
  resolveRecipe, resume, resumeLanguage, taskOf, train, trainLanguage,
} from '../../index.js';
import { Progress, calibrationErrors, interruptible, percent, print, watchSource } from '../output.js';
import { addRecipeFlags, allTrainFlags, readRecipe, withFlagNames } from '../recipe-flags.js';
import { metricsText } from '../report/metrics.js';

export function addTrain(program: Command): void {
  const command = program
    .command('train')
    .summary('adapt a model to a few examples: classes, questions or captions')
    .description(
      'Trains a method on your pictures (--data) or on features of them (--features) and writes a run folder: ' +
        'everything that is needed to predict, evaluate, resume or copy the result elsewhere. With --task vqa or caption ' +
        'a frozen text model learns to answer questions about pictures, or to describe them.',
    )
    .option('--out <folder>', 'run folder to make; must not exist yet')
    .option('--json', 'print the result as JSON');
  addRecipeFlags(command, allTrainFlags)
    .addHelpText(
      'after',
      `
Examples:
  scion train --data photos --model openai/clip-vit-base-patch32 --shots 16 --out runs/photos
  scion train --features pets.safetensors --shots 16 --out runs/pets
  scion train --features pets.safetensors --method tip-adapter-f --shots 4 --seed 2 --out runs/tip
  scion train --recipe recipes/graph-adapter.yaml --set beta=0.7 --out runs/beta
  scion world world --scenes 2000 && scion train --task vqa --data world --set routing=mul --out runs/answers
A run that was stopped goes on with \`scion resume runs/pets\`.`,
    )
    .action(async (options: Record<string, unknown>) => {
      const progress = new Progress(options.json !== true);
      const watching = watch(progress, options.json !== true);
      const run = await withFlagNames(options, allTrainFlags, async () => {
        const recipe = await collected(options);
        return 'task' in recipe ? trainLanguage(recipe, watching) : train(recipe, watching);
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
      const watching = watch(progress, options.json !== true);
      const run = isLanguageTask(await taskOf(path)) ? await resumeLanguage(path, watching) : await resume(path, watching);
      await finish(run, options.json === true, progress);
    });
}

type Collected = { out: string } & (RecipeInput | LanguageRecipeInput);

/** The recipe and the folder. */
async function collected(options: Record<string, unknown>): Promise<Collected> {
  const missing =
    typeof options.out === 'string' && options.out !== ''
      ? []
      : [{ path: '--out', message: 'missing: name the run folder to make, e.g. --out runs/first' }];
  const check = (recipe: Record<string, unknown>): unknown =>
    ('task' in recipe ? resolveLanguageRecipe(recipe) : resolveRecipe(recipe));
  const recipe = await readRecipe<RecipeInput | LanguageRecipeInput>(options, allTrainFlags, check, missing);
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

async function finish(run: Run | LanguageRun, json: boolean, progress: Progress): Promise<void> {
  progress.end();
  await run.close();
  if ('task' in run.info) finishLanguage(run as LanguageRun, json);
  else finishClasses(run as Run, json);
}

function finishLanguage({ path, info: { task, method, answers, result } }: LanguageRun, json: boolean): void {
  print(json, { run: path, task, method, ...result, ...result!.test?.metrics }, () =>
    [
      `${method}: ${result!.trainable_parameters.toLocaleString('en')} trained numbers in ${result!.seconds.toFixed(1)} s`,
      ...(result!.validation
        ? [`validation: loss ${result!.validation.loss.toFixed(4)}, ${percent(result!.validation.accuracy)} right `
          + (answers ? 'answers' : 'next words')]
        : []),
      ...(result!.test ? [`test: ${metricsText(result!.test.metrics)}, ${result!.test.examples} examples`] : []),
      `run folder: ${path}`,
    ].join('\n'),
  );
}

function finishClasses({ path, info: { result, method, validation } }: Run, json: boolean): void {
  print(json, { run: path, method, ...result, accuracy: result?.test?.accuracy }, () =>
    [
      `${method}: ${result!.trainable_parameters.toLocaleString('en')} trained numbers in ${result!.seconds.toFixed(1)} s`,
      ...(result!.validation ? [`validation (${validation}): ${percent(result!.validation.accuracy)}`] : []),
      ...(result!.test
        ? [
            `test: ${percent(result!.test.accuracy)} of ${result!.test.rows} rows, ` +
              calibrationErrors(result!.test.ece, result!.test.raw_ece),
          ]
        : []),
      `run folder: ${path}`,
    ].join('\n'),
  );
}
