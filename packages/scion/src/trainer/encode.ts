/** From pictures and words to features: a data set through a dual encoder. */
import type { Graph, Value } from '../ir/graph.js';
import { numel } from '../util/tensor.js';
import { splitNames, type ImageDataset } from '../data/dataset.js';
import type { FeatureContent, RowGroups, Split } from '../data/feature-file.js';
import { loadImages } from '../data/image-loader.js';
import type { ImageProcessor } from '../data/image-processor.js';
import type { TextTokenizer } from '../data/tokenizer.js';
import type { Runtime, SessionOptions } from '../runtime/session.js';
import { type ScionError, inputError } from '../util/errors.js';
import { type Tensor, float32 } from '../util/tensor.js';
import { compileInference } from './compile.js';
import { openProgram } from './program.js';

/** A model with an image and a text tower in one space, as CLIP. */
export interface DualEncoder {
  /** images [B, 3, H, W] → [B, d], not normalised */
  imageFeatures(images: Value): Value;
  /** ids int64 [B, T] → [B, d], not normalised */
  textFeatures(ids: Value): Value;
  /** What cosines are multiplied with, a scalar. */
  scale(graph: Graph): Value;
}

export interface EncodeOptions {
  runtime: Runtime;
  encoder: DualEncoder;
  /** Pictures in one run; the last one is padded. Default 16. */
  batchSize?: number;
  threads?: number;
  onProgress?: (done: number, total: number, what: string) => void;
}

// the weights are repacked once and used for many runs
const sessionOptions = ({ threads }: EncodeOptions): SessionOptions => ({
  prepack: true,
  ...(threads ? { threads } : {}),
});

/** One row of features per picture; with `skipBad`, rows of pictures that cannot be decoded are left out. */
export async function encodeImages(
  options: EncodeOptions,
  paths: readonly string[],
  processor: ImageProcessor,
  skipBad?: (position: number, error: ScionError) => void,
): Promise<{ features: Tensor<'float32'>; positions: number[] }> {
  const { runtime, encoder, batchSize = 16, onProgress } = options;
  const shape = [batchSize, 3, processor.height, processor.width];
  const program = compileInference((graph) => ({
    features: encoder.imageFeatures(graph.input('images', 'float32', shape)),
  }));
  const session = await openProgram(runtime, program, {}, sessionOptions(options));
  const rows: Float32Array[] = [];
  const positions: number[] = [];
  let dim = 0;
  let running: Promise<void> = Promise.resolve();
  try {
    for await (const batch of loadImages(paths, processor, { batchSize, ...(skipBad ? { skipBad } : {}) })) {
      // the next batch is decoded while this one is encoded
      await running;
      const count = batch.positions.length;
      const pixels = count === batchSize ? batch.pixels.data : padded(batch.pixels.data, numel(shape));
      running = session.run({ images: float32(shape, pixels) }).then(({ features }) => {
        dim = features!.shape[1]!;
        rows.push((features!.data as Float32Array).slice(0, count * dim));
        positions.push(...batch.positions);
        onProgress?.(positions.length, paths.length, 'pictures');
      });
      running.catch(() => undefined); // awaited above or below; until then nobody does
    }
    await running;
  } finally {
    await running.catch(() => undefined);
    await session.release();
  }
  const data = new Float32Array(positions.length * dim);
  rows.reduce((at, row) => {
    data.set(row, at);
    return at + row.length;
  }, 0);
  return { features: float32([positions.length, dim], data), positions };
}

function padded(pixels: Float32Array, length: number): Float32Array {
  const out = new Float32Array(length);
  out.set(pixels);
  return out;
}

/**
 * Features of every class's prompts: [K, templates, d]. Classes with unequal numbers of prompts are averaged to
 * [K, 1, d], which is what the methods do with templates anyway. Also gives the encoder's scale.
 */
export async function encodeTexts(
  options: EncodeOptions,
  prompts: readonly (readonly string[])[],
  tokenizer: TextTokenizer,
  length: number,
): Promise<{ text: Tensor<'float32'>; logitScale: number }> {
  const { runtime, encoder, batchSize = 16, onProgress } = options;
  const program = compileInference((graph) => ({
    features: encoder.textFeatures(graph.input('ids', 'int64', [batchSize, length])),
    scale: encoder.scale(graph),
  }));
  const session = await openProgram(runtime, program, {}, sessionOptions(options));
  const all = prompts.flat();
  const rows: number[][] = [];
  let logitScale = NaN;
  try {
    for (let start = 0; start < all.length; start += batchSize) {
      const texts = all.slice(start, start + batchSize);
      // padding repeats the last text
      const ids = tokenizer.encode([...texts, ...Array<string>(batchSize - texts.length).fill(texts.at(-1)!)], length);
      const { features, scale } = await session.run({ ids });
      const dim = features!.shape[1]!;
      const data = features!.data as Float32Array;
      texts.forEach((_, i) => rows.push(Array.from(data.subarray(i * dim, (i + 1) * dim))));
      logitScale = Number(scale!.data[0]);
      onProgress?.(rows.length, all.length, 'texts');
    }
  } finally {
    await session.release();
  }
  const dim = rows[0]!.length;
  const counts = prompts.map((texts) => texts.length);
  if (counts.every((n) => n === counts[0])) {
    return { text: float32([prompts.length, counts[0]!, dim], rows.flat()), logitScale };
  }
  let at = 0;
  const means = counts.map((n) => {
    const own = rows.slice(at, (at += n));
    return own[0]!.map((_, i) => own.reduce((sum, row) => sum + row[i]!, 0) / n);
  });
  return { text: float32([prompts.length, 1, dim], means.flat()), logitScale };
}

export interface DatasetEncoding extends EncodeOptions {
  dataset: ImageDataset;
  prompts: readonly (readonly string[])[];
  processor: ImageProcessor;
  tokenizer: TextTokenizer;
  /** Tokens of a text, padding included. */
  textLength: number;
  /** Named in the feature file. */
  model: string;
  /** Called for a picture that cannot be read; without it, the first one ends the work. */
  skipBad?: (path: string, error: ScionError) => void;
}

/** All splits of a data set and the prompts of its classes, as a feature file holds them. */
export async function encodeDataset(options: DatasetEncoding): Promise<FeatureContent> {
  const { dataset, prompts, processor, tokenizer, textLength, model, skipBad } = options;
  const { text, logitScale } = await encodeTexts(options, prompts, tokenizer, textLength);
  const splits: Partial<Record<(typeof splitNames)[number], Split>> = {};
  for (const name of splitNames) {
    const images = dataset.splits[name];
    if (!images?.length) continue;
    const { features, positions } = await encodeImages(
      { ...options, onProgress: (done, total, what) => options.onProgress?.(done, total, `${name} ${what}`) },
      images.map(({ path }) => path),
      processor,
      skipBad && ((position, error) => skipBad(images[position]!.path, error)),
    );
    if (positions.length === 0) throw inputError(name, `none of its ${images.length} pictures can be read`);
    const groups = name === 'test' ? rowGroups(dataset.groups, positions) : undefined;
    splits[name] = { features, labels: Int32Array.from(positions, (i) => images[i]!.label), ...(groups && { groups }) };
  }
  return { model, logitScale, classNames: dataset.classNames, text, ...splits };
}

/** Groups of the pictures that were read; a group of which none was is left out. */
function rowGroups(groups: ImageDataset['groups'], positions: readonly number[]): RowGroups | undefined {
  const places = new Map(positions.map((position, row) => [position, row]));
  const found = Object.entries(groups ?? {}).filter(([, rows]) => rows.some((row) => places.has(row)));
  if (found.length === 0) return undefined;
  const of = new Int32Array(positions.length).fill(-1);
  found.forEach(([, rows], group) => rows.forEach((position) => {
    const row = places.get(position);
    if (row !== undefined) of[row] = group;
  }));
  return { names: found.map(([name]) => name), of };
}
