/** Further views of a picture, as few-shot methods train on them: a random part, mirrored half of the time. */
import type { Random } from '../util/random.js';
import { resample } from './image-resample.js';
import type { Pixels, Region, Resample } from './image-resample.js';

export interface View {
  /** Decides over the part and the mirroring. */
  readonly random: Random;
  /** Whether to mirror half of the views; not where left and right mean something, as in writing. */
  readonly flip: boolean;
}

/** Share of the picture, and width to height, as CoOp has them (torchvision's RandomResizedCrop). */
const share = [0.08, 1] as const;
const ratio = [3 / 4, 4 / 3] as const;
const attempts = 10;

/** A view of `width` × `height` pixels, resized by the same filter as the plain picture, to the bit. */
export function randomView(image: Pixels, width: number, height: number, filter: Resample, view: View): Pixels {
  const part = resample(image, image.width, image.height, filter, randomPart(image, view.random));
  const resized = resample(part, width, height, filter, { left: 0, top: 0, width, height });
  return view.flip && view.random.uniform() < 0.5 ? mirrored(resized) : resized;
}

/** A part with a uniform share of the area and a log-uniform ratio of its sides; the middle where none fits. */
function randomPart({ width, height }: Pixels, random: Random): Region {
  for (let i = 0; i < attempts; i++) {
    const area = width * height * random.uniform(...share);
    const aspect = Math.exp(random.uniform(Math.log(ratio[0]), Math.log(ratio[1])));
    const size = { width: Math.round(Math.sqrt(area * aspect)), height: Math.round(Math.sqrt(area / aspect)) };
    if (size.width < 1 || size.height < 1 || size.width > width || size.height > height) continue;
    return { ...size, left: random.integer(width - size.width + 1), top: random.integer(height - size.height + 1) };
  }
  const inside = {
    width: Math.max(1, Math.min(width, Math.round(height * ratio[1]))),
    height: Math.max(1, Math.min(height, Math.round(width / ratio[0]))),
  };
  return { ...inside, left: (width - inside.width) >> 1, top: (height - inside.height) >> 1 };
}

function mirrored({ width, height, data }: Pixels): Pixels {
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (y * width + x) * 3;
      out.set(data.subarray(from, from + 3), (y * width + width - 1 - x) * 3);
    }
  }
  return { width, height, data: out };
}
