import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { openBackbone } from './backbone.js';

const fixtures = fileURLToPath(new URL('../../../../fixtures/', import.meta.url));
const made: string[] = [];
afterAll(() => Promise.all(made.map((folder) => rm(folder, { recursive: true }))));

/** A copy of a checkpoint with a change to its preprocessor_config.json, or without it. */
async function copy(name: string, change?: object): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'scion-backbone-'));
  made.push(folder);
  await cp(join(fixtures, name), folder, { recursive: true });
  const file = join(folder, 'preprocessor_config.json');
  const settings = JSON.parse(await readFile(file, 'utf8')) as object;
  if (change) await writeFile(file, JSON.stringify({ ...settings, ...change }));
  else await rm(file);
  return folder;
}

test('a model that interpolates its places takes other sizes, the rest their own', async () => {
  const { processor } = await openBackbone(await copy('dinov2/interpolated', { crop_size: { height: 30, width: 9 } }));
  expect(processor).toMatchObject({ height: 30, width: 9 });
  await expect(openBackbone(await copy('dinov2/interpolated', { crop_size: 3 }))).rejects.toThrow(
    'makes pictures of 3 × 3, the model takes 4 × 4 and larger ones; use the file of the same checkpoint');
  for (const [name, side] of [['vit/model', 16], ['siglip/gemma', 14]] as const) {
    await expect(openBackbone(await copy(name, { size: { height: 20, width: 20 } }))).rejects.toThrow(
      `makes pictures of 20 × 20, the model takes ${side} × ${side}; use the file of the same checkpoint`);
  }
});

test('without a preprocessor_config.json the kind of model says what is done, as far as it does', async () => {
  for (const name of ['vit/model', 'siglip/gemma']) {
    const [plain, own] = [await openBackbone(await copy(name)), await openBackbone(join(fixtures, name))];
    expect(plain.processor).toEqual(own.processor);
  }
  await expect(openBackbone(await copy('dinov2/swiglu'))).rejects.toThrow(/preprocessor_config\.json: there is no such file/);
});
