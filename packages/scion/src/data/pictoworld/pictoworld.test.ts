import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Random } from '../../util/random.js';
import { readDrawings } from './drawings.js';
import { generateWorld } from './index.js';
import { isHeldOutPair } from './kinds.js';
import { askQuestions } from './questions.js';
import { sampleScenes, splits } from './scene.js';

let root: string;
beforeAll(async () => { root = await mkdtemp(join(tmpdir(), 'scion-world-')); });
afterAll(() => rm(root, { recursive: true, force: true }));

test('the same seed gives the same bytes, another one others', async () => {
  const [a, b, c] = ['a', 'b', 'c'].map((name) => join(root, name)) as [string, string, string];
  await generateWorld(a, { scenes: 40, seed: 1 });
  await generateWorld(b, { scenes: 40, seed: 1 });
  await generateWorld(c, { scenes: 40, seed: 2 });
  const picture = 'train2014/COCO_train2014_000000000001.jpg';
  const files = (await readdir(a, { recursive: true })).filter((f) => /\.\w+$/.test(f)).sort();
  expect(files).toContain(picture);
  for (const file of files) expect(await readFile(join(b, file)), file).toEqual(await readFile(join(a, file)));
  expect(await readFile(join(c, picture))).not.toEqual(await readFile(join(a, picture)));
}, 60_000);

test('every kind has three styles of training and a held-out one; held-out pairs are in test scenes alone', async () => {
  const all = await readDrawings();
  for (const { kind, seen, heldOut } of all) {
    const styles = new Set(seen.map((d) => d.style));
    expect(styles.size, kind.name).toBeGreaterThanOrEqual(3);
    expect(heldOut.length, kind.name).toBeGreaterThan(0);
    expect(heldOut.every((d) => !styles.has(d.style)), kind.name).toBe(true);
  }
  for (const split of splits) {
    for (const { objects } of sampleScenes(Random.seeded(3), split, 300, all)) {
      const shown = [...new Set(objects.map((o) => o.kind))];
      const pair = shown.some((a) => shown.some((b) => isHeldOutPair(a, b)));
      expect(pair).toBe(split === 'test' && shown.length > 1);
    }
  }
});

test('a wording says nothing of its answer', async () => {
  const all = await readDrawings();
  const scenes = sampleScenes(Random.seeded(4), 'train', 2000, all);
  const asked = askQuestions(Random.seeded(5), scenes, 4, all.map((k) => k.kind)).flat();
  const share = (rows: typeof asked, answer: string): number => rows.filter((q) => q.answer === answer).length / rows.length;
  const ofType = (pattern: RegExp): typeof asked => asked.filter((q) => pattern.test(q.question));
  expect(share(ofType(/^is there/), 'yes')).toBe(0.5);
  for (const n of ['0', '1', '2', '3', '4']) expect(share(ofType(/^how many/), n)).toBe(0.2);
  const colors = ofType(/color/);
  for (const color of new Set(colors.map((q) => q.answer))) expect(share(colors, color)).toBeLessThan(0.2);
});

test('answers learned by wording alone are no better than chance on new scenes', async () => {
  const all = await readDrawings();
  const [train, val] = (['train', 'val'] as const).map((split, i) => (
    askQuestions(Random.seeded(6 + i), sampleScenes(Random.seeded(8 + i), split, 2000 - 1500 * i, all), 4, all.map((k) => k.kind)).flat()));
  const given = new Map<string, Map<string, number>>();
  for (const { question, answer } of train!) {
    const answers = given.get(question) ?? new Map<string, number>();
    given.set(question, answers.set(answer, (answers.get(answer) ?? 0) + 1));
  }
  const guess = (question: string): string | undefined =>
    [...given.get(question) ?? []].sort((a, b) => b[1] - a[1])[0]?.[0];
  const possible = { 'yes/no': 2, number: 5, other: 8 };
  const right = val!.filter((q) => guess(q.question) === q.answer).length / val!.length;
  const chance = val!.reduce((sum, q) => sum + 1 / possible[q.answerType], 0) / val!.length;
  expect(right).toBeGreaterThan(0.05);
  expect(right).toBeLessThan(chance + 0.02);
}, 60_000);

test('bad options are named', async () => {
  const folder = join(root, 'bad');
  await expect(generateWorld(folder, { scenes: 3 })).rejects.toThrow('scenes: 3: expected a whole number from 20');
  await expect(generateWorld(folder, { kinds: ['dgo'] })).rejects.toThrow('did you mean dog');
  await expect(generateWorld(join(root), { scenes: 20 })).rejects.toThrow('choose a new folder');
  expect(await readdir(root)).not.toContain('bad');
}, 60_000);
