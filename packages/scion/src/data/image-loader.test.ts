import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadImages } from './image-loader.js';
import type { ImageBatch } from './image-loader.js';
import { parseImageProcessor, processImage } from './image-processor.js';

let folder: string;
let files: string[];
const processor = parseImageProcessor({ size: 8, crop_size: 8, do_normalize: false, do_rescale: false });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-loader-'));
  // a first picture that takes longer than the rest, so that results come out of order
  files = await Promise.all(Array.from({ length: 11 }, async (_, i) => {
    const size = i === 0 ? 3000 : 16;
    const file = join(folder, `${i}.png`);
    await sharp({ create: { width: size, height: size, channels: 3, background: { r: 10 * i, g: 0, b: 0 } } })
      .png().toFile(file);
    return file;
  }));
});
afterAll(() => rm(folder, { recursive: true }));

async function all(batches: AsyncIterable<ImageBatch>): Promise<ImageBatch[]> {
  const out: ImageBatch[] = [];
  for await (const batch of batches) out.push(batch);
  return out;
}

test.each([[1, 1], [4, 3], [11, 8], [64, 20]])('batches of %i, %i in flight, in order', async (batchSize, inFlight) => {
  const batches = await all(loadImages(files, processor, { batchSize, inFlight }));
  expect(batches.flatMap((b) => b.positions)).toEqual(files.map((_, i) => i));
  for (const { pixels, positions } of batches) {
    expect(pixels.shape).toEqual([positions.length, 3, 8, 8]);
    expect(positions.map((_, row) => pixels.data[row * 192])).toEqual(positions.map((i) => 10 * i));
  }
  expect(batches.at(-1)!.pixels.data.slice(-192)).toEqual(await processImage(files.at(-1)!, processor));
});

test('no pictures, no batches', async () => {
  expect(await all(loadImages([], processor))).toEqual([]);
});

test('a bad picture is an error that names it, after the whole batches before it', async () => {
  const bad = join(folder, 'bad.jpg');
  await writeFile(bad, 'not a picture');
  const seen: number[] = [];
  const load = async (): Promise<void> => {
    const list = [...files.slice(0, 5), bad, join(folder, 'missing.png')];
    for await (const { positions } of loadImages(list, processor, { batchSize: 2, inFlight: 7 })) {
      seen.push(...positions);
    }
  };
  await expect(load()).rejects.toThrow(`${bad}: is a text file`);
  expect(seen).toEqual([0, 1, 2, 3]);
});

test('bad pictures are left out and counted where that is asked for', async () => {
  const bad = join(folder, 'bad2.jpg');
  await writeFile(bad, 'not a picture');
  const skipped: string[] = [];
  const batches = await all(loadImages([bad, files[1]!, bad, files[2]!, files[3]!, bad], processor, {
    batchSize: 2, skipBad: (position, { message }) => skipped.push(`${position} ${message}`),
  }));
  expect(batches.map((b) => b.positions)).toEqual([[1, 3], [4]]);
  expect(batches[1]!.pixels.shape).toEqual([1, 3, 8, 8]);
  expect(batches[1]!.pixels.data).toEqual(await processImage(files[3]!, processor));
  expect(skipped.map((s) => s.slice(0, 2 + bad.length))).toEqual([0, 2, 5].map((i) => `${i} ${bad}`));
});

test('no more are read ahead than asked for', async () => {
  const [third, fourth] = [join(folder, 'third.png'), join(folder, 'fourth.png')];
  const batches = loadImages([files[1]!, files[2]!, third, fourth], processor, { batchSize: 1, inFlight: 2 });
  expect((await batches.next()).value).toMatchObject({ positions: [0] });
  // not begun while the first batch is with the consumer, or it would fail
  await copyFile(files[3]!, third);
  expect((await batches.next()).value).toMatchObject({ positions: [1] });
  expect((await batches.next()).value).toMatchObject({ positions: [2] });
  await expect(batches.next()).rejects.toThrow('fourth.png'); // begun before the third was handed over
});

test('an early end waits for what was begun', async () => {
  for await (const { positions } of loadImages(files, processor, { batchSize: 1, inFlight: 6 })) {
    expect(positions).toEqual([0]);
    break;
  }
});
