import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import sharp from 'sharp';
import type { Sharp } from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ScionError } from '../util/errors.js';
import { decodeImage } from './image-decode.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-decode-'));
});
afterAll(() => rm(folder, { recursive: true }));

const [width, height] = [24, 16];
/** Four quarters: red, green, blue, and a light grey. */
const colours = [[220, 30, 40], [20, 200, 60], [30, 50, 210], [180, 180, 180]] as const;
const quarters = Uint8Array.from({ length: width * height * 3 }, (_, i) => {
  const [x, y] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width)];
  return colours[(x < width / 2 ? 0 : 1) + (y < height / 2 ? 0 : 2)]![i % 3]!;
});
const picture = (): Sharp => sharp(quarters, { raw: { width, height, channels: 3 } });

/** The middle of each quarter, [4][3]. */
async function corners(bytes: Uint8Array): Promise<number[][]> {
  const { data, width: w, height: h } = await decodeImage(bytes);
  return [[1, 1], [3, 1], [1, 3], [3, 3]].map(([x, y]) => {
    const at = (Math.floor((y! * h) / 4) * w + Math.floor((x! * w) / 4)) * 3;
    return [...data.subarray(at, at + 3)];
  });
}

function expectClose(actual: number[][], expected: readonly (readonly number[])[], tolerance: number): void {
  expect(actual).toHaveLength(expected.length);
  actual.forEach((colour, i) => colour.forEach((v, c) => {
    expect(Math.abs(v - expected[i]![c]!), `corner ${i}: ${colour.join()} for ${expected[i]!.join()}`)
      .toBeLessThanOrEqual(tolerance);
  }));
}

describe('formats', () => {
  test.each([
    ['JPEG', () => picture().jpeg({ quality: 95 }), 6],
    ['progressive JPEG', () => picture().jpeg({ quality: 95, progressive: true }), 6],
    ['PNG', () => picture().png(), 0],
    ['16-bit PNG', () => picture().toColourspace('rgb16').png(), 0],
    ['palette PNG', () => picture().png({ palette: true, colours: 4, dither: 0 }), 2],
    ['WebP', () => picture().webp({ lossless: true }), 0],
    ['AVIF', () => picture().avif({ quality: 90, chromaSubsampling: '4:4:4' }), 8],
    ['GIF', () => picture().gif({ dither: 0 }), 4],
  ])('%s', async (_, make, tolerance) => {
    const bytes = await make().toBuffer();
    expectClose(await corners(bytes), colours, tolerance);
    const file = join(folder, 'named-as-it-likes.png');
    await writeFile(file, bytes);
    expect(await decodeImage(file)).toEqual(await decodeImage(bytes));
    expect(await decodeImage(bytes)).toMatchObject({ width, height });
  });

  test('the first frame of an animated GIF', async () => {
    const frame = (colour: string): Promise<Buffer> =>
      sharp({ create: { width, height, channels: 3, background: colour } }).png().toBuffer();
    const bytes = await sharp([await frame('#ff0000'), await frame('#00ff00')], { join: { animated: true } })
      .gif().toBuffer();
    expect((await sharp(bytes).metadata()).pages).toBe(2);
    expect(await decodeImage(bytes)).toMatchObject({ width, height });
    expectClose(await corners(bytes), [[255, 0, 0], [255, 0, 0], [255, 0, 0], [255, 0, 0]], 2);
  });

  test('CMYK JPEG, each ink taking its share of what black leaves', async () => {
    const bytes = await picture().toColourspace('cmyk').jpeg({ quality: 100 }).toBuffer();
    expect((await sharp(bytes).metadata()).space).toBe('cmyk');
    const inks = await sharp(bytes, { ignoreIcc: true })
      .pipelineColourspace('cmyk').toColourspace('cmyk').raw().toBuffer();
    const [c, m, y, k] = inks.subarray((4 * width + 6) * 4) as unknown as [number, number, number, number];
    const expected = [c, m, y].map((ink) => (255 - k) * (1 - ink / 255));
    expectClose((await corners(bytes)).slice(0, 1), [expected], 0.5);
  });

  test.each(['l8', 'l16'])('grey (%s) has three equal channels', async (kind) => {
    const bytes = await picture().toColourspace(kind === 'l8' ? 'b-w' : 'grey16').png().toBuffer();
    const { data } = await decodeImage(bytes);
    expect(data).toHaveLength(width * height * 3);
    expect(new Set(data).size).toBeGreaterThan(2);
    for (let i = 0; i < data.length; i += 3) expect([data[i + 1], data[i + 2]]).toEqual([data[i], data[i]]);
  });

  test('what is transparent lies on white', async () => {
    const rgba = (alpha: number): Promise<Buffer> =>
      sharp({ create: { width, height, channels: 4, background: { r: 100, g: 0, b: 200, alpha } } }).png().toBuffer();
    expect((await corners(await rgba(0)))[0]).toEqual([255, 255, 255]);
    expect((await corners(await rgba(1)))[0]).toEqual([100, 0, 200]);
    expectClose((await corners(await rgba(0.5))).slice(0, 1), [[177, 127, 227]], 1);
  });

  test.each([
    // where the four quarters are once the picture is upright
    [1, [0, 1, 2, 3]], [2, [1, 0, 3, 2]], [3, [3, 2, 1, 0]], [4, [2, 3, 0, 1]],
    [5, [0, 2, 1, 3]], [6, [2, 0, 3, 1]], [7, [3, 1, 2, 0]], [8, [1, 3, 0, 2]],
  ])('EXIF orientation %i', async (orientation, order) => {
    const bytes = await picture().withMetadata({ orientation }).jpeg({ quality: 95 }).toBuffer();
    expectClose(await corners(bytes), order.map((i) => colours[i]!), 6);
    const turned = orientation > 4;
    expect(await decodeImage(bytes)).toMatchObject({ width: turned ? height : width, height: turned ? width : height });
  });

  test('SVG, drawn at least as large as asked, on white', async () => {
    const svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 7 11">'
      + '<rect width="3.5" height="5.5" fill="#f00"/></svg>';
    expect(await corners(Buffer.from(svg))).toEqual([[255, 0, 0], [255, 255, 255], [255, 255, 255], [255, 255, 255]]);
    for (const drawSize of [5, 33, 224]) {
      const { width: w, height: h } = await decodeImage(Buffer.from(svg), { drawSize });
      expect(w).toBeGreaterThanOrEqual(drawSize);
      expect(w).toBeLessThanOrEqual(drawSize + 2);
      expect(Math.abs(h - (w * 11) / 7)).toBeLessThanOrEqual(2);
    }
  });

  test('an SVG that claims a huge size is drawn small', async () => {
    const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="20000" height="20000"><path d="M0 0h9v9z"/></svg>';
    expect((await decodeImage(Buffer.from(svg), { drawSize: 300 })).width).toBeLessThanOrEqual(302);
  });
});

/** A PNG that consists of a header for that size and almost nothing else. */
async function bomb(w: number, h: number): Promise<Buffer> {
  const bytes = Buffer.from(await picture().png().toBuffer());
  bytes.writeUInt32BE(w, 16);
  bytes.writeUInt32BE(h, 20);
  bytes.writeUInt32BE(crc32(bytes.subarray(12, 29)), 29);
  return bytes;
}

describe('what is refused, with the name of the file', () => {
  const refused = async (name: string, content: Uint8Array | string): Promise<string> => {
    const file = join(folder, name);
    await writeFile(file, content);
    const error: unknown = await decodeImage(file).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(ScionError);
    expect((error as ScionError).issues[0]!.path).toBe(file);
    return (error as ScionError).issues[0]!.message;
  };

  test('20 000 × 20 000 pixels, with the numbers, before anything is decoded', async () => {
    const start = performance.now();
    expect(await refused('large.png', await bomb(20_000, 20_000))).toBe(
      'the PNG has 20000 × 20000 = 400000000 pixels, expected at most 100000000; make it smaller');
    expect(performance.now() - start).toBeLessThan(2000);
  });

  test('a real picture of that size in a small file', async () => {
    const bytes = await sharp({
      create: { width: 12_000, height: 12_000, channels: 3, background: '#123456' }, limitInputPixels: false,
    }).png({ compressionLevel: 9 }).toBuffer();
    expect(bytes.length).toBeLessThan(2_000_000);
    expect(await refused('bomb.png', bytes)).toContain('12000 × 12000 = 144000000 pixels');
  });

  test('more pixels than the caller allows', async () => {
    await expect(decodeImage(await picture().webp().toBuffer(), { maxPixels: 100, name: 'x' })).rejects.toThrow(
      'x: the WebP has 24 × 16 = 384 pixels, expected at most 100');
  });

  test('a header whose data do not follow', async () => {
    expect(await refused('claim.png', await bomb(9_000, 9_000))).toContain('cannot be decoded as PNG');
  });

  test.each([
    ['JPEG', () => picture().resize(200, 200).jpeg()], ['PNG', () => picture().resize(200, 200).png()],
    ['WebP', () => picture().resize(200, 200).webp()], ['AVIF', () => picture().resize(200, 200).avif()],
    ['GIF', () => picture().resize(200, 200).gif()],
  ])('a truncated %s', async (kind, make) => {
    const bytes = await make().toBuffer();
    const message = await refused('half', bytes.subarray(0, Math.floor(bytes.length * 0.6)));
    expect(message).toContain(`cannot be decoded as ${kind}`);
    expect(message).toContain('cut short or damaged');
  });

  test.each<[string, string | Uint8Array, string]>([
    ['note.png', 'milk, bread', 'is a text file, expected a JPEG, PNG, WebP, AVIF, GIF or SVG picture'],
    ['page.jpg', '<!DOCTYPE html><html><svg></svg></html>', 'is an HTML page'],
    ['empty.png', '', 'is an empty file'],
    ['paper.png', '%PDF-1.7 ...', 'is a PDF document'],
    ['pack.jpg', 'PK\x03\x04....', 'is a ZIP archive'],
    ['pointer.jpg', 'version https://git-lfs.github.com/spec/v1\noid sha256:0', 'is a Git LFS pointer'],
    ['data.jpg', Uint8Array.of(1, 2, 3, 0, 255), 'is a file of unknown kind'],
    ['scan.jpg', 'II*\0abcdefgh', 'is a TIFF image'],
  ])('%s', async (name, content, message) => {
    expect(await refused(name, content)).toContain(message);
  });

  test('a folder and a missing file', async () => {
    await expect(decodeImage(folder)).rejects.toThrow(`${folder}: is a folder, expected a file`);
    await expect(decodeImage(join(folder, 'no.png'))).rejects.toThrow('no.png: cannot read it: there is no such file');
  });
});
