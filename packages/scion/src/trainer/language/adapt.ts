/** A prepared task with its adapted model: rows, training, test. A run and a comparison do the same. */
import { type BackboneMethod, namesIn } from '../../peft/index.js';
import type { Runtime, Tensors } from '../../runtime/session.js';
import { inputError, usageError } from '../../util/errors.js';
import type { Fit } from '../descend.js';
import type { SourceOptions } from '../pictures.js';
import type { VisionText } from '../../nn/vision-text.js';
import type { RowMaker } from './examples.js';
import { type LanguageFitOptions, fitLanguage } from './fit.js';
import { type TextSource, makerOf, padOf } from './model.js';
import { type PreparedTask, modelOf, rowsOf } from './prepare.js';
import type { LanguageRecipe } from './recipe.js';
import { type LanguageEvaluation, evaluateExamples, speakerOf } from './run.js';

export interface FitLanguageResult {
  model: VisionText;
  maker: RowMaker;
  /** The method's hyper-parameters, with the targets that this model has. */
  config: Record<string, unknown>;
  /** Tokens of the longest text. */
  length: number;
  warnings: readonly string[];
  fit(options: Pick<LanguageFitOptions, 'runtime' | 'random' | 'onMetric' | 'afterStep' | 'resume' | 'signal'>): Promise<Fit>;
}

/** @throws ScionError: what the method refuses, or data without anything to learn from */
export async function adaptTask(task: PreparedTask, recipe: LanguageRecipe, method: BackboneMethod): Promise<FitLanguageResult> {
  const { models, vocabulary, visual, examples } = task;
  const config = withTargets(recipe.config, method, models.text);
  const model = await modelOf(task, recipe, method, config);
  if (![...model.parameters()].some(([, { origin }]) => origin.kind === 'trained')) {
    throw usageError('config', `with these settings ${method.name} trains nothing; choose other targets`);
  }
  const maker = makerOf(models.text, model, recipe.max_length);
  const train = rowsOf(examples.train ?? [], maker, vocabulary);
  const val = rowsOf(examples.val ?? [], maker, vocabulary, true);
  if (train.length === 0) {
    throw inputError(recipe.data, recipe.task === 'vqa' ? 'none of its training questions has an answer that can be learned'
      : 'none of its training pictures has a caption');
  }
  const warnings = maker.cut > 0 ? [`${maker.cut} texts are longer than ${maker.positions} tokens and are cut`] : [];
  const pad = padOf(model.text);
  return {
    model, maker, config, warnings,
    length: train.reduce((most, { ids, written = [] }) => Math.max(most, ids.length, written.length), 1),
    fit: (options) => fitLanguage({
      model, train, val, visual, pad, training: recipe.training, ...options,
      ...(recipe.threads === undefined ? {} : { threads: recipe.threads }),
    }),
  };
}

/** The method's usual targets, under the names that this text model has for them, where the recipe names none. */
function withTargets(config: Record<string, unknown>, method: BackboneMethod, text: TextSource): Record<string, unknown> {
  if (config.target_modules !== undefined) return config;
  const usual = method.config.parse({}).target_modules;
  return Array.isArray(usual) ? { ...config, target_modules: namesIn(text.fresh(), usual as string[]) } : config;
}

/** What the trained model says of the test examples; undefined where their answers are not known. */
export async function testTask(
  task: PreparedTask, { model, maker }: Pick<FitLanguageResult, 'model' | 'maker'>, recipe: LanguageRecipe, runtime: Runtime,
  values: Tensors, options: SourceOptions,
): Promise<Omit<LanguageEvaluation, 'path' | 'split'> | undefined> {
  const { test: examples = [] } = task.examples;
  if (examples.length === 0) return undefined;
  const answers = task.vocabulary?.answers;
  const speaker = speakerOf({ runtime, model, values, maker, source: task.models.text, answers, recipe, options });
  try {
    const about = { task: recipe.task, ...(answers && { answers: [...answers] }) };
    return await evaluateExamples(speaker, about, examples, task.visual, recipe.generation);
  } finally {
    await speaker.release();
  }
}
