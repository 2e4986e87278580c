// Draws icons: JSON lines { body, box: [left, top, width, height] } in, one size × size ink map of bytes each out.
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';

const [folder, size] = [resolve(process.argv[2], 'package.json'), Number(process.argv[3])];
const sharp = createRequire(folder)('sharp');
sharp.concurrency(1);

for await (const line of createInterface({ input: process.stdin })) {
  const { body, box } = JSON.parse(line);
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${size}" ` +
    `height="${size}" viewBox="${box.join(' ')}" color="#000">${body}</svg>`;
  const pixels = await sharp(Buffer.from(svg)).flatten({ background: '#fff' }).negate().greyscale().raw().toBuffer();
  process.stdout.write(pixels);
}
