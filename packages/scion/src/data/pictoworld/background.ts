/** Light backgrounds, plain or with a faint texture. */
import type { Random } from '../../util/random.js';

/** Lightness, -1 to 1, of a pixel of a texture whose pattern repeats every `period` pixels. */
type Texture = (x: number, y: number, period: number, seed: number) => number;

const textures = {
  plain: () => 0,
  shaded: (x, y, _, seed) => (seed % 2 === 0 ? x : y) / 64 - 1,
  striped: (x, y, period, seed) => ((seed % 2 === 0 ? x : x + y) % period < period / 2 ? 1 : -1),
  checked: (x, y, period) => ((x % period < period / 2) === (y % period < period / 2) ? 1 : -1),
  dotted: (x, y, period) => ((x % period - period / 2) ** 2 + (y % period - period / 2) ** 2 < (period / 4) ** 2 ? -1 : 1),
  grainy: (x, y, _, seed) => hash(x + 4096 * y, seed) / 2 ** 31 - 1,
} as const satisfies Readonly<Record<string, Texture>>;
export type TextureName = keyof typeof textures;
const textured = (Object.keys(textures) as TextureName[]).filter((t) => t !== 'plain');

/** RGB; the textures reach 10 below and above. */
const tints = [
  [245, 245, 245], [244, 240, 228], [232, 236, 240], [228, 238, 246], [230, 242, 232], [244, 234, 238], [238, 234, 246],
] as const;

export interface Background {
  readonly texture: TextureName;
  readonly tint: readonly number[];
  readonly period: number;
  readonly seed: number;
}

/** Half of the backgrounds are plain. */
export function sampleBackground(random: Random): Background {
  const texture = random.uniform() < 0.5 ? 'plain' : textured[random.integer(textured.length)]!;
  const tint = tints[random.integer(tints.length)]!;
  return { texture, tint, period: 8 + 4 * random.integer(4), seed: random.uint32() };
}

/** Pixels of a square background, RGB, `side` · `side` · 3 bytes. */
export function drawBackground({ texture, tint, period, seed }: Background, side: number): Buffer {
  const shade: Texture = textures[texture];
  const out = Buffer.alloc(side * side * 3);
  for (let y = 0, to = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const light = Math.round(9 * shade(x, y, period, seed));
      for (const value of tint) out[to++] = value + light;
    }
  }
  return out;
}

/** 32 bits that look random for each pixel (the finalizer of MurmurHash3). */
function hash(value: number, seed: number): number {
  let h = value ^ seed;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
