/** Pixels for training steps: pictures are decoded once and kept while there is room, and every step takes other views. */
import type { Picture } from '../data/feature-file.js';
import { decodePicture, processPixels } from '../data/image-processor.js';
import type { ImageProcessor } from '../data/image-processor.js';
import { ahead, readUnchanged } from '../data/image-loader.js';
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

/** Pictures that are read and decoded at once. */
const atOnce = 8;
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
    kept.set(picture.sha256, reading); // rows that show the same picture wait for one reading
    reading.then(({ data }) => {
      if (used + data.byteLength <= room) used += data.byteLength;
      else kept.delete(picture.sha256);
    }, () => kept.delete(picture.sha256));
    return reading;
  };
  return {
    height,
    width,
    async load(pictures, view) {
      const out = new Float32Array(pictures.length * size);
      let row = 0;
      for await (const image of ahead(pictures, atOnce, decoded)) {
        processPixels(image, processor, { into: out.subarray(row * size, (row + 1) * size), ...(view && { view: view(row) }) });
        row++;
      }
      return float32([pictures.length, 3, height, width], out);
    },
  };
}
