/** Picto-11, and that PictoCLIP was trained on nothing that it tests: by name, by concept and by picture. */
import { mkdtemp, readFile, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { readDataset } from '../src/data/dataset.js';
import { isBuiltInData, pictureSet, pictureSets } from '../src/data/suites.js';
import { train } from '../src/index.js';
import { repository } from './command.js';

type Row = [path: string, label: number, name: string];
interface Task {
  pictures: Record<string, string>;
  split: { train: Row[]; test: Row[]; groups: { test: { seen: number[]; unseen: number[] } } };
}

const packedFolder = join(repository, 'packages/scion/datasets/picto-11');
const tasks = new Map<string, Task>();
/** What pretraining saw, as the run's own list says. */
let seen: { id: string; concept: string; hash: string }[];

beforeAll(async () => {
  for (const file of (await readdir(packedFolder)).filter((f) => f.endsWith('.json.br'))) {
    const packed = brotliDecompressSync(await readFile(join(packedFolder, file)));
    tasks.set(file.replace('.json.br', ''), JSON.parse(packed.toString()) as Task);
  }
  const list = gunzipSync(await readFile(join(repository, 'recipes/picto/pretraining.tsv.gz'))).toString();
  const [, ...lines] = list.trimEnd().split('\n');
  seen = lines.map((line) => {
    const [id, concept, , hash] = line.split('\t') as [string, string, string, string];
    return { id, concept, hash };
  });
});

test('there are eleven tasks of 15 to 60 classes with at least 300 test pictures each', () => {
  expect(tasks.size).toBe(11);
  for (const [name, { split, pictures }] of tasks) {
    const classes = new Set([...split.train, ...split.test].map(([, label]) => label));
    expect(classes.size, name).toBeGreaterThanOrEqual(15);
    expect(classes.size, name).toBeLessThanOrEqual(60);
    expect(split.test.length, name).toBeGreaterThanOrEqual(300);
    for (const label of classes) {
      for (const rows of [split.train, split.test]) expect(rows.some(([, l]) => l === label), `${name} ${label}`).toBe(true);
    }
    const { seen: known, unseen } = split.groups.test;
    expect([...known, ...unseen].sort((a, b) => a - b), name).toEqual(split.test.map((_, i) => i));
    expect(Math.min(known.length, unseen.length), name).toBeGreaterThanOrEqual(20);
    expect([...new Set([...split.train, ...split.test].map(([path]) => path))].sort()).toEqual(Object.keys(pictures).sort());
  }
});

describe('what pretraining saw', () => {
  const idOf = (path: string): string => path.replace('/', ':').replace(/\.svg$/, '');
  const setOf = (id: string): string => id.split(':')[0]!;

  test('is no set that tests come from, nor any of the styles that are held out', () => {
    const trained = new Set(seen.map(({ id }) => setOf(id)));
    expect(seen.length).toBeGreaterThan(50_000);
    for (const set of ['twemoji', 'openmoji', 'tabler', 'ph', 'carbon', 'game-icons']) expect(trained).not.toContain(set);
    for (const [name, { split }] of tasks) {
      for (const [path] of split.test) expect(trained.has(setOf(idOf(path))), `${name}: ${path}`).toBe(false);
    }
  });

  test('is no concept that tests call unseen', () => {
    const concepts = new Set(seen.map(({ concept }) => concept));
    let unseenClasses = 0;
    for (const [name, { split }] of tasks) {
      if (name === 'nature-and-food' || name === 'people-and-objects') continue; // their classes are groups of concepts
      for (const row of split.groups.test.unseen) {
        expect(concepts.has(split.test[row]![2]), `${name}: ${split.test[row]!.join(' ')}`).toBe(false);
        unseenClasses++;
      }
    }
    expect(unseenClasses).toBeGreaterThan(500);
  });

  test('is no picture that is tested, under whatever name', async () => {
    const { draw, pictureHash } = await import(pathToFileURL(join(repository, 'recipes/picto/rasters.mjs')).href) as {
      draw: (svg: string) => Promise<Uint8Array | undefined>; pictureHash: (rgb: Uint8Array) => string };
    const hashes = new Map(seen.map(({ hash, id }) => [hash, id]));
    let [compared, again] = [0, 0];
    for (const { split, pictures } of tasks.values()) {
      for (const [path] of split.test) {
        const hash = pictureHash((await draw(pictures[path]!))!);
        expect(hashes.get(hash), path).toBeUndefined();
        compared++;
      }
      // the hash finds what is there: pictures of training are in the list, save those that were kept out of it
      for (const [path] of split.train.slice(0, 20)) again += Number(hashes.has(pictureHash((await draw(pictures[path]!))!)));
    }
    expect(compared).toBeGreaterThan(5000);
    expect(again).toBeGreaterThan(100);
  }, 180_000);
});

describe('by name', () => {
  test('a suite is its tasks, a task is a CoOp split with groups, unpacked once', async () => {
    const [all, again] = await Promise.all([pictureSets('picto-11'), pictureSets('picto-11')]);
    expect(all).toEqual(again);
    expect(all.map(({ name }) => name)).toEqual([...tasks.keys()].sort().map((name) => `picto-11/${name}`));
    const path = await pictureSet('picto-11/media');
    expect(path).toBe(all.find(({ name }) => name === 'picto-11/media')!.path);
    const dataset = await readDataset(path, { findDuplicates: false });
    expect(dataset.classNames).toContain('volume up');
    expect(dataset.splits.test).toHaveLength(tasks.get('media')!.split.test.length);
    expect(Object.keys(dataset.groups!)).toEqual(['seen', 'unseen']);
  }, 120_000);

  test('what is damaged in the cache by hand comes back once its folder is gone', async () => {
    const path = await pictureSet('picto-11/commerce');
    await rm(join(path, '..'), { recursive: true });
    expect(await pictureSet('picto-11/commerce')).toBe(path);
    expect((await stat(path)).isFile()).toBe(true);
  }, 60_000);

  test('unknown tasks and whole suites are refused by name where one data set is wanted', async () => {
    expect(isBuiltInData('picto-11/anything')).toBe(true);
    expect(isBuiltInData('photos')).toBe(false);
    await expect(pictureSets('picto-11/animal')).rejects.toThrow(/unknown task of picto-11 "animal"; did you mean animals\?/);
    await expect(pictureSet('picto-11')).rejects.toThrow(/picto-11 is 11 data sets, expected one; name picto-11\/animals, /);
    expect(await pictureSets('/some/folder')).toEqual([{ path: '/some/folder' }]);
  }, 120_000);
});

test('train takes a task by its name, and the run remembers it so', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'scion-picto-'));
  try {
    const run = await train({ data: 'picto-11/navigation', model: 'picto', method: 'zero-shot', out: join(folder, 'run') });
    expect(run.info.pictures?.data).toBe('picto-11/navigation');
    expect(run.info.recipe['data']).toBe('picto-11/navigation');
    await run.close();
  } finally {
    await rm(folder, { recursive: true });
  }
});
