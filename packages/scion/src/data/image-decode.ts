/**
 * Picture files to 8-bit RGB as transformers does it with Pillow: colour profiles are ignored, transparent pictures are
 * laid on white, CMYK is converted by Pillow's formula. docs/image-processing.md lists what differs. Decoding runs in
 * the thread pool of sharp (libvips).
 */
import sharp from 'sharp';
import type { Metadata, Sharp, SharpOptions } from 'sharp';
import { readBytes, systemError } from '../formats/files.js';
import { inputError, ScionError } from '../util/errors.js';
import { kindOf } from './image-kind.js';
import type { ImageKind } from './image-kind.js';
import type { Pixels } from './image-resample.js';
import { checkSvg } from './image-svg.js';

export interface DecodeOptions {
  /** Most pixels (width × height) of a picture; more are refused before anything is decoded. Default 100 million. */
  readonly maxPixels?: number;
  /** Shorter side, in pixels, at which an SVG is drawn at least. Default 224. */
  readonly drawSize?: number;
  /** What messages call a picture that is handed over as bytes. */
  readonly name?: string;
}

const defaultMaxPixels = 100_000_000;
/** The largest file that is read as a picture. */
export const maxFileBytes = 512 * 2 ** 20;
const maxSvgBytes = 16 * 2 ** 20;
const svgSeconds = 30;
/** Pixels per inch at which one unit of an SVG is one pixel, and sharp's limit. */
const svgDensity = 72;
const maxDensity = 100_000;

/**
 * Decodes a picture: JPEG, PNG, WebP, AVIF, GIF (its first frame) or SVG, told by content, turned upright as its EXIF
 * orientation says.
 * @param source a path, or the bytes of a file
 * @throws ScionError that names the file: `input` for anything but a whole picture of a supported kind with at most
 *   `maxPixels` pixels, `io` where the system refuses to read it
 */
export async function decodeImage(source: string | Uint8Array, options: DecodeOptions = {}): Promise<Pixels> {
  const where = typeof source === 'string' ? source : options.name ?? 'image';
  const bytes = typeof source === 'string' ? await readBytes(source, maxFileBytes) : source;
  const found = kindOf(bytes);
  if ('other' in found) {
    throw inputError(where, `is ${found.other}, expected a JPEG, PNG, WebP, AVIF, GIF or SVG picture; `
      + 'remove or convert it');
  }
  try {
    return await (found.kind === 'SVG' ? drawSvg : decodeBitmap)(bytes, where, options, found.kind);
  } catch (cause) {
    if (cause instanceof ScionError) throw cause;
    if (!(cause instanceof Error)) throw systemError(where, 'decode it', cause);
    const reason = cause.message.split('\n')[0]!.slice(0, 160);
    throw inputError(where, `cannot be decoded as ${found.kind} (${reason}); it is cut short or damaged: `
      + 'get it again', { cause });
  }
}

type Decode = (bytes: Uint8Array, where: string, options: DecodeOptions, kind: ImageKind) => Promise<Pixels>;

const decodeBitmap: Decode = async (bytes, where, { maxPixels = defaultMaxPixels }, kind) => {
  const header = await sharp(bytes, { limitInputPixels: false }).metadata();
  checkSize(header, where, maxPixels, kind);
  const image = sharp(bytes, {
    limitInputPixels: maxPixels, failOn: 'error', ignoreIcc: true, autoOrient: true, sequentialRead: true,
  });
  if (header.space === 'cmyk') return fromCmyk(await raw(image.pipelineColourspace('cmyk').toColourspace('cmyk')));
  return onWhite(await raw(image.toColourspace('srgb')));
};

/** An SVG has no pixels of its own: it is drawn so that its shorter side has `drawSize` pixels, or a few more. */
const drawSvg: Decode = async (bytes, where, { maxPixels = defaultMaxPixels, drawSize = 224 }, kind) => {
  if (bytes.byteLength > maxSvgBytes) {
    throw inputError(where, `the SVG has ${bytes.byteLength} bytes, expected at most ${maxSvgBytes}; `
      + 'convert it to PNG');
  }
  checkSvg(bytes, where);
  const options = (density: number): SharpOptions => ({ limitInputPixels: false, density });
  const { width, height } = await sharp(bytes, options(svgDensity)).metadata();
  let density = Math.min(maxDensity, Math.max(1, (svgDensity * drawSize) / Math.min(width, height)));
  let drawn = await sharp(bytes, options(density)).metadata();
  // sizes are rounded, possibly down
  if (Math.min(drawn.width, drawn.height) < drawSize) {
    density = Math.min(maxDensity, density * (1 + 1 / drawSize));
    drawn = await sharp(bytes, options(density)).metadata();
  }
  checkSize(drawn, where, maxPixels, kind);
  const image = sharp(bytes, options(density)).timeout({ seconds: svgSeconds });
  return onWhite(await raw(image.toColourspace('srgb')));
};

function checkSize({ width, height }: Metadata, where: string, maxPixels: number, kind: ImageKind): void {
  if (width * height <= maxPixels) return;
  throw inputError(where, `the ${kind} has ${width} × ${height} = ${width * height} pixels, `
    + `expected at most ${maxPixels}; make it smaller`);
}

interface Raw extends Pixels {
  readonly channels: number;
}

async function raw(image: Sharp): Promise<Raw> {
  const { data, info } = await image.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height, channels: info.channels };
}

/** Pillow's alpha_composite (src/libImaging/AlphaComposite.c) over opaque white; grey becomes three channels. */
function onWhite({ data, width, height, channels }: Raw): Pixels {
  if (channels === 3) return { data, width, height };
  const rgb = new Uint8Array(width * height * 3);
  const colours = channels > 2 ? [0, 1, 2] : [0, 0, 0];
  const transparent = channels % 2 === 0;
  for (let from = 0, to = 0; to < rgb.length; from += channels) {
    const alpha = transparent ? data[from + channels - 1]! : 255;
    for (const colour of colours) {
      // 7 more bits and a division by 255, rounded
      const t = (data[from + colour]! * alpha + 255 * (255 - alpha) + 128) << 7;
      rgb[to++] = ((t >> 8) + t) >> 15;
    }
  }
  return { data: rgb, width, height };
}

/** Pillow's cmyk2rgb (src/libImaging/Convert.c): each ink takes its share of what black leaves, rounded. */
function fromCmyk({ data, width, height, channels }: Raw): Pixels {
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < rgb.length; from += channels) {
    const light = 255 - data[from + 3]!;
    for (let ink = 0; ink < 3; ink++) {
      const t = data[from + ink]! * light + 128;
      rgb[to++] = light - (((t >> 8) + t) >> 8);
    }
  }
  return { data: rgb, width, height };
}
