/** Pictures in batches: several are decoded at once while the consumer works, in order, in bounded memory. */
import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { inputError, ScionError } from '../util/errors.js';
import type { Tensor } from '../util/tensor.js';
import { float32 } from '../util/tensor.js';
import { processImage } from './image-processor.js';
import type { ImageProcessor, ProcessOptions } from './image-processor.js';
import { type ImageRef, nameOfImage, readImage } from './image-ref.js';
import type { View } from './image-views.js';

/** A path, or a picture that must still have the content it had, and maybe a view of it. */
export type ImageSource = string | ImageRef & {
  /** In hexadecimal. */
  readonly sha256: string;
  readonly view?: View;
};

export interface ImageBatch {
  /** [B, 3, H, W]; B is the batch size, or less at the end. */
  readonly pixels: Tensor<'float32'>;
  /** For each row the position of its picture in the list that was given. */
  readonly positions: readonly number[];
}

export interface LoadOptions extends Pick<ProcessOptions, 'maxPixels'> {
  /** Pictures in a batch. Default 32. */
  readonly batchSize?: number;
  /** Pictures being decoded or waiting for their batch, which bounds the memory. Default: the number of processors. */
  readonly inFlight?: number;
  /** Called for a picture that cannot be decoded, which is then left out. Without it, the first one is an error. */
  readonly skipBad?: (position: number, error: ScionError) => void;
}

/**
 * Decodes and prepares pictures, ahead of the consumer by `inFlight` pictures.
 * @throws ScionError that names the file, at the first picture that cannot be decoded, unless `skipBad` is given
 */
export async function* loadImages(
  sources: readonly ImageSource[], processor: ImageProcessor, options: LoadOptions = {},
): AsyncGenerator<ImageBatch, void, undefined> {
  const { batchSize = 32, inFlight = availableParallelism(), skipBad, ...decode } = options;
  const size = 3 * processor.height * processor.width;
  const batch = (pixels: Float32Array, positions: readonly number[]): ImageBatch => (
    { pixels: float32([positions.length, 3, processor.height, processor.width], pixels), positions });
  let pixels = new Float32Array(Math.min(batchSize, sources.length) * size);
  let positions: number[] = [];
  let position = 0;
  for await (const result of ahead(sources, inFlight, (source) => settled(load(source, processor, decode)))) {
    if (result instanceof ScionError) {
      if (!skipBad) throw result;
      skipBad(position, result);
    } else {
      pixels.set(result, positions.length * size);
      positions.push(position);
    }
    position++;
    if (positions.length === batchSize) {
      yield batch(pixels, positions);
      pixels = new Float32Array(Math.min(batchSize, sources.length - position) * size);
      positions = [];
    }
  }
  if (positions.length > 0) yield batch(pixels.subarray(0, positions.length * size), positions);
}

async function load(source: ImageSource, processor: ImageProcessor, decode: ProcessOptions): Promise<Float32Array> {
  if (typeof source === 'string') return processImage(source, processor, decode);
  const { view } = source;
  return processImage(await readUnchanged(source), processor, { ...decode, name: nameOfImage(source), ...(view && { view }) });
}

/** The bytes of a picture. @throws ScionError where they are not those that its data set was made of */
export async function readUnchanged(image: ImageRef & { sha256: string }): Promise<Uint8Array> {
  const bytes = await readImage(image);
  if (createHash('sha256').update(bytes).digest('hex') === image.sha256) return bytes;
  throw inputError(nameOfImage(image), 'has changed while its data set was being read; '
    + 'run it again once nothing writes to it');
}

/** An error that the user can act on becomes a value, since nobody awaits the promise yet when it fails. */
export async function settled<T>(work: Promise<T>): Promise<T | ScionError> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof ScionError) return error;
    throw error;
  }
}

/** The results of `work` on the items in their order, with at most `count` begun and not yet taken. */
export async function* ahead<T, R>(
  items: readonly T[], count: number, work: (item: T) => Promise<R>,
): AsyncGenerator<R, void, undefined> {
  const begun: Promise<R>[] = [];
  let next = 0;
  const fill = (): void => {
    while (next < items.length && begun.length < Math.max(1, count)) {
      const running = work(items[next++]!);
      running.catch(() => undefined); // reported when its turn comes
      begun.push(running);
    }
  };
  try {
    for (fill(); begun.length > 0; fill()) {
      const result = await begun[0]!;
      void begun.shift(); // awaited above
      yield result;
    }
  } finally {
    await Promise.allSettled(begun); // nothing goes on in the background after an early end
  }
}
