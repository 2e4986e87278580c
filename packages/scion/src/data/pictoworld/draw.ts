/** Scenes as JPEG files. */
import sharp from 'sharp';
import { drawBackground } from './background.js';
import type { Drawing } from './drawings.js';
import { colors } from './kinds.js';
import { type Scene, type SceneObject, pictureSide, sizes } from './scene.js';

/** A drawing as RGBA, with the part of it that is not transparent: left, top, width, height in pixels. */
interface Raster {
  readonly pixels: Buffer;
  readonly side: number;
  readonly box: readonly [number, number, number, number];
}

/** A scene's picture, and for each of its objects what it covers: left, top, width, height in pixels. */
export interface DrawnScene {
  readonly jpeg: Buffer;
  readonly boxes: readonly (readonly [number, number, number, number])[];
}

/** Draws scenes; each drawing is rasterised once for each size. */
export class SceneDrawer {
  private readonly rasters = new Map<string, Promise<Raster>>();

  async draw(scene: Scene): Promise<DrawnScene> {
    const rasters = await Promise.all(scene.objects.map((o) => this.raster(o.drawing, sizes[o.size])));
    const jpeg = await sharp(drawBackground(scene.background, pictureSide), {
      raw: { width: pictureSide, height: pictureSide, channels: 3 },
    }).composite(scene.objects.map((o, i) => {
      const { pixels, side } = rasters[i]!;
      return { input: filled(pixels, o), raw: { width: side, height: side, channels: 4 }, left: o.left, top: o.top };
    })).removeAlpha().jpeg({ quality: 92, chromaSubsampling: '4:4:4' }).toBuffer();
    const boxes = scene.objects.map((o, i) => {
      const [left, top, width, height] = rasters[i]!.box;
      return [o.left + left, o.top + top, width, height] as const;
    });
    return { jpeg, boxes };
  }

  private raster(drawing: Drawing, side: number): Promise<Raster> {
    const key = `${side} ${drawing.path}`;
    const found = this.rasters.get(key) ?? rasterise(drawing.svg, side);
    this.rasters.set(key, found);
    return found;
  }
}

async function rasterise(svg: string, side: number): Promise<Raster> {
  // drawings of Picto-11 are 64 units wide; drawn twice as large, then averaged, so that thin lines stay even
  const pixels = await sharp(Buffer.from(svg), { density: 2 * 72 * side / 64 })
    .resize(side, side, { fit: 'fill' }).ensureAlpha().toColourspace('srgb').raw({ depth: 'uchar' }).toBuffer();
  let [left, top, right, bottom] = [side, side, 0, 0];
  for (let i = 0; i < side * side; i++) {
    if (pixels[4 * i + 3]! < 32) continue;
    const [x, y] = [i % side, Math.floor(i / side)];
    [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
  }
  return { pixels, side, box: [left, top, right - left, bottom - top] };
}

/** A drawing of one colour in the colour that its object was given. */
function filled(pixels: Buffer, { color }: SceneObject): Buffer {
  if (color === null) return pixels;
  const out = Buffer.from(pixels);
  for (let i = 0; i < out.length; i += 4) out.set(colors[color], i);
  return out;
}
