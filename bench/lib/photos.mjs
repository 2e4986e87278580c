// The pictures of the encode benchmark: those of a folder, or made here.
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, extname, join, resolve } from 'node:path';
import sharp from 'sharp';
import { Random } from '../../packages/scion/dist/util/random.js';

const made = 100;

/** Three channels of noise whose strength falls with frequency, as in photographs: coarse noise enlarged, finer added. */
async function draw(random, [width, height]) {
  let [w, h] = [width / 32, height / 32].map(Math.ceil);
  let pixels = Buffer.from(Uint8Array.from({ length: 3 * w * h }, () => random.uniform(30, 225)));
  for (let strength = 48; w < width; strength *= 0.55) {
    const size = [2 * w, 2 * h];
    pixels = await sharp(pixels, { raw: { width: w, height: h, channels: 3 } })
      .resize(...size, { kernel: 'cubic', fit: 'fill' }).raw().toBuffer();
    [w, h] = size;
    for (let i = 0; i < pixels.length; i++) {
      pixels[i] = Math.min(255, Math.max(0, pixels[i] + random.uniform(-strength, strength)));
    }
  }
  return sharp(pixels, { raw: { width: w, height: h, channels: 3 } }).resize(width, height, { fit: 'cover' });
}

async function make(folder) {
  if (existsSync(folder)) return;
  console.error(`writing ${folder}`);
  const unfinished = `${folder}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true });
  for (let i = 0; i < made; i++) {
    const picture = await draw(Random.seeded(0).child(i), i % 3 ? [800, 600] : [600, 800]);
    await picture.jpeg({ quality: 88 }).toFile(`${unfinished}/${i}.jpg`);
  }
  await rename(unfinished, folder);
}

/**
 * `count` paths of files of `count` contents, since Scion computes one content once. Where the folder `data` (with those
 * below it) has fewer pictures, copies in `out` take their place, each with its number behind the end of the picture,
 * where no decoder looks; without `data`, 100 JPEGs of 800 × 600 pixels are made there.
 */
export async function photographs({ data, count, out }) {
  const folder = resolve(data ?? `${out}/made-photographs`);
  if (data === undefined) await make(folder);
  const found = (await readdir(folder, { recursive: true }))
    .filter((name) => /\.(jpe?g|png|webp)$/i.test(name)).sort().map((name) => join(folder, name));
  if (found.length === 0) throw new Error(`--data ${data}: no picture, expected .jpg, .png or .webp files`);
  const copies = `${out}/again`;
  await rm(copies, { recursive: true, force: true });
  await mkdir(copies, { recursive: true });
  const paths = [];
  for (let i = 0; i < count; i++) {
    const path = found[i % found.length];
    if (i < found.length) {
      paths.push(path);
      continue;
    }
    const again = `${copies}/${basename(path, extname(path))}-${i}${extname(path)}`;
    await writeFile(again, Buffer.concat([await readFile(path), Buffer.from(String(i))]));
    paths.push(again);
  }
  return paths;
}

/** Pictures that need no resizing: the middle of others, as PNG. */
export async function cropped(paths, size, out) {
  const folder = `${out}/cropped`;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  return Promise.all(paths.map(async (path, i) => {
    const to = `${folder}/${i}.png`;
    await sharp(path).resize(size, size).toFile(to);
    return to;
  }));
}
