/** All that a training of a task with words needs: models opened, pictures encoded, texts as rows of numbers. */
import { createHash } from 'node:crypto';
import type { BackboneMethod } from '../../peft/index.js';
import type { Runtime } from '../../runtime/session.js';
import {
  type AnswerVocabulary, answerVocabulary, softScores, vocabularyCoverage,
} from '../../tasks/vqa/index.js';
import type { Sight, VisionText } from '../../nn/vision-text.js';
import { type ScionError, inputError } from '../../util/errors.js';
import { Random } from '../../util/random.js';
import type { SourceOptions } from '../pictures.js';
import {
  type Example, type LanguageData, type LanguageSplit, type Row, type RowMaker, drawn, languageSplits,
} from './examples.js';
import {
  type LanguageModels, type LanguageOptions, buildModel, encodePicturesOf, isWritten, openModels,
} from './model.js';
import type { Visual } from './objective.js';
import { readLanguageData } from './data.js';
import type { LanguageRecipe } from './recipe.js';

export interface PreparedTask {
  readonly data: LanguageData;
  readonly models: LanguageModels;
  readonly visual?: Visual;
  readonly sight?: Sight;
  /** Answers to choose among; absent where they are written, or nothing is trained. */
  readonly vocabulary?: AnswerVocabulary;
  /** Drawn and readable. */
  readonly examples: Readonly<Partial<Record<LanguageSplit, readonly Example[]>>>;
  readonly warnings: readonly string[];
  /** SHA-256 of all that decides over the training: pictures, words, models. */
  readonly digest: string;
}

/** SHA-256 of a value as JSON, in hexadecimal. */
export const digestOf = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex');

/**
 * Reads the data, opens the models and encodes the pictures of a recipe.
 * @param need the splits that are used
 * @param data of the recipe, where they were read before
 * @throws ScionError: data or models that are not there or damaged, a picture that cannot be read unless `skip_bad` is set
 */
export async function prepareTask(
  runtime: Runtime, recipe: LanguageRecipe, need: readonly LanguageSplit[], options: LanguageOptions, data?: LanguageData,
): Promise<PreparedTask> {
  data ??= await readLanguageData(recipe.task, recipe.data);
  const warnings = [...data.warnings];
  if (need.includes('train') && !data.splits.train?.length) {
    throw inputError(recipe.data, 'has no training examples; put the train files of the official layout there');
  }
  const models = await openModels(recipe, options);
  const limits = { train: recipe.examples, val: recipe.val_examples, test: recipe.test_examples };
  const random = Random.seeded(recipe.seed);
  const found = data;
  const chosen = Object.fromEntries(need.map((split) =>
    [split, drawn(useful(found, split), limits[split], random.child('examples', split))])) as Record<LanguageSplit, readonly Example[]>;
  const seen = await picturesOf(runtime, recipe, data, chosen, models, options, warnings);
  // what is evaluated has the answers of its run
  const vocabulary = need.includes('train') ? vocabularyFor(recipe, models, seen.examples.train ?? [], warnings) : undefined;
  const words = languageSplits.map((split) => seen.examples[split]?.map(({ id, picture, question, answers, captions }) =>
    [id, seen.hashes[picture], question, answers, captions]));
  const digest = digestOf([words, models.text.digest, models.images?.digest]);
  return {
    data, models, warnings, digest, examples: seen.examples,
    ...(seen.visual && { visual: seen.visual, sight: { ...seen.size!, prefix: recipe.prefix } }),
    ...(vocabulary && { vocabulary }),
  };
}

/** The examples of a split; of tests those whose answers or captions are known. */
export function useful({ splits }: Pick<LanguageData, 'splits'>, split: LanguageSplit): readonly Example[] {
  const all = splits[split] ?? [];
  return split === 'train' ? all : all.filter(({ answers, captions }) => answers ?? captions);
}

/** The pictures of the chosen examples alone, encoded; the examples then count these. */
async function picturesOf(
  runtime: Runtime, recipe: LanguageRecipe, data: LanguageData, chosen: Readonly<Partial<Record<LanguageSplit, readonly Example[]>>>,
  { images }: LanguageModels, options: SourceOptions, warnings: string[],
): Promise<{
  /** SHA-256 of each picture, as the examples count them; of those that are not seen, none. */
  hashes: readonly (string | undefined)[];
  examples: Partial<Record<LanguageSplit, readonly Example[]>>; visual?: Visual; size?: { tokens: number; dim: number };
}> {
  if (recipe.visual === 'none' || !images) return { hashes: [], examples: chosen };
  const used = [...new Set(Object.values(chosen).flatMap((all) => all.map(({ picture }) => picture)))];
  const place = new Map(used.map((picture, i) => [picture, i]));
  let left = 0;
  const skip = (error: ScionError): void => {
    left++;
    options.onBad?.(error);
  };
  const { visual, rows, hashes } = await encodePicturesOf(
    runtime, images, used.map((picture) => data.pictures[picture]!), recipe.visual, recipe, { ...options, ...(recipe.skip_bad && { skip }) });
  if (left > 0) warnings.push(`${left} pictures cannot be read and are left out, with what is asked or said about them`);
  const examples = Object.fromEntries(Object.entries(chosen).map(([split, all]) => [split, all.flatMap((example) => {
    const picture = rows[place.get(example.picture)!]!;
    return picture < 0 ? [] : [{ ...example, picture }];
  })]));
  const kept = hashes.filter((_, i) => rows[i]! >= 0);
  return { hashes: kept, examples, visual, size: { tokens: visual.tokens, dim: visual.dim } };
}

function vocabularyFor(
  recipe: LanguageRecipe, { text }: LanguageModels, train: readonly Example[], warnings: string[],
): AnswerVocabulary | undefined {
  if (isWritten(recipe, text)) return undefined;
  // GQA has one answer to a question, and compares to the letter
  const form = train.every(({ answers }) => answers?.length === 1) ? 'written' : 'normalised';
  const vocabulary = answerVocabulary(train, { size: recipe.answers, form });
  if (vocabulary.answers.length < 2) {
    throw inputError(recipe.data, `its training questions have ${vocabulary.answers.length} different answers, expected two at least`);
  }
  const covered = vocabularyCoverage(train, vocabulary);
  if (covered < 0.95) {
    warnings.push(`the ${vocabulary.answers.length} answers to choose among are ${(100 * covered).toFixed(1)} % of those given in `
      + 'training; more with answers');
  }
  return vocabulary;
}

/** The model of a prepared task, adapted. @throws ScionError of kind `usage`: what the method refuses */
export function modelOf(
  { models, sight, vocabulary }: Pick<PreparedTask, 'models' | 'sight' | 'vocabulary'>,
  recipe: Pick<LanguageRecipe, 'classifier_layers'>, method: BackboneMethod, config: Record<string, unknown>,
): Promise<VisionText> {
  return buildModel(models.text, {
    sight, head: vocabulary && { answers: vocabulary.answers.length, layers: recipe.classifier_layers },
  }, method, config);
}

/**
 * The rows of examples: one for a question, one for each caption.
 * @param all whether questions stay whose answers are not among those that can be chosen: nothing is right then
 */
export function rowsOf(
  examples: readonly Example[], maker: RowMaker, vocabulary: AnswerVocabulary | undefined, all = false,
): Row[] {
  return examples.flatMap(({ picture, question, answers = [], usualAnswer, captions }): Row[] => {
    if (captions) return captions.filter((text) => text.trim() !== '').map((text) => maker.row(picture, undefined, text));
    if (!vocabulary) {
      const answer = usualAnswer ?? mostFrequent(answers);
      return answer === undefined ? [] : [maker.row(picture, question, answer)];
    }
    const { places, scores } = softScores(answers, vocabulary);
    if (places.length === 0 && !(all && answers.length > 0)) return [];
    return [{ picture, ids: maker.question(question!), scores: places.map((place, i) => [place, scores[i]!] as const) }];
  });
}

/** The answer that most have given; the first of equals. One alone, as GQA has it, is compared to the letter. */
function mostFrequent(answers: readonly string[]): string | undefined {
  if (answers.length === 1) return answers[0];
  return answerVocabulary([{ answers }], { size: 1 }).answers[0];
}

