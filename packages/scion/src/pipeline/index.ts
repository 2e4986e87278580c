/** Training and its results with the models handed in: what a program calls. */
import * as exporting from '../export/run.js';
import * as classes from '../trainer/classes.js';
import * as comparing from '../trainer/compare.js';
import * as describing from '../trainer/describe.js';
import * as encoding from '../trainer/pictures.js';
import type { ComparisonInput, RecipeInput } from '../trainer/recipe.js';
import * as running from '../trainer/run.js';
import * as serving from '../trainer/run-set.js';
import type { RunOptions } from '../trainer/run-pictures.js';
import * as training from '../trainer/train.js';
import * as contesting from '../trainer/language/compare.js';
import * as asking from '../trainer/language/run.js';
import type { LanguageComparisonInput, LanguageRecipeInput } from '../trainer/language/recipe.js';
import * as language from '../trainer/language/train.js';
import { openBackbone } from './backbone.js';
import { openTextModel } from './text-model.js';

/**
 * Trains as the recipe says into the new folder `out`, on a feature file or on pictures.
 * @throws ScionError before anything is written where recipe, features, pictures or model are wrong
 */
export const train = (recipe: RecipeInput & { out: string }, options?: training.TrainOptions): Promise<running.Run> =>
  training.train(recipe, { openBackbone, ...options });

/** Goes on with a run that was stopped or killed. The features, or pictures and model, must be there unchanged. */
export const resume = (path: string, options?: training.TrainOptions): Promise<running.Run> =>
  training.resume(path, { openBackbone, ...options });

/** Loads a finished run. @throws ScionError where it is missing, unfinished, damaged or too new */
export const loadRun = (path: string, options?: RunOptions): Promise<running.Run> =>
  running.loadRun(path, { openBackbone, ...options });

/** Trains and tests every method × shots × seed. @throws ScionError with all that is wrong, before anything starts */
export const compare = (
  input: ComparisonInput,
  options?: comparing.CompareOptions,
): Promise<comparing.ComparisonResult> => comparing.compare(input, { openBackbone, ...options });

/** The same program that `train` would run. */
export const describeRecipe = (
  input: RecipeInput,
  options?: encoding.SourceOptions,
): Promise<describing.ProgramDescription> => describing.describeRecipe(input, { openBackbone, ...options });

/**
 * Encodes a data set and the prompts of its classes, as `scion features` does; `writeFeatureFile` writes the content.
 * @throws ScionError: wrong words, data or model, or a picture that cannot be read unless `skip_bad` is set
 */
export const encodePictures = (
  input: Parameters<typeof encoding.encodePictures>[0],
  options?: Parameters<typeof encoding.encodePictures>[1],
): Promise<encoding.EncodedPictures> => encoding.encodePictures(input, { openBackbone, ...options });

/**
 * Writes a finished run as ONNX or for transformers.js into a new folder, which appears whole.
 * @throws ScionError: a run or backbone that is not there or damaged, a task that the method cannot do, a folder with
 *   content
 */
export const exportRun = (
  path: string,
  folder: string,
  options: exporting.ExportOptions,
): Promise<exporting.ExportedRun> => exporting.exportRun(path, folder, { openBackbone, ...options });

/**
 * Loads several finished runs, by names of the caller, with one model for all that share their backbone: for a server.
 * @throws ScionError with every run that is missing, unfinished or damaged, or whose backbone is not there
 */
export const openRuns = (
  paths: Readonly<Record<string, string>>,
  options?: serving.RunSetOptions,
): Promise<serving.RunSet> => serving.openRuns(paths, { openBackbone, ...options });

/**
 * Writes a run with one class more into a new folder, which appears whole; what was trained stays as it is.
 * @throws ScionError: a method that cannot take a class, a name that is taken, pictures or a backbone that are not there
 */
export const addClass = (
  path: string,
  added: classes.AddedClass,
  out: string,
  options?: RunOptions,
): Promise<classes.ChangedRun> => classes.addClass(path, added, out, { openBackbone, ...options });

/**
 * Trains a task with pictures and words into the new folder `out`.
 * @throws ScionError before anything is written where recipe, data or models are wrong
 */
export const trainLanguage = (
  recipe: LanguageRecipeInput & { out: string }, options?: language.LanguageTrainOptions,
): Promise<asking.LanguageRun> => language.trainLanguage(recipe, { openBackbone, openTextModel, ...options });

/** Goes on with such a run that was stopped or killed. Data and models must be there unchanged. */
export const resumeLanguage = (path: string, options?: language.LanguageTrainOptions): Promise<asking.LanguageRun> =>
  language.resumeLanguage(path, { openBackbone, openTextModel, ...options });

/** Loads a finished run of a task with words. @throws ScionError where it is missing, unfinished, damaged or of classes */
export const loadLanguageRun = (path: string, options?: asking.LanguageRunOptions): Promise<asking.LanguageRun> =>
  asking.loadLanguageRun(path, { openBackbone, openTextModel, ...options });

/** Trains and tests every method × seed on a task with words. @throws ScionError with all that is wrong, before anything starts */
export const compareLanguage = (
  input: LanguageComparisonInput, options?: contesting.LanguageCompareOptions,
): Promise<contesting.LanguageComparisonResult> => contesting.compareLanguage(input, { openBackbone, openTextModel, ...options });
