import { describe, expect, test } from 'vitest';
import { Random } from '../util/random.js';
import { resample } from './image-resample.js';
import type { Pixels } from './image-resample.js';
import { randomView } from './image-views.js';

/** Red tells the column, green the row. */
function coordinates(width: number, height: number): Pixels {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) data.set([x, y, 0], (y * width + x) * 3);
  return { width, height, data };
}
const view = (image: Pixels, seed: number, flip: boolean, size = 32): Pixels =>
  randomView(image, size, size, 'bicubic', { random: Random.seeded(seed), flip });
/** Where the corners of a view lie in the picture. */
const corners = ({ data, width }: Pixels): { left: number; right: number; top: number; bottom: number } => ({
  left: data[0]!,
  right: data[3 * (width - 1)]!,
  top: data[1]!,
  bottom: data[data.length - 2]!,
});

const seeds = Array.from({ length: 400 }, (_, i) => i);

describe('a random part', () => {
  test('has the share and the proportions of CoOp, anywhere in the picture', () => {
    const image = coordinates(240, 200);
    const areas: number[] = [];
    const middles: number[] = [];
    for (const seed of seeds) {
      const { left, right, top, bottom } = corners(view(image, seed, false));
      // resizing moves the outermost centres inwards by half a pixel of the view
      const [width, height] = [((right - left) * 32) / 31, ((bottom - top) * 32) / 31];
      areas.push((width * height) / (240 * 200));
      middles.push((left + right) / 2 / 239);
      expect(width / height).toBeGreaterThan(0.75 * 0.85);
      expect(width / height).toBeLessThan(1.34 / 0.85);
    }
    const mean = (xs: readonly number[]): number => xs.reduce((a, b) => a + b) / xs.length;
    expect(Math.min(...areas)).toBeGreaterThan(0.06);
    expect(Math.min(...areas)).toBeLessThan(0.15);
    expect(Math.max(...areas)).toBeGreaterThan(0.85);
    expect(mean(areas)).toBeGreaterThan(0.42);
    expect(mean(areas)).toBeLessThan(0.6);
    expect(mean(middles)).toBeGreaterThan(0.45);
    expect(mean(middles)).toBeLessThan(0.55);
  });

  test('is mirrored half of the time, or never', () => {
    const image = coordinates(240, 200);
    const mirrored = (flip: boolean): number =>
      seeds.filter((seed) => {
        const { left, right } = corners(view(image, seed, flip));
        return left > right;
      }).length;
    expect(mirrored(false)).toBe(0);
    expect(mirrored(true)).toBeGreaterThan(160);
    expect(mirrored(true)).toBeLessThan(240);
  });

  test('a mirrored view is the same part the other way round', () => {
    const image = coordinates(240, 200);
    const seed = seeds.find((s) => corners(view(image, s, true)).left > corners(view(image, s, true)).right)!;
    const [plain, turned] = [view(image, seed, false), view(image, seed, true)];
    for (let y = 0; y < 32; y++) {
      for (let x = 0; x < 32; x++) {
        const [a, b] = [(y * 32 + x) * 3, (y * 32 + 31 - x) * 3];
        expect(turned.data.subarray(a, a + 3)).toEqual(plain.data.subarray(b, b + 3));
      }
    }
  });

  test('the same seed gives the same view, another seed another', () => {
    const image = coordinates(100, 80);
    expect(view(image, 5, true)).toEqual(view(image, 5, true));
    expect(view(image, 6, true)).not.toEqual(view(image, 5, true));
  });

  test('pictures of extreme proportions give their middle, and one pixel is enough', () => {
    const wide = view(coordinates(250, 2), 1, false, 4);
    expect(wide).toMatchObject({ width: 4, height: 4 });
    const { left, right } = corners(wide);
    expect(left).toBeGreaterThan(100);
    expect(right).toBeLessThan(150);
    expect(view({ width: 1, height: 1, data: Uint8Array.of(1, 2, 3) }, 1, true, 4).data.subarray(0, 3)).toEqual(
      Uint8Array.of(1, 2, 3),
    );
  });
});

test('is resized as the part alone would be, to the bit', () => {
  // a picture of which every part of more than one pixel differs; the part is found by trying all
  const image = coordinates(12, 9);
  const got = view(image, 3, false, 8);
  const same: string[] = [];
  for (let width = 1; width <= 12; width++)
    for (let height = 1; height <= 9; height++) {
      for (let left = 0; left + width <= 12; left++)
        for (let top = 0; top + height <= 9; top++) {
          const part = resample(image, 12, 9, 'bicubic', { left, top, width, height });
          const whole = resample(part, 8, 8, 'bicubic', { left: 0, top: 0, width: 8, height: 8 });
          if (Buffer.from(whole.data).equals(Buffer.from(got.data))) same.push(`${left} ${top} ${width} ${height}`);
        }
    }
  expect(same).toHaveLength(1);
});
