/** A text model with its tokenizer and the pictures that it sees: opened, built, adapted. */
import { cacheFolder } from '../../data/cache-folder.js';
import type { Picture } from '../../data/feature-file.js';
import { hashImages } from '../../data/image-hash.js';
import type { ImageRef } from '../../data/image-ref.js';
import type { WordTokenizer } from '../../data/tokenizer.js';
import type { Module } from '../../nn/module.js';
import type { Parameter } from '../../nn/parameter.js';
import type { TextModel } from '../../nn/text-model.js';
import { type AnswerHead, type Sight, VisionText } from '../../nn/vision-text.js';
import type { BackboneMethod } from '../../peft/index.js';
import type { Runtime } from '../../runtime/session.js';
import { type ScionError, assert, inputError, usageError } from '../../util/errors.js';
import type { Tensor } from '../../util/tensor.js';
import { type Backbone, type OpenBackbone, openImageEncoder } from '../encode.js';
import { type SourceOptions, open } from '../pictures.js';
import { type Marks, type RowMaker, rowMaker } from './examples.js';
import type { Visual } from './objective.js';
import type { LanguageRecipe } from './recipe.js';

/** A frozen text model with what belongs to it. */
export interface TextSource {
  /** The name of a built-in model, `org/name` of the hub, else the absolute path. */
  readonly name: string;
  readonly path: string;
  /** Where its configuration and tokenizer are; absolute. */
  readonly folder: string;
  /** The commit of a model of the hub. */
  readonly revision?: string;
  /** SHA-256 of weights, configuration and tokenizer, in hexadecimal. */
  readonly digest: string;
  readonly kind: TextModel['kind'];
  readonly tokenizer: WordTokenizer;
  /** Makes the model, once more for every method that changes it. */
  readonly fresh: () => Module & TextModel;
  /** The value of a parameter, from the checkpoint. */
  readonly read: (parameter: Parameter) => Promise<Tensor<'float32'>>;
}

/** Finds and opens a text model; handed in, since no part of the training knows any model. */
export type OpenTextModel = (
  model: string,
  options?: Omit<NonNullable<Parameters<OpenBackbone>[1]>, 'dtype' | 'adapter'>,
) => Promise<TextSource>;

export interface LanguageOptions extends SourceOptions {
  openTextModel?: OpenTextModel;
}

/** The models of a recipe. */
export interface LanguageModels {
  /** Absent where nothing is seen. */
  readonly images?: Backbone;
  readonly text: TextSource;
}

type Which = Pick<LanguageRecipe, 'model' | 'revision' | 'text_model' | 'text_revision' | 'visual' | 'cache'>;

/** Opens the models of a recipe. @throws ScionError: one that is not there, is damaged, or is none of texts */
export async function openModels(recipe: Which, options: LanguageOptions): Promise<LanguageModels> {
  const { openTextModel, signal, onEncode: onProgress, onWarning } = options;
  assert(openTextModel, 'no way to open a text model was handed in');
  const cache = recipe.cache ? cacheFolder() : undefined;
  const text = await openTextModel(recipe.text_model, {
    where: '--text-model', revision: recipe.text_revision, cache, signal, onProgress, onWarning,
  });
  if (recipe.visual === 'none') return { text };
  return { text, images: await open(options, recipe.model, cache, { revision: recipe.revision, dtype: undefined, adapter: undefined }) };
}

/** Whether answers are chosen among the frequent ones, or written. */
export function isWritten({ task, head }: Pick<LanguageRecipe, 'task' | 'head'>, { kind, name }: TextSource): boolean {
  const written = task === 'caption' || head === 'generate' || (head === 'auto' && kind === 'decoder');
  if (written && kind === 'encoder') {
    throw usageError(task === 'caption' ? 'text_model' : 'head',
      `${name} is an encoder, which reads texts and writes none; take a decoder (GPT-2) or an encoder-decoder (BART)`);
  }
  return written;
}

export function marksOf(model: TextModel): Marks {
  const { kind, beginToken: begin, endToken: end, padToken: pad } = model;
  return { kind, begin, end, pad, ...(model.kind === 'encoder-decoder' && { decoderStart: model.decoderStart }) };
}

/** What fills up short texts: padding is masked, so that any token will do where a model names none. */
export const padOf = ({ padToken, endToken }: TextModel): number => padToken ?? endToken ?? 0;

/** @param maxLength of the recipe; the model's positions behind the picture bound it */
export function makerOf(source: TextSource, model: VisionText, maxLength?: number): RowMaker {
  const { positions } = model;
  if (positions < 8) {
    throw usageError('visual', `${model.prefix} tokens of a picture leave ${Math.max(0, positions)} places for words in ${source.name}, `
      + `which has ${model.text.positions}; use visual: pooled, or prefix: false`);
  }
  return rowMaker(source.tokenizer, marksOf(model.text), Math.min(positions, maxLength ?? positions), source.folder);
}

/**
 * The text model that sees, with the method's parts in it.
 * @throws ScionError of kind `usage`: what the method refuses
 */
export async function buildModel(
  { fresh, read }: TextSource, { sight, head }: { sight?: Sight | undefined; head?: AnswerHead | undefined },
  method: BackboneMethod, config: Record<string, unknown>,
): Promise<VisionText> {
  const model = new VisionText(fresh(), sight, head);
  await method.attach(model, config, { read });
  return model;
}

/** Features of all pictures lie in memory, in one array. */
const mostBytes = 8e9;

/**
 * Features of every picture: once computed, or out of the cache.
 * @param skip what happens with a picture that cannot be read; without it, it is an error
 * @returns for each picture its row; -1 for one that was left out
 */
export async function encodePicturesOf(
  runtime: Runtime, images: Backbone, given: readonly ImageRef[], kind: 'pooled' | 'patches',
  recipe: Pick<LanguageRecipe, 'cache' | 'threads' | 'device'>, options: SourceOptions & { skip?: (error: ScionError) => void },
): Promise<{ visual: Visual; rows: Int32Array; hashes: readonly (string | undefined)[] }> {
  const { signal, onWarning, onEncode: onProgress, skip } = options;
  const encoder = openImageEncoder({
    runtime, backbone: images, cache: recipe.cache ? cacheFolder() : undefined, threads: recipe.threads, device: recipe.device,
    signal, onWarning, onProgress,
  }, undefined, kind);
  const bytes = 4 * given.length * encoder.dim;
  if (bytes > mostBytes) {
    await encoder.release();
    throw usageError('visual', `${kind}: the features of ${given.length} pictures would take ${(bytes / 1e9).toFixed(1)} GB, expected at most `
      + `${mostBytes / 1e9}; use visual: pooled, or fewer examples`);
  }
  const found = await hashImages(given, {
    ...(skip && { bad: (_, error) => skip(error) }), ...(signal && { signal }),
    onProgress: (done, total) => onProgress?.(done, total, 'hashes of pictures'),
  });
  const there = given.flatMap((image, i) => (found.has(image) ? [i] : []));
  const pictures = there.map((i): Picture => ({ ...given[i]!, sha256: found.get(given[i]!)!, view: 0 }));
  try {
    const { features, positions } = await encoder.encode(pictures, {
      what: 'pictures', ...(skip && { skipBad: (_: number, error: ScionError) => skip(error) }),
    });
    if (positions.length === 0 && given.length > 0) {
      throw inputError(given[0]!.path, `none of the ${given.length} pictures can be read; replace them`);
    }
    const rows = new Int32Array(given.length).fill(-1);
    positions.forEach((position, row) => { rows[there[position]!] = row; });
    return { hashes: given.map((image) => found.get(image)), visual: { tokens: encoder.tokens, dim: encoder.dim / encoder.tokens, data: features.data }, rows };
  } finally {
    await encoder.release();
  }
}
