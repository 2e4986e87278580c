import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parseNpy } from '../formats/npy.js';
import { ScionError } from '../util/errors.js';
import {
  defaultImageProcessor, parseImageProcessor, processImage, processPixels, readImageProcessor,
} from './image-processor.js';

const fixtures = fileURLToPath(new URL('../../../../fixtures/images/', import.meta.url));
interface Case { source: string; config: Record<string, unknown>; output: string }
const cases = JSON.parse(await readFile(`${fixtures}cases.json`, 'utf8')) as Case[];

describe("the same bits as transformers' CLIPImageProcessor on Pillow", () => {
  test('in enough cases', () => {
    expect(cases.length).toBeGreaterThan(20);
  });

  test.each(cases)('$source with $config', async ({ source, config, output }) => {
    const expected = parseNpy(await readFile(fixtures + output), output);
    const processor = parseImageProcessor(config);
    expect(expected.shape).toEqual([3, processor.height, processor.width]);
    expect(await processImage(fixtures + source, processor)).toEqual(expected.data);
    expect(await processImage(await readFile(fixtures + source), processor)).toEqual(expected.data);
  });
});

test('a result goes into its part of a batch and nowhere else', async () => {
  const processor = parseImageProcessor({ size: 4, crop_size: 4 });
  const batch = new Float32Array(3 * 48).fill(7);
  const into = batch.subarray(48, 96);
  expect(await processImage(`${fixtures}small.png`, processor, { into })).toBe(into);
  expect(batch.subarray(0, 48)).toEqual(new Float32Array(48).fill(7));
  expect(batch.subarray(96)).toEqual(new Float32Array(48).fill(7));
  expect(into).toEqual(await processImage(`${fixtures}small.png`, processor));
});

test('a picture of extreme proportions costs no more than its crop', () => {
  const width = 200_000;
  const data = new Uint8Array(width * 3).fill(255);
  const out = processPixels({ width, height: 1, data }, parseImageProcessor({ do_normalize: false }));
  expect(out.every((x) => x === 1)).toBe(true);
});

describe('preprocessor_config.json', () => {
  test('of an early CLIP checkpoint: sizes as numbers', () => {
    const { settings, height, width } = parseImageProcessor({
      crop_size: 224, do_center_crop: true, do_normalize: true, do_resize: true,
      feature_extractor_type: 'CLIPFeatureExtractor', image_mean: [0.48145466, 0.4578275, 0.40821073],
      image_std: [0.26862954, 0.26130258, 0.27577711], resample: 3, size: 224,
    });
    expect([height, width]).toEqual([224, 224]);
    expect(settings).toEqual(parseImageProcessor({}).settings);
  });

  test('as newer versions write it: sizes as objects, null for what is left out', () => {
    const { settings } = parseImageProcessor({
      crop_size: { height: 336, width: 300 }, data_format: 'channels_first', do_pad: null, device: null,
      image_processor_type: 'CLIPImageProcessorFast', size: { shortest_edge: 336 }, image_mean: 0.5, resample: 2,
      disable_grouping: null, default_to_square: false, rescale_factor: 0.00392156862745098,
    });
    expect(settings).toMatchObject({
      resize: { shortestEdge: 336 }, crop: { height: 336, width: 300 }, resample: 'bilinear', mean: [0.5, 0.5, 0.5],
    });
  });

  test.each([
    [{ resample: 5 }, 'resample: 5: is not supported, expected 0 (nearest)'],
    [{ size: { longest_edge: 224 } }, 'size: an object: expected {"shortest_edge": n}'],
    [{ size: 0 }, 'size: 0: expected 1 to 4096'],
    [{ crop_size: 1.5 }, 'crop_size: 1.5: expected'],
    [{ crop_size: 1e6 }, 'crop_size: 1000000: expected'],
    [{ do_pad: true }, 'do_pad: true: padding is not supported'],
    [{ image_std: [0, 1, 1] }, 'image_std: [0, 1, 1]: expected numbers above 0'],
    [{ image_mean: [1, 2] }, 'image_mean: [1, 2]: expected three numbers'],
    [{ image_processor_type: 'LlavaImageProcessor' }, '"LlavaImageProcessor": is not supported, expected CLIPImage'],
    [{ do_reduce_labels: true }, '"do_reduce_labels" is not supported'],
    [{ do_center_crop: false }, 'without do_center_crop pictures keep different sizes'],
    [{ do_resize: 'yes' }, 'do_resize: "yes"'],
    [[], 'is [], expected an object'],
  ])('%j is refused', (config, message) => {
    expect(() => parseImageProcessor(config, 'p.json')).toThrow(ScionError);
    expect(() => parseImageProcessor(config, 'p.json')).toThrow(message);
    expect(() => parseImageProcessor(config, 'p.json')).toThrow(/^p\.json/);
  });

  test.each([
    ['SiglipImageProcessor', { resize: { height: 224, width: 224 }, crop: null, resample: 'bicubic', mean: [0.5, 0.5, 0.5] }],
    ['SiglipImageProcessorFast', { resample: 'bicubic' }],
    ['ViTImageProcessor', { resize: { height: 224, width: 224 }, crop: null, resample: 'bilinear', std: [0.5, 0.5, 0.5] }],
    ['BitImageProcessor', { resize: { shortestEdge: 224 }, crop: { height: 224, width: 224 }, resample: 'bicubic' }],
  ])('%s has defaults of its own', (kind, settings) => {
    expect(parseImageProcessor({ image_processor_type: kind }).settings).toMatchObject(settings);
    expect(parseImageProcessor({}, 'p.json', kind).settings).toMatchObject(settings);
  });

  test('of an early ViT checkpoint: one number for both sides', () => {
    const { settings } = parseImageProcessor({ do_normalize: true, do_resize: true, size: 384 }, 'p.json', 'ViTImageProcessor');
    expect(settings).toMatchObject({ resize: { height: 384, width: 384 }, crop: null, resample: 'bilinear' });
  });

  test('is not needed where the kind of model says all', () => {
    expect(defaultImageProcessor('CLIPImageProcessor', 16, 'p')).toMatchObject({ height: 16, settings: { resize: { shortestEdge: 16 } } });
    expect(defaultImageProcessor('SiglipImageProcessor', 16, 'p')).toMatchObject({ height: 16, width: 16, settings: { crop: null } });
    expect(() => defaultImageProcessor('BitImageProcessor', 16, 'p.json')).toThrow(/^p\.json: there is no such file/);
  });

  test('everything that is wrong is said at once', () => {
    expect(() => parseImageProcessor({ resample: 9, do_pad: true, a: 1 })).toThrow(/resample[^]*do_pad[^]*"a"/);
  });

  test('a missing file is an error that names it', async () => {
    await expect(readImageProcessor('/no/such/preprocessor_config.json')).rejects.toThrow(
      '/no/such/preprocessor_config.json: cannot read it');
  });
});
