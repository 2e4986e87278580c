/** Pixels for training steps: pictures are decoded once and kept while there is room, and every step takes other views. */
import type { Picture } from '../data/feature-file.js';
import { decodePicture, processPixels } from '../data/image-processor.js';
import type { ImageProcessor } from '../data/image-processor.js';
import { readUnchanged } from '../data/image-loader.js';
import type { View } from '../data/image-views.js';
import type { Pixels } from '../data/image-resample.js';
import { type Tensor, float32 } from '../util/tensor.js';

export interface PictureLoader {
  readonly height: number;
  readonly width: number;
  /**
   * Pixels [N, 3, H, W] of N pictures, as the processor makes them; `view` gives a random view of the picture in a row.
   * @throws ScionError that names a file which is not what it was
   */
  load(pictures: readonly Picture[], view?: (row: number) => View): Promise<Tensor<'float32'>>;
}

/** Bytes of decoded pictures that are kept. */
const room = 512 * 2 ** 20;

export function pictureLoader(processor: ImageProcessor): PictureLoader {
  const { height, width } = processor;
  const size = 3 * height * width;
  const kept = new Map<string, Promise<Pixels>>();
  let used = 0;
  const decoded = (picture: Picture): Promise<Pixels> => {
    const before = kept.get(picture.sha256);
    if (before) return before;
    const reading = readUnchanged(picture).then((bytes) => decodePicture(bytes, processor, { name: picture.path }));
    if (used < room) {
      kept.set(picture.sha256, reading);
      reading.then(({ data }) => { used += data.byteLength; }, () => kept.delete(picture.sha256));
    }
    return reading;
  };
  return {
    height,
    width,
    async load(pictures, view) {
      const out = new Float32Array(pictures.length * size);
      await Promise.all(pictures.map(async (picture, row) => {
        const into = out.subarray(row * size, (row + 1) * size);
        processPixels(await decoded(picture), processor, { into, ...(view && { view: view(row) }) });
      }));
      return float32([pictures.length, 3, height, width], out);
    },
  };
}
