/**
 * Resizing as Pillow does it, to the bit (src/libImaging/Resample.c and, for nearest, Geometry.c): an antialiased
 * separable filter in fixed-point numbers, horizontal pass first, rounded to 8 bits between the passes. Checkpoints
 * were trained on such pixels; other resizers with the same kernel by name differ by several levels at edges.
 */
import { assert } from '../util/errors.js';

/** 8-bit RGB, interleaved, row by row: `data` [height, width, 3]. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** A rectangle of the resized image; only this part is computed. */
export interface Region {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

interface Filter {
  readonly support: number;
  readonly weight: (x: number) => number;
}

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

const filters = {
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, weight: cubic },
} as const satisfies Record<string, Filter>;

/** Catmull-Rom, a = -0.5. The order of operations is Pillow's, since coefficients are truncated later. */
function cubic(x: number): number {
  const [a, t] = [-0.5, Math.abs(x)];
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
}

export type Resample = 'nearest' | keyof typeof filters;

/**
 * Resizes to `width` × `height` and gives the part `region` of the result, whose sizes it has.
 * The region must lie within the resized image.
 */
export function resample(image: Pixels, width: number, height: number, filter: Resample, region: Region): Pixels {
  assert(region.left >= 0 && region.left + region.width <= width, 'the region is wider than the image');
  assert(region.top >= 0 && region.top + region.height <= height, 'the region is higher than the image');
  if (width === image.width && height === image.height) return cut(image, region);
  if (filter === 'nearest') return nearest(image, width, height, region);
  const columns = taps(image.width, width, filters[filter], region.left, region.width);
  const rows = taps(image.height, height, filters[filter], region.top, region.height);
  // only the rows that the vertical pass reads
  const first = rows.start[0]!;
  const last = rows.start.at(-1)! + rows.count.at(-1)!;
  const strip = { width: image.width, height: last - first, data: image.data.subarray(first * image.width * 3) };
  const narrow = image.width === width
    ? cut(strip, { ...region, top: 0, height: strip.height }) : across(strip, columns);
  return image.height === height ? narrow : down(narrow, rows, first);
}

function cut(image: Pixels, { left, top, width, height }: Region): Pixels {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * image.width + left) * 3;
    data.set(image.data.subarray(from, from + width * 3), y * width * 3);
  }
  return { width, height, data };
}

/** 22 bits: 8 of the pixel and 2 for sums beyond 255 leave these of 32. */
const precision = 22;
const half = 1 << (precision - 1);

/** For each output position: where its inputs start, how many there are, and their fixed-point weights. */
interface Taps {
  readonly start: Int32Array;
  readonly count: Int32Array;
  readonly weights: Int32Array;
  /** Room for the weights of one position. */
  readonly stride: number;
}

function taps(from: number, to: number, { support, weight }: Filter, first: number, length: number): Taps {
  const scale = from / to;
  const stretch = Math.max(1, scale);
  const radius = support * stretch;
  const stride = Math.ceil(radius) * 2 + 1;
  const [start, count] = [new Int32Array(length), new Int32Array(length)];
  const weights = new Int32Array(length * stride);
  const exact = new Float64Array(stride);
  const inverse = 1 / stretch;
  for (let i = 0; i < length; i++) {
    const center = (first + i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(center - radius + 0.5));
    const n = Math.min(from, Math.trunc(center + radius + 0.5)) - low;
    let sum = 0;
    for (let k = 0; k < n; k++) sum += exact[k] = weight((k + low - center + 0.5) * inverse);
    for (let k = 0; k < n; k++) {
      const w = (sum === 0 ? exact[k]! : exact[k]! / sum) * (1 << precision);
      weights[i * stride + k] = Math.trunc(w < 0 ? w - 0.5 : w + 0.5);
    }
    start[i] = low;
    count[i] = n;
  }
  return { start, count, weights, stride };
}

function clamp(sum: number): number {
  const v = sum >> precision;
  return v < 0 ? 0 : v > 255 ? 255 : v;
}

// Math.imul and |0 keep the sums below in 32-bit registers, which is most of the speed

function across(image: Pixels, { start, count, weights, stride }: Taps): Pixels {
  const [width, height] = [start.length, image.height];
  const data = new Uint8Array(width * height * 3);
  const source = image.data;
  for (let y = 0, to = 0; y < height; y++) {
    const row = y * image.width * 3;
    for (let x = 0; x < width; x++, to += 3) {
      let r = half;
      let g = half;
      let b = half;
      const end = x * stride + count[x]!;
      for (let at = row + start[x]! * 3, w = x * stride; w < end; at += 3, w++) {
        const weight = weights[w]!;
        r = (r + Math.imul(source[at]!, weight)) | 0;
        g = (g + Math.imul(source[at + 1]!, weight)) | 0;
        b = (b + Math.imul(source[at + 2]!, weight)) | 0;
      }
      data[to] = clamp(r);
      data[to + 1] = clamp(g);
      data[to + 2] = clamp(b);
    }
  }
  return { width, height, data };
}

/** @param first the row of the whole image that is row 0 of `image` */
function down(image: Pixels, { start, count, weights, stride }: Taps, first: number): Pixels {
  const [height, line] = [start.length, image.width * 3];
  const data = new Uint8Array(height * line);
  const source = image.data;
  for (let y = 0, to = 0; y < height; y++) {
    const top = (start[y]! - first) * line;
    const end = y * stride + count[y]!;
    for (let x = 0; x < line; x += 3, to += 3) {
      let r = half;
      let g = half;
      let b = half;
      for (let at = top + x, w = y * stride; w < end; at += line, w++) {
        const weight = weights[w]!;
        r = (r + Math.imul(source[at]!, weight)) | 0;
        g = (g + Math.imul(source[at + 1]!, weight)) | 0;
        b = (b + Math.imul(source[at + 2]!, weight)) | 0;
      }
      data[to] = clamp(r);
      data[to + 1] = clamp(g);
      data[to + 2] = clamp(b);
    }
  }
  return { width: image.width, height, data };
}

function nearest(image: Pixels, width: number, height: number, region: Region): Pixels {
  const columns = positions(image.width, width).subarray(region.left);
  const rows = positions(image.height, height).subarray(region.top);
  const data = new Uint8Array(region.width * region.height * 3);
  for (let y = 0, to = 0; y < region.height; y++) {
    for (let x = 0; x < region.width; x++, to += 3) {
      const at = (rows[y]! * image.width + columns[x]!) * 3;
      data.set(image.data.subarray(at, at + 3), to);
    }
  }
  return { width: region.width, height: region.height, data };
}

/** The source position of every output position, added up step by step as Pillow does. */
function positions(from: number, to: number): Int32Array {
  const out = new Int32Array(to);
  const step = from / to;
  for (let i = 0, at = step * 0.5; i < to; i++, at += step) out[i] = Math.min(from - 1, Math.trunc(at));
  return out;
}
