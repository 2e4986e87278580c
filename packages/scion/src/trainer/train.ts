/** Training into a run folder, from a recipe to a finished run; and going on with one that was stopped. */
import { availableParallelism, cpus } from 'node:os';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { type Method, needText } from '../peft/index.js';
import { nodeRuntime } from '../runtime/node.js';
import type { Device, Tensors } from '../runtime/session.js';
import { ScionError, inputError } from '../util/errors.js';
import { type Tensor, int64, numel } from '../util/tensor.js';
import { AdaptedModel, directionsOf } from './adapted.js';
import { checkDevice } from './check-runtime.js';
import type { Checkpoint, Metric } from './descend.js';
import { epochsOf } from './fit.js';
import { moduleMaker } from './maker.js';
import { type RecipeFeatures, type SourceOptions, lasting, recipeFeatures } from './pictures.js';
import { type Recipe, type RecipeInput, resolveRecipe } from './recipe.js';
import { type Run, classDirections, evaluateSplit, loadRun, runFromParts } from './run.js';
import { RunFolder, checkFree, readRunInfo } from './run-folder.js';
import { type RunInfo, runFormat } from './run-info.js';
import { type Prepared, chooseAndFit, prepareRows, threadsOf } from './select.js';

/** What a caller may watch. */
export interface TrainOptions extends SourceOptions {
  onMetric?: (metric: Metric, total: { epochs: number }) => void;
  onPhase?: (phase: string) => void;
  /** Warnings about the data, before training starts. */
  onWarning?: (warning: string) => void;
  /** Stops after the step under way, with a checkpoint; `train` then throws an error of kind `interrupted`. */
  signal?: AbortSignal;
  /** Seconds between checkpoints. */
  checkpointEvery?: number;
}

export const version = (createRequire(import.meta.url)('../../package.json') as { version: string }).version;

/** Cores that this process may use. */
export const cores = availableParallelism;

/** Where something was computed; `device` is what it was computed on. */
export function environment(device?: Device): Record<string, string> {
  const ort = createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string };
  return {
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    onnxruntime: ort.version,
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: String(cpus().length),
    ...(device === undefined ? {} : { device }),
  };
}

const uncalibrated =
  'there are no validation rows: probabilities are not calibrated, and predict cannot say "none of these"';

/**
 * Trains as the recipe says into the new folder `out`.
 * @throws ScionError before anything is written where recipe or features are wrong
 */
export async function train(recipe: RecipeInput & { out: string }, options: TrainOptions = {}): Promise<Run> {
  const { out, ...rest } = recipe;
  const resolved = resolveRecipe(rest);
  const { method } = resolved;
  // a run remembers where its features are, wherever it is used from
  for (const key of ['features', 'descriptions', 'adapter'] as const) {
    if (resolved.recipe[key] !== undefined) resolved.recipe[key] = resolve(resolved.recipe[key]);
  }
  if (resolved.recipe.data !== undefined) resolved.recipe.data = lasting(resolved.recipe.data);
  await checkFree(out);
  await checkDevice(resolved.recipe.device);
  const file = await recipeFeatures(resolved.recipe, { train: true, text: needText([method]) }, options);
  if (file.pictures) {
    const { name, revision } = file.pictures.model;
    resolved.recipe.model = name;
    if (revision !== undefined) resolved.recipe.revision = revision; // the commit, which no push changes
  }
  const rows = prepareRows(file, resolved.recipe);
  const warnings = [...file.notes, ...rows.warnings, ...(rows.pairs.length > 0 ? [] : [uncalibrated])];
  warnings.forEach((w) => options.onWarning?.(w));
  const info: RunInfo = {
    format: runFormat,
    scion: version,
    created: new Date().toISOString(),
    state: 'running',
    method: method.name,
    recipe: { ...resolved.recipe },
    features: { path: file.path, digest: file.digest, ...(file.model ? { model: file.model } : {}) },
    ...(file.pictures ? { pictures: file.pictures } : {}),
    class_names: [...file.classNames],
    dim: file.dim,
    logit_scale: file.logitScale,
    environment: environment(resolved.recipe.device),
    validation: rows.validation,
    warnings,
  };
  const folder = await RunFolder.create(out, info, supportTensors(file.text, rows.support));
  return complete(folder, file, rows, resolved, options, { fresh: true });
}

/**
 * Goes on with a run that was stopped or killed, from its last checkpoint. The feature file must be there unchanged.
 */
export async function resume(path: string, options: TrainOptions = {}): Promise<Run> {
  const folder = await RunFolder.reopen(path, readRunInfo);
  try {
    if (folder.info.state === 'finished') return await loadRun(path, options);
    const resolved = resolveRecipe(folder.info.recipe);
    await checkDevice(resolved.recipe.device);
    const { features, pictures } = folder.info;
    if (pictures && pictures.model.name === pictures.model.path && !existsSync(pictures.model.path)) {
      throw inputError(
        path,
        `the model of its training is not at ${pictures.model.path} any more; put it back, or train again`,
      );
    }
    const file = await recipeFeatures(resolved.recipe, { train: true, text: needText([resolved.method]) }, options);
    if (file.digest !== features.digest) {
      throw inputError(
        features.path,
        file.pictures
          ? 'its pictures, words or model have changed since the run began; put the old ones back or train again'
          : 'has changed since the run began; put the old file back or train again',
      );
    }
    return await complete(folder, file, prepareRows(file, resolved.recipe), resolved, options, { fresh: false });
  } finally {
    await folder.close();
  }
}

async function complete(
  folder: RunFolder,
  file: RecipeFeatures,
  rows: Prepared,
  { recipe, method }: { recipe: Recipe; method: Method },
  options: TrainOptions,
  { fresh }: { fresh: boolean },
): Promise<Run> {
  const started = performance.now();
  const runtime = nodeRuntime({ device: recipe.device });
  const saving = savingSteps(folder, options);
  try {
    const make = moduleMaker(method, file);
    const epochs = recipe.training ? epochsOf(recipe.training, rows.support.labels.length, file.classNames.length) : 0;
    const checkpoint = fresh ? undefined : await folder.loadCheckpoint();
    const chosen = await chooseAndFit({
      ...(options.signal ? { signal: options.signal } : {}),
      calibrate: true,
      runtime,
      method,
      recipe,
      rows,
      make,
      onMetric: (metric) => {
        folder.log(metric);
        options.onMetric?.(metric, { epochs });
      },
      onPhase: (phase) => {
        if (options.signal?.aborted) throw interrupted(folder.path);
        options.onPhase?.(phase);
      },
      ...saving.options,
      ...(checkpoint ? { resume: checkpoint } : {}),
    });
    if (options.signal?.aborted) throw interrupted(folder.path);
    await folder.flush();
    await folder.writeAdapter(chosen.values);
    const module = await make(chosen.config, rows.support);
    let support = supportTensors(file.text, rows.support);
    if (module instanceof AdaptedModel) {
      const directions = await directionsOf(runtime, module, chosen.values, threadsOf(recipe));
      support = { ...support, [classDirections]: directions };
      await folder.writeSupport(support);
    }
    const test =
      file.test &&
      (await testScore(
        runtime,
        module,
        chosen.values,
        file.test,
        { ...threadsOf(recipe), ...(chosen.calibration ? { temperature: chosen.calibration.temperature } : {}) },
      ));
    await folder.writeInfo({
      state: 'finished',
      result: {
        config: chosen.config,
        epoch: chosen.epoch,
        trainable_parameters: countValues(chosen.values),
        seconds: (performance.now() - started) / 1000,
        ...(chosen.validation ? { validation: chosen.validation } : {}),
        ...(test ? { test } : {}),
        ...(chosen.calibration ? { calibration: chosen.calibration } : {}),
      },
    });
    await folder.close();
    return runFromParts(folder.path, folder.info, support, chosen.values, options, runtime);
  } catch (error) {
    await runtime.close();
    // a run that never took a step has nothing to resume from
    if (error instanceof ScionError && error.kind === 'interrupted') {
      await folder.close();
      throw interrupted(folder.path);
    }
    const useless = fresh && saving.steps() === 0;
    await (useless ? folder.discard() : folder.close());
    throw error;
  }
}

/** Checkpoints from time to time, and when the training is stopped. */
export function savingSteps(
  folder: Pick<RunFolder, 'path' | 'saveCheckpoint'>, { signal, checkpointEvery }: Pick<TrainOptions, 'signal' | 'checkpointEvery'>,
): { options: { afterStep: (take: () => Promise<Checkpoint>) => Promise<void> }; steps: () => number } {
  let every = (checkpointEvery ?? 2) * 1000;
  let saved = performance.now();
  let steps = 0;
  const afterStep = async (take: () => Promise<Checkpoint>): Promise<void> => {
    steps++;
    const stop = signal?.aborted ?? false;
    if (!stop && performance.now() - saved < every) return;
    const began = performance.now();
    await folder.saveCheckpoint(await take());
    saved = performance.now();
    // a large model is not saved most of the time
    if (checkpointEvery === undefined) every = Math.max(every, 10 * (saved - began));
    if (stop) throw interrupted(folder.path);
  };
  return { options: { afterStep }, steps: () => steps };
}

export function interrupted(path: string): ScionError {
  return new ScionError('interrupted', [{ path, message: `stopped; go on with \`scion resume ${path}\`` }]);
}

async function testScore(...given: Parameters<typeof evaluateSplit>): Promise<NonNullable<RunInfo['result']>['test']> {
  const { accuracy, loss, ece, rows, raw } = await evaluateSplit(...given);
  return { accuracy, loss, ece, rows, raw_loss: raw.loss, raw_ece: raw.ece };
}

export function countValues(values: Tensors): number {
  return Object.values(values).reduce((sum, t) => sum + numel(t.shape), 0);
}

/** What the method is built on, for the run folder. */
export function supportTensors(
  text: Tensor<'float32'> | undefined, { features, labels }: Pick<Prepared['support'], 'features' | 'labels'>,
): Tensors {
  return {
    ...(text ? { 'text.features': text } : {}),
    'support.features': features,
    'support.labels': int64([labels.length], labels),
  };
}
