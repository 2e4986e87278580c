/** Training of a task with words into a run folder, and going on with one that was stopped. */
import { resolve } from 'node:path';
import { nodeRuntime } from '../../runtime/node.js';
import type { Runtime } from '../../runtime/session.js';
import { ScionError, inputError } from '../../util/errors.js';
import { Random } from '../../util/random.js';
import { checkDevice } from '../check-runtime.js';
import type { Fit } from '../descend.js';
import { RunFolder, checkFree, readInfo } from '../run-folder.js';
import { type LanguageRunInfo, parseLanguageRunInfo, runFormat } from '../run-info.js';
import { type TrainOptions, countValues, environment, interrupted, savingSteps, version } from '../train.js';
import { type FitLanguageResult, adaptTask, testTask } from './adapt.js';
import type { OpenTextModel } from './model.js';
import { type PreparedTask, prepareTask } from './prepare.js';
import { type LanguageRecipe, type LanguageRecipeInput, resolveLanguageRecipe } from './recipe.js';
import { type LanguageRun, loadLanguageRun, openLanguageRun } from './run.js';

export interface LanguageTrainOptions extends TrainOptions {
  openTextModel?: OpenTextModel;
}

const splits = ['train', 'val', 'test'] as const;

/**
 * Trains as the recipe says into the new folder `out`.
 * @throws ScionError before anything is written where recipe, data or models are wrong
 */
export async function trainLanguage(
  input: LanguageRecipeInput & { out: string }, options: LanguageTrainOptions = {},
): Promise<LanguageRun> {
  const { out, ...rest } = input;
  const { recipe, method } = resolveLanguageRecipe(rest);
  recipe.data = resolve(recipe.data);
  await checkFree(out);
  await checkDevice(recipe.device);
  const runtime = nodeRuntime({ device: recipe.device });
  try {
    const task = await prepareTask(runtime, recipe, splits, options);
    const { images, text } = task.models;
    recipe.text_model = text.name;
    if (text.revision !== undefined) recipe.text_revision = text.revision; // the commit, which no push changes
    if (images) recipe.model = images.name;
    if (images?.revision !== undefined) recipe.revision = images.revision;
    const adapted = await adaptTask(task, recipe, method);
    recipe.config = adapted.config;
    const warnings = [...task.warnings, ...adapted.warnings];
    warnings.forEach((warning) => options.onWarning?.(warning));
    const info: LanguageRunInfo = {
      format: runFormat, scion: version, created: new Date().toISOString(), state: 'running', task: recipe.task,
      method: method.name, recipe: { ...recipe }, data: { path: task.data.path, digest: task.digest },
      models: { ...(images && { images: known(images) }), text: known(text) },
      ...(task.sight && { sight: task.sight }),
      ...(task.vocabulary && { answers: [...task.vocabulary.answers] }),
      length: adapted.length, environment: environment(recipe.device), warnings,
    };
    const folder = await RunFolder.create(out, info, {});
    return await complete(folder, task, adapted, recipe, runtime, options, true);
  } catch (error) {
    await runtime.close();
    throw error;
  }
}

const known = ({ name, path, digest, revision }: { name: string; path: string; digest: string; revision?: string }) =>
  ({ name, path, digest, ...(revision === undefined ? {} : { revision }) });

/** Goes on with a run that was stopped or killed, from its last checkpoint. Data and models must be there unchanged. */
export async function resumeLanguage(path: string, options: LanguageTrainOptions = {}): Promise<LanguageRun> {
  const folder = await RunFolder.reopen(path, (at) => readInfo(at, parseLanguageRunInfo));
  let runtime: Runtime | undefined;
  try {
    const { info } = folder;
    if (info.state === 'finished') return await loadLanguageRun(path, options);
    const { recipe, method } = resolveLanguageRecipe(info.recipe);
    await checkDevice(recipe.device);
    runtime = nodeRuntime({ device: recipe.device });
    const task = await prepareTask(runtime, recipe, splits, options);
    if (task.digest !== info.data.digest) {
      throw inputError(info.data.path, 'its pictures, words or models have changed since the run began; put the old ones back or train again');
    }
    return await complete(folder, task, await adaptTask(task, recipe, method), recipe, runtime, options, false);
  } catch (error) {
    await runtime?.close();
    throw error;
  } finally {
    await folder.close();
  }
}

async function complete(
  folder: RunFolder<LanguageRunInfo>, task: PreparedTask, adapted: FitLanguageResult, recipe: LanguageRecipe, runtime: Runtime,
  options: LanguageTrainOptions, fresh: boolean,
): Promise<LanguageRun> {
  const started = performance.now();
  const saving = savingSteps(folder, options);
  let fit: Fit;
  try {
    const checkpoint = fresh ? undefined : await folder.loadCheckpoint();
    fit = await adapted.fit({
      runtime, random: Random.seeded(recipe.seed).child('fit'), ...saving.options,
      onMetric: (metric) => {
        folder.log(metric);
        options.onMetric?.(metric, { epochs: recipe.training.epochs });
      },
      ...(options.signal && { signal: options.signal }),
      ...(checkpoint && { resume: checkpoint }),
    });
    await folder.flush();
    await folder.writeAdapter(fit.values);
    options.onPhase?.('test');
    const test = await testTask(task, adapted, recipe, runtime, fit.values, options);
    const validation = fit.history[fit.epoch - 1];
    await folder.writeInfo({
      state: 'finished',
      result: {
        config: recipe.config, epoch: fit.epoch, trainable_parameters: countValues(fit.values),
        seconds: (performance.now() - started) / 1000,
        ...(validation && { validation }),
        ...(test && { test: { examples: test.examples, metrics: test.metrics } }),
      },
    });
    await folder.close();
    return openLanguageRun(folder.path, folder.info, fit.values, { ...options, device: recipe.device }, runtime);
  } catch (error) {
    if (error instanceof ScionError && error.kind === 'interrupted') {
      await folder.close();
      throw interrupted(folder.path);
    }
    await (fresh && saving.steps() === 0 ? folder.discard() : folder.close());
    throw error;
  }
}

