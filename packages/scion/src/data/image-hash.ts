/** The hashes by which features of pictures are cached. */
import { createHash } from 'node:crypto';
import { sha256 } from '../formats/files.js';
import { type ScionError, stopIf } from '../util/errors.js';
import { ahead, settled } from './image-loader.js';
import { type ImageRef, readImage } from './image-ref.js';

export interface HashOptions {
  /** Called for a picture that cannot be read, which is then left out. Without it, the first one is an error. */
  readonly bad?: (image: ImageRef, error: ScionError) => void;
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** Pictures that are read at once. */
const inFlight = 8;

/** The SHA-256 of each picture's content in hexadecimal, each read once. Parquet files are read group by group. */
export async function hashImages(
  images: readonly ImageRef[], { bad, onProgress, signal }: HashOptions = {},
): Promise<Map<ImageRef, string>> {
  const hashes = new Map<ImageRef, string>();
  const hash = async (image: ImageRef): Promise<string> => (image.cell
    ? createHash('sha256').update(await readImage(image)).digest('hex')
    : sha256(image.path));
  let done = 0;
  for await (const result of ahead(images, inFlight, (image) => settled(hash(image)))) {
    stopIf(signal);
    const image = images[done++]!;
    if (typeof result === 'string') hashes.set(image, result);
    else if (bad) bad(image, result);
    else throw result;
    onProgress?.(done, images.length);
  }
  return hashes;
}
