/** From a picture to the numbers a backbone takes, as the checkpoint's `preprocessor_config.json` says. */
import * as z from 'zod';
import { readBytes } from '../formats/files.js';
import { brief, isObject, parseStrictJson } from '../formats/json.js';
import { assert, inputError, ScionError } from '../util/errors.js';
import type { Issue } from '../util/errors.js';
import { decodeImage } from './image-decode.js';
import type { DecodeOptions } from './image-decode.js';
import { resample } from './image-resample.js';
import type { Pixels, Resample } from './image-resample.js';
import { randomView } from './image-views.js';
import type { View } from './image-views.js';

/** What is done to a picture, in this order. Plain data: with the file's content it is a key for caches. */
export interface ImageSettings {
  readonly resize: { readonly shortestEdge: number } | Size | null;
  readonly resample: Resample;
  readonly crop: Size | null;
  /** The factor on levels 0 to 255; 1 where the configuration does not rescale. */
  readonly rescale: number;
  /** By channel; 0 and 1 where the configuration does not normalise. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** In pixels. */
export interface Size {
  readonly height: number;
  readonly width: number;
}

/** Settings, and what follows from them: every picture becomes [3, height, width]. */
export interface ImageProcessor extends Size {
  readonly settings: ImageSettings;
  /** [3, 256]: the number that each level of each channel becomes. */
  readonly levels: Float32Array;
}

/** PIL.Image.Resampling. */
export const resampleFilters: Record<number, Resample> = { 0: 'nearest', 1: 'lanczos', 2: 'bilinear', 3: 'bicubic' };

const clip = {
  size: { shortest_edge: 224 }, default_to_square: false, resample: 3, do_center_crop: true,
  image_mean: [0.48145466, 0.4578275, 0.40821073], image_std: [0.26862954, 0.26130258, 0.27577711],
};
const siglip = {
  size: { height: 224, width: 224 }, default_to_square: false, resample: 3, do_center_crop: false,
  image_mean: [0.5, 0.5, 0.5], image_std: [0.5, 0.5, 0.5],
};
/** What transformers' image processors do where their configuration says nothing. */
const kinds = {
  CLIPImageProcessor: clip,
  SiglipImageProcessor: siglip,
  ViTImageProcessor: { ...siglip, default_to_square: true, resample: 2 },
  BitImageProcessor: clip,
};
export type ImageProcessorKind = keyof typeof kinds;
/** `CLIPImageProcessorFast`, `CLIPImageProcessorPil` and, in old files, `CLIPFeatureExtractor` do the same. */
const kindOf = (type: string): string => type.replace(/(Fast|Pil)$/, '').replace(/FeatureExtractor$/, 'ImageProcessor');
const isKind = (type: string): type is ImageProcessorKind => Object.hasOwn(kinds, type);

const pixels = z.int('expected a whole number of pixels').min(1, 'expected 1 to 4096').max(4096, 'expected 1 to 4096');
const size = z.strictObject({ height: pixels, width: pixels });
const square = (n: number): Size => ({ height: n, width: n });
const threeNumbers = z.array(z.number()).length(3, 'expected three numbers, for red, green and blue');
const channels = z.union([z.number().transform((x) => [x, x, x]), threeNumbers], 'expected three numbers');
const type = z.string()
  .refine((x) => isKind(kindOf(x)), `is not supported, expected ${Object.keys(kinds).join(', ')}`).optional();

/** What has no default here has one in `kinds`. Older files give sizes as single numbers. */
const schema = z.strictObject({
  image_processor_type: type,
  feature_extractor_type: type,
  processor_class: z.string().optional(),
  do_resize: z.boolean().default(true),
  size: z.union([pixels, size, z.strictObject({ shortest_edge: pixels })],
    'expected {"shortest_edge": n}, {"height": h, "width": w} or a number, 1 to 4096'),
  default_to_square: z.boolean(),
  resample: z.int().refine((x) => x in resampleFilters,
    'is not supported, expected 0 (nearest), 1 (Lanczos), 2 (bilinear) or 3 (bicubic)'),
  do_center_crop: z.boolean(),
  crop_size: z.union([pixels.transform(square), size], 'expected {"height": h, "width": w} or a number, 1 to 4096')
    .default(square(224)),
  do_rescale: z.boolean().default(true),
  rescale_factor: z.number().positive('expected a number above 0').default(1 / 255),
  do_normalize: z.boolean().default(true),
  image_mean: channels,
  image_std: channels.refine((x) => x.every((v) => v > 0), 'expected numbers above 0'),
  do_convert_rgb: z.boolean().default(true),
  do_pad: z.literal(false, 'padding is not supported, expected false').default(false),
  data_format: z.literal('channels_first', 'expected "channels_first"').optional(),
});

/**
 * Reads the `preprocessor_config.json` of a checkpoint.
 * @param kind what the file stands for where it does not say so itself, as old ones do not
 * @throws ScionError: `input` for a value that is damaged or not supported, `io` where the system refuses
 */
export async function readImageProcessor(path: string, kind?: string): Promise<ImageProcessor> {
  const content = parseStrictJson(await readBytes(path, 1_000_000), path, 'configuration', again);
  return parseImageProcessor(content, path, kind);
}
const again = 'get the file of the checkpoint again';

/**
 * For a checkpoint without a file: what its kind of processor does, for square pictures of `side` pixels.
 * @throws ScionError of kind `input` for BitImageProcessor, whose models differ in what they were trained with
 */
export function defaultImageProcessor(kind: string, side: number, where: string): ImageProcessor {
  if (kind === 'BitImageProcessor') {
    throw inputError(where, 'there is no such file, which says how pictures are prepared; get it with the checkpoint');
  }
  const config = isKind(kind) && kinds[kind].do_center_crop ? { size: side, crop_size: side } : { size: square(side) };
  return parseImageProcessor(config, where, kind);
}

/** The same for a configuration that was read already; `{}` stands for OpenAI's CLIP at 224 pixels. */
export function parseImageProcessor(
  config: unknown, where = 'preprocessor_config.json', kind = 'CLIPImageProcessor',
): ImageProcessor {
  if (!isObject(config)) throw inputError(where, `is ${brief(config)}, expected an object; get the file again`);
  // newer versions write null for what they leave to their defaults
  const stated = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== null));
  const named = stated['image_processor_type'] ?? stated['feature_extractor_type'];
  const own = kindOf(typeof named === 'string' ? named : kind);
  const given: Record<string, unknown> = { ...kinds[isKind(own) ? own : 'CLIPImageProcessor'], ...stated };
  const checked = schema.safeParse(given);
  if (!checked.success) {
    throw new ScionError('input', checked.error.issues.flatMap((issue) => described(issue, given, where)));
  }
  const c = checked.data;
  const box = typeof c.size === 'number' ? (c.default_to_square ? square(c.size) : { shortest_edge: c.size }) : c.size;
  const resize = !c.do_resize ? null : 'shortest_edge' in box ? { shortestEdge: box.shortest_edge } : box;
  const crop = c.do_center_crop ? c.crop_size : null;
  const out = crop ?? (resize && 'height' in resize ? resize : undefined);
  if (!out) {
    throw inputError(where, 'without do_center_crop pictures keep different sizes, expected one size for all; '
      + 'set do_center_crop to true, or do_resize to true and size to {"height": h, "width": w}');
  }
  const settings: ImageSettings = {
    resize, crop, resample: resampleFilters[c.resample]!,
    rescale: c.do_rescale ? c.rescale_factor : 1,
    mean: c.do_normalize ? c.image_mean : [0, 0, 0],
    std: c.do_normalize ? c.image_std : [1, 1, 1],
  };
  return { settings, levels: levels(settings), height: out.height, width: out.width };
}

function described(issue: z.core.$ZodIssue, given: Record<string, unknown>, where: string): Issue[] {
  if (issue.code === 'unrecognized_keys') {
    const at = [where, ...issue.path].join(': ');
    return issue.keys.map((key) => (
      { path: at, message: `${JSON.stringify(key)} is not supported; remove it if it may be ignored` }));
  }
  const value = issue.path.reduce<unknown>((v, key) => (v as Record<PropertyKey, unknown> | undefined)?.[key], given);
  return [{ path: [where, ...issue.path].join(': '), message: `${brief(value)}: ${issue.message}` }];
}

/** In single precision, step by step as NumPy does it, so that the numbers are the same to the bit. */
function levels({ rescale, mean, std }: ImageSettings): Float32Array {
  return Float32Array.from({ length: 3 * 256 }, (_, i) => {
    const channel = i >> 8;
    const scaled = Math.fround((i & 255) * rescale);
    return Math.fround(scaled - Math.fround(mean[channel]!)) / Math.fround(std[channel]!);
  });
}

export interface ProcessOptions extends DecodeOptions {
  /** Where the result goes, 3 · height · width numbers: a part of a batch. Default: a new array. */
  readonly into?: Float32Array;
  /** A random part of the picture instead of the whole one. */
  readonly view?: View;
}

/**
 * Decodes and prepares one picture: [3, H, W] with H and W of the processor, channels red, green, blue. The same bytes
 * give the same numbers as transformers' image processors on Pillow.
 * @param source a path, or the bytes of a file
 * @throws ScionError as decodeImage does
 */
export async function processImage(
  source: string | Uint8Array, processor: ImageProcessor, options: ProcessOptions = {},
): Promise<Float32Array> {
  return processPixels(await decodePicture(source, processor, options), processor, options);
}

/** The first part of processImage: the whole picture. An SVG is drawn as large as the processor needs it. */
export function decodePicture(
  source: string | Uint8Array, { settings: { resize }, height, width }: ImageProcessor, options: DecodeOptions = {},
): Promise<Pixels> {
  const drawSize = resize && 'shortestEdge' in resize ? resize.shortestEdge : Math.max(height, width);
  return decodeImage(source, { drawSize, ...options });
}

/** The part of processImage after decoding. */
export function processPixels(
  image: Pixels, processor: ImageProcessor, { into, view }: Pick<ProcessOptions, 'into' | 'view'> = {},
): Float32Array {
  const { height, width, levels: table } = processor;
  const plane = height * width;
  const out = into ?? new Float32Array(3 * plane);
  assert(out.length === 3 * plane, `${out.length} numbers of room for [3, ${height}, ${width}]`);
  const { part, top, left } = view
    ? { part: randomView(image, width, height, processor.settings.resample, view), top: 0, left: 0 }
    : middle(image, processor);
  for (let channel = 0; channel < 3; channel++) {
    const base = channel * plane;
    if (part.width * part.height < plane) out.fill(table[channel << 8]!, base, base + plane);
    for (let y = 0, from = channel; y < part.height; y++) {
      const row = base + (y + Math.max(0, -top)) * width + Math.max(0, -left);
      for (let x = 0; x < part.width; x++, from += 3) out[row + x] = table[(channel << 8) | part.data[from]!]!;
    }
  }
  return out;
}

/** The resized picture's middle; `top` and `left` are negative where it is smaller and gets black around it. */
function middle(
  image: Pixels, { height, width, settings: { resize, resample: filter } }: ImageProcessor,
): { part: Pixels; top: number; left: number } {
  const whole = resizedSize(image, resize);
  const [top, left] = [Math.floor((whole.height - height) / 2), Math.floor((whole.width - width) / 2)];
  const region = {
    top: Math.max(0, top), left: Math.max(0, left),
    height: Math.min(height, whole.height), width: Math.min(width, whole.width),
  };
  return { part: resample(image, whole.width, whole.height, filter, region), top, left };
}

function resizedSize({ width, height }: Size, resize: ImageSettings['resize']): Size {
  if (resize === null) return { width, height };
  if ('height' in resize) return resize;
  const n = resize.shortestEdge;
  const long = Math.trunc((n * Math.max(width, height)) / Math.min(width, height));
  return width <= height ? { width: n, height: long } : { width: long, height: n };
}
