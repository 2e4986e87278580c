import { mkdtemp, readFile, readdir, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { cacheFolder } from './cache-folder.js';
import { type FeatureCache, cacheKey, openFeatureCache } from './feature-cache.js';

const root = await mkdtemp(join(tmpdir(), 'scion-features-'));
afterAll(() => rm(root, { recursive: true, force: true }));
let folder: string;
let count = 0;
beforeEach(() => {
  folder = join(root, String(count++));
});

const key = (i: number): string => cacheKey('row', i);
const row = (i: number): Float32Array => Float32Array.from([i, i / 3, -i]);
const all = Array.from({ length: 10 }, (_, i) => i);

async function fill(cache: FeatureCache, rows: readonly number[] = all): Promise<void> {
  for (const i of rows) await cache.add(key(i), row(i));
  await cache.flush();
}

async function found(rows: readonly number[] = all): Promise<Map<string, Float32Array>> {
  const out = new Map<string, Float32Array>();
  await openFeatureCache(folder, 3).find(new Set(rows.map(key)), (k, r) => {
    expect(out.has(k)).toBe(false);
    out.set(k, r);
  });
  return out;
}
const everything = new Map(all.map((i) => [key(i), row(i)]));
const chunks = async (): Promise<string[]> => (await readdir(folder)).sort();

test('rows come back to the bit, from several chunks; what is not there is not given', async () => {
  await fill(openFeatureCache(folder, 3, { chunkRows: 4 }));
  expect(await chunks()).toHaveLength(3);
  expect(await found([...all, 99])).toEqual(everything);
  expect(await found([7])).toEqual(new Map([[key(7), row(7)]]));
  expect(await found([99])).toEqual(new Map());
});

test('an added row is a copy', async () => {
  const cache = openFeatureCache(folder, 3);
  const shared = row(1);
  await cache.add(key(1), shared);
  shared.fill(0);
  await cache.flush();
  expect(await found([1])).toEqual(new Map([[key(1), row(1)]]));
});

test('the same rows, added by many at once and again, are one file and are given once', async () => {
  await Promise.all(Array.from({ length: 8 }, () => fill(openFeatureCache(folder, 3))));
  expect(await chunks()).toHaveLength(1);
  await fill(openFeatureCache(folder, 3), [3, 4, 11]);
  expect(await found()).toEqual(everything);
});

test('rows of another width are not taken', async () => {
  await fill(openFeatureCache(folder, 3));
  const taken: string[] = [];
  await openFeatureCache(folder, 2).find(new Set(all.map(key)), (k) => taken.push(k));
  expect(taken).toEqual([]);
});

describe('a damaged chunk is never trusted, and removed', () => {
  test('cut at every length', async () => {
    await fill(openFeatureCache(folder, 3), [1, 2]);
    const [name] = await chunks();
    const whole = await readFile(join(folder, name!));
    for (let length = 0; length < whole.length; length++) {
      await writeFile(join(folder, name!), whole.subarray(0, length));
      expect((await found([1, 2])).size, `${length} bytes`).toBe(0);
      expect(await chunks(), `${length} bytes`).toEqual([]);
    }
    await writeFile(join(folder, name!), whole);
    expect((await found([1, 2])).size).toBe(2);
  });

  test('any byte changed: no wrong row comes out', async () => {
    await fill(openFeatureCache(folder, 3), [1, 2]);
    const [name] = await chunks();
    const whole = await readFile(join(folder, name!));
    for (let at = 0; at < whole.length; at++) {
      const changed = Buffer.from(whole);
      changed[at] = changed[at]! ^ 0x10;
      await writeFile(join(folder, name!), changed);
      expect((await found([1, 2])).size, `byte ${at}`).toBe(0);
    }
  });

  test('the other chunks are still used', async () => {
    await fill(openFeatureCache(folder, 3, { chunkRows: 5 }));
    const [name] = await chunks();
    await truncate(join(folder, name!), 40);
    expect((await found()).size).toBe(5);
    expect(await chunks()).toHaveLength(1);
  });
});

test('a folder that cannot be made is a warning, once', async () => {
  await writeFile(folder, 'a file in the way');
  const warnings: string[] = [];
  const cache = openFeatureCache(join(folder, 'below'), 3, { chunkRows: 1, onWarning: (w) => warnings.push(w) });
  await fill(cache);
  expect(warnings).toEqual([expect.stringMatching(/features are not kept for the next time: .*below/)]);
});

test('drafts of killed processes go once they are old', async () => {
  await fill(openFeatureCache(folder, 3));
  const [old, young] = [join(folder, '.scion-old.tmp'), join(folder, '.scion-young.tmp')];
  await writeFile(old, '');
  await writeFile(young, '');
  await utimes(old, new Date(), Date.now() / 1000 - 100_000);
  await found();
  expect(await chunks()).toEqual(['.scion-young.tmp', expect.stringMatching(/\.features$/)]);
});

test('where the cache lies', () => {
  expect(cacheFolder({ SCION_CACHE: '/a', XDG_CACHE_HOME: '/b' })).toBe('/a');
  expect(cacheFolder({ XDG_CACHE_HOME: '/b' })).toBe('/b/scion');
  expect(cacheFolder({})).toMatch(/\.cache[\\/]scion$/);
});
