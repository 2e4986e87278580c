/** Draws the pictures of pretraining into a folder: pictures.rgb, and list.json with what each shows. */
import { mkdirSync, openSync, writeSync, closeSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { drawings, picto11, pretrainingDrawings } from './catalogue.mjs';
import { drawAll, pictureBytes, pictureHash } from './rasters.mjs';

export async function prepare(folder) {
  mkdirSync(folder, { recursive: true });
  const all = drawings();
  const tests = picto11(all).flatMap((t) => t.classes.flatMap((c) => c.test));
  const heldOut = new Set();
  await drawAll(tests, (_, rgb) => heldOut.add(pictureHash(rgb)));
  const wanted = pretrainingDrawings(all);
  const file = openSync(join(folder, 'pictures.rgb'), 'w');
  const rows = [];
  let copies = 0;
  await drawAll(wanted, (i, rgb) => {
    const hash = pictureHash(rgb);
    if (heldOut.has(hash)) copies++;
    else rows.push({ i, hash, rgb });
  }, (done, total) => process.stderr.write(`\r${done} of ${total} drawn`));
  rows.sort((a, b) => a.i - b.i);
  rows.forEach(({ rgb }, at) => writeSync(file, rgb, 0, pictureBytes, at * pictureBytes));
  closeSync(file);
  const list = rows.map(({ i, hash }) => ({ id: wanted[i].id, concept: wanted[i].concept, emoji: wanted[i].emoji, hash }));
  writeFileSync(join(folder, 'list.json'), JSON.stringify(list));
  process.stderr.write(`\n${list.length} pictures; ${copies} left out as copies of test pictures, `
    + `${wanted.length - list.length - copies} that cannot be drawn\n`);
  return list;
}
if (process.argv[1] === new URL(import.meta.url).pathname) await prepare(process.argv[2]);
