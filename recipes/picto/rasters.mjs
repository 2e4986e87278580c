/** Drawings as pictures of 64 × 64 pixels on white, and the hash by which copies are found. */
import { createHash } from 'node:crypto';
import sharp from 'sharp';

export const side = 64;
export const pictureBytes = 3 * side * side;

/** @returns {Promise<Buffer | undefined>} RGB, 64 · 64 · 3 bytes; undefined for what cannot be drawn, or draws nothing */
export async function draw(svg) {
  try {
    const { data, info } = await sharp(Buffer.from(svg), { density: 72 })
      .flatten({ background: '#fff' }).toColourspace('srgb').raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    if (info.width !== side || info.height !== side || info.channels !== 3) return undefined;
    return data.every((v) => v === data[0]) ? undefined : data;
  } catch {
    return undefined;
  }
}

/** Equal for drawings that differ by no more than a shade: of 16 × 16 fields, which are lighter than their neighbour. */
export function pictureHash(rgb) {
  const fields = new Float64Array(16 * 16);
  for (let i = 0; i < side * side; i++) {
    const field = Math.floor(i / side / 4) * 16 + Math.floor((i % side) / 4);
    fields[field] += (rgb[3 * i] * 0.299 + rgb[3 * i + 1] * 0.587 + rgb[3 * i + 2] * 0.114) / 16;
  }
  const signs = Int8Array.from(fields, (v, i) => {
    const step = (i % 16 === 15 ? 255 : fields[i + 1]) - v;
    return Math.abs(step) < 6 ? 0 : Math.sign(step);
  });
  return createHash('sha256').update(signs).digest('hex').slice(0, 16);
}

/** Draws many; `visit(index, rgb)` in no order. */
export async function drawAll(drawings, visit, onProgress) {
  let next = 0;
  const worker = async () => {
    while (next < drawings.length) {
      const i = next++;
      const rgb = await draw(drawings[i].svg());
      if (rgb) visit(i, rgb);
      if (i % 2000 === 0) onProgress?.(i, drawings.length);
    }
  };
  await Promise.all(Array.from({ length: 4 }, worker));
}
