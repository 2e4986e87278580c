/** From pictures and words to features: through a frozen model, or out of the cache where they have been before. */
import { join } from 'node:path';
import { cacheKey, openFeatureCache } from '../data/feature-cache.js';
import type { Picture } from '../data/feature-file.js';
import { type ImageSource, loadImages } from '../data/image-loader.js';
import type { ImageProcessor } from '../data/image-processor.js';
import type { TextTokenizer } from '../data/tokenizer.js';
import type { Graph, Value } from '../ir/graph.js';
import * as f from '../nn/functional.js';
import type { Module } from '../nn/module.js';
import type { Parameter } from '../nn/parameter.js';
import type { ImageStates } from '../nn/transformer.js';
import type { ModelDtype } from '../onnx/dtypes.js';
import type { Device, Runtime, Session, SessionOptions, Tensors } from '../runtime/session.js';
import { type ScionError, assert, stopIf, usageError } from '../util/errors.js';
import { Random } from '../util/random.js';
import { type Tensor, float32, numel } from '../util/tensor.js';
import { type Program, compileInference } from './compile.js';
import { openProgram } from './program.js';

/** A model of images. */
export interface ImageTower {
  /** images [B, 3, H, W] → [B, d]; normalised or not, as its model says */
  imageFeatures(images: Value): Value;
  /** Its last states, where it has such: pooled [B, d], patches [n, B, d]. */
  imageStates?(images: Value): ImageStates | undefined;
}

/** Its counterpart for texts, in the same space. */
export interface TextTower {
  /** Tokens of a text, padding included. */
  readonly textLength: number;
  /** Whether padding is read like any other token. */
  readonly readsPadding?: boolean;
  /** ids int64 [B, T] → [B, d]; normalised or not, as its model says */
  textFeatures(ids: Value): Value;
  /** What cosines are multiplied with, a scalar. */
  scale(graph: Graph): Value;
}

/** A model with an image and a text tower in one space, as CLIP. */
export type DualEncoder = ImageTower & TextTower;

/** A frozen model with what belongs to it. */
export interface Backbone {
  /** The name of a built-in model, `org/name` of the hub, else the absolute path. */
  readonly name: string;
  readonly path: string;
  /** Where its configuration, preprocessor and tokenizer are; absolute. */
  readonly folder: string;
  /** The commit of a model of the hub. */
  readonly revision?: string;
  /** The precision of ONNX files that was asked for. */
  readonly dtype?: ModelDtype;
  /** The folder of the adapter that has been added to the weights; absolute. */
  readonly adapter?: string;
  /** The weights that the adapter has changed, by their names in the checkpoint. */
  readonly changed?: ReadonlyMap<string, Tensor<'float32'>>;
  /** SHA-256 of weights, configuration and tokenizer, in hexadecimal. */
  readonly digest: string;
  readonly encoder: ImageTower;
  readonly processor: ImageProcessor;
  /** Makes the encoder once more, for a method that changes it. */
  readonly fresh: () => Module & (ImageTower | DualEncoder);
  /** The value of a parameter of the encoder, from the checkpoint. */
  readonly read: (parameter: Parameter) => Promise<Tensor<'float32'>>;
  /** Absent where the model sees pictures alone, as ViT and DINOv2 do. */
  readonly text?: { readonly encoder: TextTower; readonly tokenizer: TextTokenizer };
}

/** Finds and opens a model; handed in, since no part of the training knows any model. */
export type OpenBackbone = (
  model: string,
  options?: {
    /** The flag or key that the model was given by, for messages. */
    where?: string;
    /** Of a model of the hub: branch, tag or commit. */
    revision?: string | undefined;
    /** Of a folder with ONNX files: their precision. */
    dtype?: ModelDtype | undefined;
    /** The folder of an adapter of Python's PEFT, which is added to the weights. */
    adapter?: string | undefined;
    /** The cache, where there is one. */
    cache?: string | undefined;
    signal?: AbortSignal | undefined;
    /** Bytes of the model that is downloaded. */
    onProgress?: ((done: number, total: number, what: string) => void) | undefined;
    onWarning?: ((warning: string) => void) | undefined;
  },
) => Promise<Backbone>;

export interface EncodeOptions {
  runtime: Runtime;
  backbone: Backbone;
  /** The folder of the cache; nothing is kept where absent. */
  cache?: string | undefined;
  /** Pictures or texts in one run; the last one is padded. Default 16. */
  batchSize?: number;
  threads?: number | undefined;
  /** What the runtime computes on. Features of other devices than the processor are cached apart. */
  device?: Device | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((done: number, total: number, what: string) => void) | undefined;
  onWarning?: ((warning: string) => void) | undefined;
}


/**
 * What is kept of a picture. `features`: those that classes are compared with; `pooled`: the last state that stands for
 * the whole picture; `patches`: the last states of all parts, one after the other. Models without such states give their
 * features for `pooled`.
 */
export type ImageKind = 'features' | 'pooled' | 'patches';

/** images [B, 3, H, W] → [B, n, d], n = 1 but for patches. @throws ScionError where the model has no patches */
export function pictureTokens({ encoder, name }: Pick<Backbone, 'encoder' | 'name'>, kind: ImageKind, images: Value): Value {
  const batch = images.shape[0]!;
  const states = kind === 'features' ? undefined : encoder.imageStates?.(images);
  if (kind === 'patches') {
    if (!states) throw usageError('visual', `patches: ${name} gives one feature for a picture alone; use pooled`);
    return f.transpose(states.patches, [1, 0, 2]);
  }
  return f.reshape(states?.pooled ?? encoder.imageFeatures(images), [batch, 1, -1]);
}

/** How views are made beside the plain one. */
export interface ViewSettings {
  readonly seed: number;
  readonly flip: boolean;
}

export interface ImageEncoder {
  /** Numbers of a picture: with patches those of all of them. */
  readonly dim: number;
  /** How many patches; 1 where a picture is one feature. */
  readonly tokens: number;
  /**
   * One row per picture. With `skipBad`, rows of pictures that cannot be decoded are left out.
   * @returns features [rows, d], and for each row the position of its picture
   */
  encode(
    pictures: readonly Picture[],
    options?: { skipBad?: ((position: number, error: ScionError) => void) | undefined; what?: string },
  ): Promise<{ features: Tensor<'float32'>; positions: number[] }>;
  /**
   * Pixels [N, 3, H, W] as the processor makes them, N up to the batch size → features [N, d]. Nothing is cached.
   * @param values of trained parameters, where the encoder has some that are not frozen
   */
  encodePixels(pixels: Tensor<'float32'>, values?: Tensors): Promise<Tensor<'float32'>>;
  /** Loads the model, which otherwise the first picture does. */
  load(): Promise<void>;
  release(): Promise<void>;
}

/** An encoder of pictures. The model is loaded for the first picture that is not in the cache. */
export function openImageEncoder(
  options: EncodeOptions, views: ViewSettings = { seed: 1, flip: true }, kind: ImageKind = 'features',
): ImageEncoder {
  const {
    backbone: { processor, digest },
    cache: folder,
    batchSize = 16,
    onProgress,
  } = options;
  const shape = [batchSize, 3, processor.height, processor.width];
  let tokens = 1;
  const { open, dim, release, parameters } = tower(options, (graph) => {
    const found = pictureTokens(options.backbone, kind, graph.input('images', 'float32', shape));
    tokens = found.shape[1]!;
    return f.reshape(found, [batchSize, -1]);
  });
  const cache =
    folder === undefined
      ? undefined
      : openFeatureCache(
          join(
            folder,
            'features',
            cacheKey('images', digest, JSON.stringify(processor.settings), ...ofDevice(options), ...ofKind(kind)),
          ),
          dim,
          options,
        );
  const keyOf = ({ sha256, view }: Picture): string =>
    view === 0 ? sha256 : cacheKey(sha256, 'view', view, views.seed, views.flip);
  const sourceOf = ({ view, ...picture }: Picture): ImageSource =>
    view === 0
      ? picture
      : { ...picture, view: { random: Random.seeded(views.seed).child('view', picture.sha256, view), flip: views.flip } };

  const encodePixels: ImageEncoder['encodePixels'] = async ({ data, shape: [count] }, values = {}) => {
    assert(count! <= batchSize, `${count} pictures for batches of ${batchSize}`);
    const pixels = count === batchSize ? data : padded(data, numel(shape));
    const own = Object.fromEntries(parameters.map((name) => [name, values[name]!]));
    const { features } = await (await open()).run({ ...own, images: float32(shape, pixels) });
    return float32([count!, dim], (features!.data as Float32Array).subarray(0, count! * dim));
  };

  return {
    dim,
    tokens,
    encodePixels,
    load: async () => void await open(),
    async encode(pictures, { skipBad, what = 'pictures' } = {}) {
      const out = new Float32Array(pictures.length * dim);
      const places = positionsByKey(pictures.map(keyOf));
      const bad = new Set<number>();
      let done = 0;
      const put = (key: string, row: Float32Array): void => {
        for (const at of places.get(key)!) out.set(row, at * dim);
        done += places.get(key)!.length;
      };
      const missing = new Map(places);
      await cache?.find(new Set(places.keys()), (key, row) => {
        put(key, row);
        missing.delete(key);
      });
      onProgress?.(done, pictures.length, what);
      const keys = [...missing.keys()];
      const sources = keys.map((key) => sourceOf(pictures[places.get(key)![0]!]!));
      const skip =
        skipBad &&
        ((position: number, error: ScionError): void => {
          for (const at of places.get(keys[position]!)!) {
            bad.add(at);
            skipBad(at, error);
          }
        });
      let running: Promise<void> = Promise.resolve();
      try {
        for await (const batch of loadImages(sources, processor, { batchSize, ...(skip && { skipBad: skip }) })) {
          // the next batch is decoded while this one is encoded and the one before is written
          await running;
          stopIf(options.signal);
          running = (async () => {
            const features = await encodePixels(batch.pixels);
            for (const [i, position] of batch.positions.entries()) {
              const row = features.data.subarray(i * dim, (i + 1) * dim);
              put(keys[position]!, row);
              await cache?.add(keys[position]!, row);
            }
            onProgress?.(done + bad.size, pictures.length, what);
          })();
          running.catch(() => undefined); // awaited above or below; until then nobody does
        }
        await running;
      } finally {
        await running.catch(() => undefined);
        await cache?.flush(); // also of work that was stopped
      }
      const positions = pictures.flatMap((_, i) => (bad.has(i) ? [] : [i]));
      if (bad.size > 0) positions.forEach((from, to) => out.copyWithin(to * dim, from * dim, (from + 1) * dim));
      return { features: float32([positions.length, dim], out.subarray(0, positions.length * dim)), positions };
    },
    release,
  };
}

/**
 * Features of every class's prompts: [K, templates, d]. Where classes have unequal numbers of prompts, these are
 * averaged as they are to [K, 1, d]. Also gives the encoder's scale.
 */
export async function encodeTexts(
  options: EncodeOptions,
  prompts: readonly (readonly string[])[],
): Promise<{ text: Tensor<'float32'>; logitScale: number }> {
  const {
    backbone: { text: side, digest },
    cache: folder,
    batchSize = 16,
    onProgress,
  } = options;
  assert(side, 'a model of pictures alone encodes no texts');
  const { encoder, tokenizer } = side;
  const { textLength: length } = encoder;
  const { open, dim, release } = tower(options, (graph) =>
    encoder.textFeatures(graph.input('ids', 'int64', [batchSize, length])),
  );
  const cache =
    folder === undefined
      ? undefined
      : openFeatureCache(join(folder, 'features', cacheKey('texts', digest, ...ofDevice(options))), dim, options);
  const rows = new Map<string, Float32Array>();
  const texts = new Map(prompts.flat().map((text) => [cacheKey(text), text]));
  try {
    await cache?.find(new Set(texts.keys()), (key, row) => rows.set(key, row));
    const missing = [...texts.keys()].filter((key) => !rows.has(key));
    for (let start = 0; start < missing.length; start += batchSize) {
      stopIf(options.signal);
      const keys = missing.slice(start, start + batchSize);
      // padding repeats the last text
      const ids = Array.from({ length: batchSize }, (_, i) => texts.get(keys[Math.min(i, keys.length - 1)]!)!);
      const { features } = await (await open()).run({ ids: tokenizer.encode(ids, length) });
      for (const [i, key] of keys.entries()) {
        const row = (features!.data as Float32Array).slice(i * dim, (i + 1) * dim);
        rows.set(key, row);
        await cache?.add(key, row);
      }
      onProgress?.(rows.size, texts.size, 'texts');
    }
    await cache?.flush();
  } finally {
    await release();
  }
  const scale = await logitScaleOf(options, encoder);
  const own = prompts.map((all) => all.map((text) => rows.get(cacheKey(text))!));
  const counts = new Set(own.map((all) => all.length));
  const shown = counts.size === 1 ? own : own.map((all) => [mean(all)]);
  const data = new Float32Array(shown.flat().length * dim);
  shown.flat().forEach((row, i) => data.set(row, i * dim));
  return { text: float32([shown.length, shown[0]!.length, dim], data), logitScale: scale };
}

const ofKind = (kind: ImageKind): string[] => (kind === 'features' ? [] : [kind]);

/** The last digits differ between devices. */
const ofDevice = ({ device = 'cpu' }: EncodeOptions): string[] => (device === 'cpu' ? [] : [device]);

function mean(rows: readonly Float32Array[]): Float32Array {
  return rows[0]!.map((_, i) => rows.reduce((sum, row) => sum + row[i]!, 0) / rows.length);
}

async function logitScaleOf({ runtime }: EncodeOptions, encoder: TextTower): Promise<number> {
  const session = await openProgram(
    runtime,
    compileInference((g) => ({ scale: encoder.scale(g) })),
    {},
  );
  try {
    return Number((await session.run({})).scale!.data[0]);
  } finally {
    await session.release();
  }
}

/** One tower of the model, compiled; `open` loads it at the first call. */
function tower(
  { runtime, threads }: EncodeOptions,
  build: (graph: Graph) => Value,
): {
  dim: number;
  /** Names of parameters that are trained, and come with every run. */
  parameters: readonly string[];
  open: () => Promise<Session>;
  release: () => Promise<void>;
} {
  let dim = 0;
  const program: Program = compileInference((graph) => {
    const features = build(graph);
    dim = features.shape[1]!;
    return { features };
  });
  // the weights are repacked once and used for many runs
  const settings: SessionOptions = { prepack: true, ...(threads === undefined ? {} : { threads }) };
  let session: Promise<Session> | undefined;
  return {
    dim,
    parameters: program.parameters.flatMap(({ name, origin }) => (origin.kind === 'trained' ? [name] : [])),
    open: () => (session ??= openProgram(runtime, program, {}, settings)),
    release: async () => {
      const opened = await session?.catch(() => undefined);
      session = undefined;
      await opened?.release();
    },
  };
}

function positionsByKey(keys: readonly string[]): Map<string, number[]> {
  const places = new Map<string, number[]>();
  keys.forEach((key, i) => {
    const same = places.get(key);
    if (same) same.push(i);
    else places.set(key, [i]);
  });
  return places;
}

function padded(pixels: Float32Array, length: number): Float32Array {
  const out = new Float32Array(length);
  out.set(pixels);
  return out;
}
