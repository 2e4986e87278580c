/** The feature cache under everything that may happen to it. */
import { mkdir, open, readFile, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { readFeatureFile } from '../../src/data/feature-file.js';
import { json, scion, scratch, start, succeed, until } from '../support/cli.js';
import { makeData, model, picture } from '../support/pictures.js';

const folder = await scratch();
const data = join(folder, 'data');
const rows = 3 * 400 + 3 * 20;
let expected: number[];

const args = (out: string, ...more: string[]): string[] => [
  'features',
  '--data',
  data,
  '--model',
  model,
  '--threads',
  '1',
  '--out',
  join(folder, `${out}.safetensors`),
  ...more,
];
async function content(out: string): Promise<number[]> {
  const {
    train,
    test: held,
    text,
  } = await readFeatureFile(join(folder, `${out}.safetensors`), { train: true, test: true });
  return [...train!.features.data, ...held!.features.data, ...text!.data];
}
const apart = (a: readonly number[], b: readonly number[]): number =>
  a.length === b.length ? Math.max(...a.map((x, i) => Math.abs(x - b[i]!))) : Infinity;
/** Keys in all chunks of pictures: rows that were computed, each as often as it was. */
async function kept(cache: string): Promise<string[]> {
  const keys: string[] = [];
  for (const name of await readdir(cache, { recursive: true }).catch(() => [])) {
    if (!name.endsWith('.features')) continue;
    const bytes = await readFile(join(cache, name));
    const n = bytes.readUInt32LE(12);
    for (let i = 0; i < n; i++) keys.push(bytes.toString('hex', 16 + 32 * i, 48 + 32 * i));
  }
  return keys;
}
const chunks = async (cache: string): Promise<string[]> =>
  (await readdir(cache, { recursive: true }))
    .filter((name) => name.endsWith('.features'))
    .map((name) => join(cache, name));

beforeAll(async () => {
  await makeData(data, { train: 400, test: 20 });
  await succeed(args('expected', '--no-cache'));
  expected = await content('expected');
}, 120_000);

test('a second run computes nothing, and takes the same numbers', async () => {
  const env = { SCION_CACHE: join(folder, 'plain') };
  await succeed(args('first'), { env });
  expect(await kept(env.SCION_CACHE)).toHaveLength(rows + 3);
  const before = await chunks(env.SCION_CACHE);
  await succeed(args('second'), { env });
  expect(await chunks(env.SCION_CACHE)).toEqual(before);
  expect(await content('first')).toEqual(expected);
  expect(await content('second')).toEqual(expected);
});

test('--no-cache leaves nothing and takes nothing', async () => {
  const env = { SCION_CACHE: join(folder, 'none') };
  await succeed(args('uncached', '--no-cache'), { env });
  expect(await readdir(folder)).not.toContain('none');
});

test('what is different is computed: a picture, the preprocessing, the words', async () => {
  const env = { SCION_CACHE: join(folder, 'plain') };
  const before = (await kept(env.SCION_CACHE)).length;
  await writeFile(join(data, 'train/red/0.png'), await picture(0, 31_337));
  await succeed(args('changed'), { env });
  expect((await kept(env.SCION_CACHE)).length).toBe(before + 1);
  expect(await content('changed')).not.toEqual(expected);
  await succeed(args('changed back', '--no-cache'), { env });
  expect(apart(await content('changed'), await content('changed back'))).toBeLessThan(1e-6);
  await succeed(args('words', '--template', 'another {}'), { env });
  expect((await kept(env.SCION_CACHE)).length).toBe(before + 4);
  expected = await content('changed');
});

test('two processes at once fill it together', async () => {
  const env = { SCION_CACHE: join(folder, 'together') };
  const both = await Promise.all([scion(args('one'), { env }), scion(args('two'), { env })]);
  for (const { code, stderr } of both) expect(code, stderr).toBe(0);
  for (const name of ['one', 'two']) expect(apart(await content(name), expected)).toBeLessThan(1e-6);
  expect(new Set(await kept(env.SCION_CACHE)).size).toBe(rows + 3);
  expect((await readdir(env.SCION_CACHE, { recursive: true })).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  const before = await chunks(env.SCION_CACHE);
  await succeed(args('three'), { env });
  expect(await chunks(env.SCION_CACHE)).toEqual(before);
});

describe('damage', () => {
  test('a chunk cut short, one with another byte: computed again, and right', async () => {
    const env = { SCION_CACHE: join(folder, 'damaged') };
    await succeed(args('sound'), { env });
    const [cut, changed] = await chunks(env.SCION_CACHE);
    await truncate(cut!, 100);
    const file = await open(changed!, 'r+');
    await file.write(Uint8Array.of(255), 0, 1, (await file.stat()).size - 40);
    await file.close();
    expect(new Set(await kept(env.SCION_CACHE).catch(() => [])).size).toBeLessThan(rows + 3);
    await succeed(args('mended'), { env });
    expect(apart(await content('mended'), expected)).toBeLessThan(1e-6);
    expect(new Set(await kept(env.SCION_CACHE)).size).toBe(rows + 3);
  });

  test('kill -9 while it is filled: what is there is whole and is used', async () => {
    const env = { SCION_CACHE: join(folder, 'killed') };
    const running = start(args('killed'), { env });
    // texts and the first 512 pictures are there, the rest is under way
    await until(async () => (await kept(env.SCION_CACHE)).length > 512);
    running.child.kill('SIGKILL');
    expect((await running.done).signal).toBe('SIGKILL');
    const before = await kept(env.SCION_CACHE);
    expect(before.length).toBeLessThan(rows);
    await succeed(args('after'), { env });
    expect(apart(await content('after'), expected)).toBeLessThan(1e-6);
    const all = await kept(env.SCION_CACHE);
    // nothing was computed twice
    expect(all).toHaveLength(rows + 3);
    expect(all).toEqual(expect.arrayContaining(before));
  });

  test('a cache that cannot be written is a warning', async () => {
    const env = { SCION_CACHE: join(folder, 'a file') };
    await writeFile(env.SCION_CACHE, '');
    const { code, stderr } = await scion(args('unkept'), { env });
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(/warning: features are not kept for the next time: .*a file/),
    ]);
    expect(await content('unkept')).toEqual(expected);
  });
});

test('pictures of one run do not fill it, and need it for nothing', async () => {
  const env = { SCION_CACHE: join(folder, 'predict') };
  const run = join(folder, 'run');
  await succeed(['train', '--data', data, '--model', model, '--method', 'zero-shot', '--shots', '2', '--out', run]);
  await mkdir(env.SCION_CACHE);
  await succeed(['predict', run, join(data, 'test')], { env });
  expect(await kept(env.SCION_CACHE)).toEqual([]);
  await rm(env.SCION_CACHE, { recursive: true });
  expect((await json<{ predictions: unknown[] }>(['predict', run, join(data, 'test')])).predictions).toHaveLength(60);
});
