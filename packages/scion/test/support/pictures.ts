/** Pictures and the tiny checkpoint of the fixtures, for tests of the whole way from files to predictions. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { Random } from '../../src/util/random.js';
import { repository } from '../command.js';

export const model = join(repository, 'fixtures/clip/pictures/model');
export const pictures = join(repository, 'fixtures/clip/pictures/data');

/** A noisy picture of a class's colour; no two are alike. */
export async function picture(colour: number, seed: number, size = 20): Promise<Uint8Array> {
  const random = Random.seeded(seed).child('picture', colour);
  const pixels = Uint8Array.from(
    { length: size * size * 3 },
    (_, i) => (i % 3 === colour % 3 ? 200 : 60) + random.integer(50),
  );
  return sharp(pixels, { raw: { width: size, height: size, channels: 3 } })
    .png()
    .toBuffer();
}

/** A folder per class below each split, with as many pictures as `counts` says. */
export async function makeData(
  folder: string,
  counts: Readonly<Record<string, number>>,
  classes: readonly string[] = ['red', 'green', 'blue'],
): Promise<string> {
  let seed = 0;
  for (const [split, count] of Object.entries(counts)) {
    for (const [k, name] of classes.entries()) {
      await mkdir(join(folder, split, name), { recursive: true });
      for (let i = 0; i < count; i++) await writeFile(join(folder, split, name, `${i}.png`), await picture(k, seed++));
    }
  }
  return folder;
}
