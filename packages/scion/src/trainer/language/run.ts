/** A finished run of a task with pictures and words: answers questions, writes captions, is evaluated. */
import { join } from 'node:path';
import { listPictures } from '../../data/picture-list.js';
import { readSafetensors } from '../../formats/safetensors-node.js';
import { getMethod, isBackboneMethod } from '../../peft/index.js';
import { nodeRuntime } from '../../runtime/node.js';
import type { Runtime, Tensors } from '../../runtime/session.js';
import { captionScores } from '../../tasks/captioning/metrics/caption-scores.js';
import { type AnswerReport, gqaAccuracy, vocabularyOf, vqaAccuracy } from '../../tasks/vqa/index.js';
import { Graph } from '../../ir/graph.js';
import { boundParameters } from '../../nn/parameter.js';
import type { VisionText } from '../../nn/vision-text.js';
import { ScionError, inputError, usageError } from '../../util/errors.js';
import { checkDevice } from '../check-runtime.js';
import { type GenerationOptions } from '../generate/index.js';
import type { SourceOptions } from '../pictures.js';
import type { RunOptions } from '../run-pictures.js';
import { files, readInfo, storedConfig } from '../run-folder.js';
import { type LanguageRunInfo, parseLanguageRunInfo } from '../run-info.js';
import type { Example, LanguageSplit, RowMaker } from './examples.js';
import { type LanguageModels, type OpenTextModel, type TextSource, encodePicturesOf, makerOf, openModels, padOf } from './model.js';
import { type Visual, textInputs } from './objective.js';
import { type Choice, type Speaker, openSpeaker } from './predict.js';
import { readLanguageData } from './data.js';
import { type PreparedTask, modelOf, prepareTask, useful } from './prepare.js';
import { type LanguageRecipe, resolveLanguageRecipe } from './recipe.js';

export interface Answered {
  path: string;
  question: string;
  answer: string;
  /** The best answers with their scores, where they are chosen. */
  choices?: Choice[];
}

export interface Captioned {
  path: string;
  caption: string;
}

/** How good a run is on examples. Accuracies and scores are 0 … 1 (CIDEr-D 0 … 10). */
export interface LanguageEvaluation {
  path: string;
  split: LanguageSplit;
  examples: number;
  /** By name: `accuracy`, or BLEU-1 to 4, METEOR, ROUGE-L, CIDEr-D. */
  metrics: Record<string, number>;
  /** Of questions: by type of question and of answer. */
  report?: Omit<AnswerReport, 'perQuestion'>;
  /** What was said of each example. */
  said: { id: string; question?: string; text: string; references: readonly string[] }[];
}

export interface LanguageRunOptions extends RunOptions {
  openTextModel?: OpenTextModel;
}

export interface LanguageRun {
  readonly path: string;
  readonly info: LanguageRunInfo;
  /** Answers a question about each picture: files, or folders that stand for all pictures in and below them. */
  answer(pictures: readonly string[], question: string, options?: { top?: number } & GenerationOptions): Promise<Answered[]>;
  /** Describes pictures: files, or folders that stand for all pictures in and below them. */
  caption(pictures: readonly string[], options?: GenerationOptions): Promise<Captioned[]>;
  /** On the test split, or validation where there is none, of its own data or of others. */
  evaluate(source?: { data?: string | undefined; split?: LanguageSplit | undefined }, options?: GenerationOptions): Promise<LanguageEvaluation>;
  /** Frees the models and ends their thread. */
  close(): Promise<void>;
}

/** Loads a finished run of a task with words. @throws ScionError where it is missing, unfinished, damaged or of classes */
export async function loadLanguageRun(path: string, options: LanguageRunOptions = {}): Promise<LanguageRun> {
  await checkDevice(options.device);
  const { info, values } = await readLanguageRun(path);
  return openLanguageRun(path, info, values, options);
}

/** What a finished run says of itself, and its trained values. @throws ScionError as `loadLanguageRun` */
export async function readLanguageRun(path: string): Promise<{ info: LanguageRunInfo; values: Tensors }> {
  const info = await readInfo(path, parseLanguageRunInfo);
  if (info.state !== 'finished' || !info.result) {
    throw inputError(path, `the run is not finished; go on with \`scion resume ${path}\``);
  }
  return { info, values: Object.fromEntries((await readSafetensors(join(path, files.adapter))).tensors) };
}

/** @param runtime one that is there already and now belongs to the run */
export function openLanguageRun(
  path: string, info: LanguageRunInfo, values: Tensors, options: LanguageRunOptions = {}, runtime?: Runtime,
): LanguageRun {
  const recipe = storedRecipe(path, info, options);
  let opened: ReturnType<typeof openAll> | undefined;
  const started = (): Runtime => (runtime ??= nodeRuntime({ device: options.device }));
  const open = (): NonNullable<typeof opened> => {
    opened ??= openAll(path, info, values, recipe, started(), options);
    opened.catch(() => { opened = undefined; });
    return opened;
  };
  const look = async (paths: readonly string[]): Promise<{ read: string[]; visual?: Visual }> => {
    const found = await listPictures(paths);
    const { models: { images } } = await open();
    if (recipe.visual === 'none' || !images) return { read: found };
    const { visual, rows } = await encodePicturesOf(started(), images, found.map((file) => ({ path: file })), recipe.visual, { ...recipe, cache: false }, {
      ...options, ...(options.skipBad && { skip: (error) => options.onBad?.(error) }),
    });
    return { read: found.filter((_, i) => rows[i]! >= 0), visual };
  };
  const need = (task: LanguageRunInfo['task'], instead: string): void => {
    if (info.task !== task) throw usageError(path, `is a run of the task ${info.task}; ${instead}`);
  };
  /** Says which texts were cut in `body`. */
  const withCuts = async <T>(maker: RowMaker, body: () => Promise<T>): Promise<T> => {
    const before = maker.cut;
    const result = await body();
    const cut = maker.cut - before;
    if (cut > 0) options.onWarning?.(`${cut} of the questions are longer than the model has places for and are cut`);
    return result;
  };
  const generationOf = (changed: GenerationOptions = {}): GenerationOptions => {
    if (info.answers && Object.keys(changed).length > 0) {
      throw new ScionError('usage', Object.keys(changed).map((key) => ({
        path: key, message: `is for texts that are written; ${path} chooses among ${info.answers!.length} answers, leave it out`,
      })));
    }
    return { ...recipe.generation, ...changed };
  };

  return {
    path,
    info,
    async answer(pictures, question, { top = 5, ...generation } = {}) {
      need('vqa', 'it describes pictures: use scion caption');
      if (!(top >= 1)) throw usageError('top', `${top}: expected a whole number from 1 on`);
      if (question.trim() === '') throw usageError('--question', 'is empty; ask something');
      const writing = generationOf(generation);
      const { read, visual } = await look(pictures);
      const { speaker, maker } = await open();
      const asked = read.map((_, picture) => ({ picture, question }));
      if (!info.answers) {
        const texts = await withCuts(maker, () => speaker.write(asked, visual, writing));
        return read.map((file, i) => ({ path: file, question, answer: texts[i]! }));
      }
      const chosen = await withCuts(maker, () => speaker.choose(asked, visual, top));
      return read.map((file, i) => ({ path: file, question, answer: chosen[i]![0]!.answer, choices: chosen[i]! }));
    },
    async caption(pictures, generation) {
      need('caption', 'it answers questions: use scion predict with --question');
      const { read, visual } = await look(pictures);
      const texts = await (await open()).speaker.write(read.map((_, picture) => ({ picture })), visual, generationOf(generation));
      return read.map((file, i) => ({ path: file, caption: texts[i]! }));
    },
    async evaluate({ data = recipe.data, split: asked } = {}, generation) {
      const writing = generationOf(generation);
      const { speaker, maker } = await open();
      const splits = asked ? [asked] : (['test', 'val'] as const);
      const known = await readLanguageData(info.task, data);
      const split = splits.find((name) => useful(known, name).length > 0);
      if (!split) {
        throw inputError(data, `has no ${splits.join(' or ')} examples whose ${info.task === 'vqa' ? 'answers' : 'captions'} are known`);
      }
      const most = data === recipe.data ? recipe.test_examples : 'all';
      const prepared = await prepareTask(
        started(), { ...recipe, data, val_examples: 'all', test_examples: most }, [split], options, known);
      prepared.warnings.forEach((warning) => options.onWarning?.(warning));
      const examples = prepared.examples[split]!;
      const found = () => evaluateExamples(speaker, info, examples, prepared.visual, writing);
      return { path: data, split, ...await withCuts(maker, found) };
    },
    async close() {
      await (await opened?.catch(() => undefined))?.speaker.release();
      await runtime?.close();
    },
  };
}

/** The recipe of a run, with what its user says now. */
export function storedRecipe(path: string, info: LanguageRunInfo, options: LanguageRunOptions): LanguageRecipe {
  const { recipe } = resolveLanguageRecipe(info.recipe);
  const config = storedConfig(path, info, getMethod(info.method, join(path, files.info)));
  const { images, text } = info.models;
  return {
    ...recipe, config, device: options.device ?? 'cpu', cache: options.cache ?? recipe.cache, skip_bad: options.skipBad ?? recipe.skip_bad,
    ...(options.model === undefined
      ? images && { model: images.name, revision: images.revision }
      : { model: options.model, revision: options.revision }),
    text_model: text.name, text_revision: text.revision,
  };
}

async function openAll(
  path: string, info: LanguageRunInfo, values: Tensors, recipe: LanguageRecipe, runtime: Runtime, options: LanguageRunOptions,
): Promise<{ models: LanguageModels; maker: RowMaker; speaker: Speaker }> {
  const { models, model } = await openRunModels(path, info, values, recipe, options);
  const maker = makerOf(models.text, model, recipe.max_length);
  return { models, maker, speaker: speakerOf({ runtime, model, values, maker, source: models.text, answers: info.answers, recipe, options }) };
}

/** What an adapted model of a recipe says. */
export function speakerOf({ model, source, recipe, options, ...rest }: {
  runtime: Runtime; model: VisionText; values: Tensors; maker: RowMaker; source: TextSource; answers: readonly string[] | undefined;
  recipe: LanguageRecipe; options: SourceOptions;
}): Speaker {
  return openSpeaker({
    ...rest, model, tokenizer: source.tokenizer, pad: padOf(model.text), signal: options.signal, onProgress: options.onEncode,
    ...(recipe.threads === undefined ? {} : { session: { threads: recipe.threads } }),
  });
}

/**
 * The models of a run, found again and checked, and the one that was adapted, which waits for the trained values.
 * @throws ScionError: a model that is not there or another one, values that do not fit
 */
export async function openRunModels(
  path: string, info: LanguageRunInfo, values: Tensors, recipe: LanguageRecipe, options: LanguageRunOptions,
): Promise<{ models: LanguageModels; model: VisionText }> {
  const method = getMethod(info.method, join(path, files.info));
  if (!isBackboneMethod(method)) throw inputError(join(path, files.info), `method ${info.method} adapts no model; the run folder is damaged`);
  const models = await openModels(recipe, options);
  for (const [key, now] of [['images', models.images], ['text', models.text]] as const) {
    const before = info.models[key];
    if (before && now && before.digest !== now.digest) {
      throw inputError(now.path, `is not the model that ${path} was trained with (${before.name}): its content differs; give that one`);
    }
  }
  const vocabulary = info.answers && vocabularyOf(info.answers);
  const parts: Pick<PreparedTask, 'models' | 'sight' | 'vocabulary'> = {
    models, ...(info.sight && { sight: info.sight }), ...(vocabulary && { vocabulary }),
  };
  const model = await modelOf(parts, recipe, method, recipe.config);
  checkValues(path, model, values);
  return { models, model };
}

/**
 * Trained values must all be there. What the task does not read, as the head of a model whose answers are chosen, was not
 * trained either and stays as it was.
 */
function checkValues(path: string, model: VisionText, values: Tensors): void {
  const [stored] = values['classifier.out_proj.bias']?.shape ?? [];
  const answers = model.head?.answers;
  if (stored !== answers) {
    throw inputError(join(path, files.info), `answers: has ${answers ?? 'none'}, and the classifier in ${files.adapter} chooses among `
      + `${stored ?? 'none'}; take both files of the same run, or train again`);
  }
  const read = new Set([...boundParameters(programOf(model)).keys()]);
  for (const [name, parameter] of model.parameters()) {
    const { origin, shape } = parameter;
    if (origin.kind !== 'trained') continue;
    const stored = values[name];
    if (stored?.shape.join() === shape.join()) continue;
    if (!stored && origin.before && !read.has(parameter)) {
      parameter.origin = origin.before;
      continue;
    }
    throw inputError(join(path, files.adapter), `${name} is ${stored ? `[${stored.shape.join(', ')}]` : 'missing'}, expected `
      + `[${shape.join(', ')}]; the run folder is damaged, train again`);
  }
}

/** All that the task reads of a model, for one short text. */
function programOf(model: VisionText): Graph {
  const graph = new Graph();
  const seen = textInputs(graph, model, { rows: 1, length: 2 });
  if (model.head) model.classify(seen);
  else model.nextWords({ ...seen, written: graph.input('written', 'int64', [1, 2]) });
  return graph;
}

/** What is said of examples whose answers or captions are known, and how good it is. */
export async function evaluateExamples(
  speaker: Speaker, { task, answers: vocabulary }: Pick<LanguageRunInfo, 'task' | 'answers'>, given: readonly Example[], visual: Visual | undefined,
  generation: GenerationOptions,
): Promise<Omit<LanguageEvaluation, 'path' | 'split'>> {
  const examples = given.filter(({ answers, captions }) => (answers ?? captions ?? []).length > 0);
  const texts = vocabulary
    ? (await speaker.choose(examples, visual, 1)).map(([first]) => first!.answer)
    : await speaker.write(examples, visual, generation);
  const said = examples.map(({ id, question, answers, captions }, i) =>
    ({ id, ...(question === undefined ? {} : { question }), text: texts[i]!, references: answers ?? captions ?? [] }));
  if (task === 'caption') {
    const { perExample: _, ...metrics } = captionScores(said.map(({ text, references }) => ({ candidate: text, references })));
    return { examples: examples.length, metrics, said };
  }
  // GQA has one answer to a question, and compares to the letter
  const accuracy = examples.every(({ answers }) => answers!.length === 1) ? gqaAccuracy : vqaAccuracy;
  const { perQuestion: _, ...report } = accuracy(examples.map(({ answers = [], questionType, answerType }, i) => ({
    answer: texts[i]!, answers,
    ...(questionType === undefined ? {} : { questionType }), ...(answerType === undefined ? {} : { answerType }),
  })));
  return { examples: examples.length, metrics: { accuracy: report.overall }, report, said };
}
