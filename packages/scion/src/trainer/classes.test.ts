/** A class more and a class less: nothing of the others moves, what is new is what the method says, nothing is half. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addClass, loadRun, removeClasses, train } from '../index.js';
import { readRun } from './run.js';
import { readSafetensors, writeSafetensors } from '../formats/safetensors-node.js';

const fixtures = fileURLToPath(new URL('../../../../fixtures/clip/pictures/', import.meta.url));
const [data, model] = [join(fixtures, 'data'), join(fixtures, 'model')];
const probe = [join(data, 'test/grün/2.png'), join(data, 'test/red_square/2.png'), join(data, 'train/grün/0.png')];
const extra = [join(data, 'train/red_square/1.png'), join(data, 'train/Blue stripes/1.png')];

let folder: string;
beforeAll(async () => { folder = await mkdtemp(join(tmpdir(), 'scion-classes-')); });
afterAll(() => rm(folder, { recursive: true }));

async function trained(method: string, more: object = {}): Promise<string> {
  const out = join(folder, `run-${method}-${Object.keys(more).join()}`);
  const recipe = { data, model, method, shots: 1, cache: false, seed: 5, out, ...more };
  if (!existsSync(out)) await (await train(recipe)).close();
  return out;
}

/** Logits up to a constant of each row: ln of the probabilities, by class. */
async function scores(run: string): Promise<Map<string, number>[]> {
  const loaded = await loadRun(run);
  try {
    return (await loaded.predictImages(probe, { top: 100 })).map(({ classes }) =>
      new Map(classes.map(({ label, probability }) => [label, Math.log(probability)])));
  } finally {
    await loaded.close();
  }
}

/** How far the differences between two classes' logits have moved, at most, for classes that both have. */
function moved(before: readonly Map<string, number>[], after: readonly Map<string, number>[]): number {
  return Math.max(...before.flatMap((row, i) => {
    const common = [...row.keys()].filter((name) => after[i]!.has(name));
    const [first] = common;
    return common.map((name) =>
      Math.abs(row.get(name)! - row.get(first!)! - after[i]!.get(name)! + after[i]!.get(first!)!));
  }));
}

describe.each(['zero-shot', 'tip-adapter', 'tip-adapter-f', 'clip-adapter', 'taskres'])('%s', (method) => {
  test('takes a class without moving the others, and lets it go again', async () => {
    const run = await trained(method);
    const before = await scores(run);
    const files = await readdir(run);
    const text = await readFile(join(run, 'run.json'), 'utf8');
    const out = join(folder, `added-${method}`);
    const { info, notes } = await addClass(run, { name: 'red panda', pictures: extra }, out, { cache: false });
    expect(info.class_names).toEqual(['Blue stripes', 'grün', 'red_square', 'red panda']);
    expect(info.pictures!.prompts[3]).toEqual(['a photo of a red panda.']);
    expect(info.class_changes).toMatchObject([{ change: 'added', class: 'red panda', pictures: 2 }]);
    expect(info.result!.test).toBeUndefined();
    expect(notes.some((line) => line.includes('red panda'))).toBe(true);
    const after = await scores(out);
    expect(after[0]!.size).toBe(4);
    expect(moved(before, after)).toBeLessThan(1e-4);
    // the run that it came from is as it was
    expect(await readdir(run)).toEqual(files);
    expect(await readFile(join(run, 'run.json'), 'utf8')).toBe(text);

    const back = join(folder, `back-${method}`);
    await removeClasses(out, ['red panda'], back);
    const [old, again] = [await readRun(run), await readRun(back)];
    expect(again.info.class_names).toEqual(old.info.class_names);
    expect(again.support).toEqual(old.support);
    expect(again.values).toEqual(old.values);
    expect(again.info.class_changes!.map(({ change }) => change)).toEqual(['added', 'removed']);

    const middle = join(folder, `middle-${method}`);
    await removeClasses(out, ['grün'], middle);
    const less = await scores(middle);
    expect([...less[0]!.keys()].sort()).toEqual(['Blue stripes', 'red panda', 'red_square']);
    expect(moved(after, less)).toBeLessThan(1e-4);
  });
});

test('a class that came is what training would have begun with', async () => {
  const tip = await trained('tip-adapter-f');
  const out = join(folder, 'tip-more');
  await addClass(tip, { name: 'x', pictures: extra }, out, { cache: false });
  const { support, values } = await readRun(out);
  const [keys, features] = [values['keys']!, support['support.features']!];
  const dim = keys.shape[1]!;
  const row = (t: typeof keys, n: number): number[] => Array.from(t.data.slice(n * dim, (n + 1) * dim) as Float32Array);
  for (const n of [3, 4]) {
    const feature = row(features, n);
    const norm = Math.hypot(...feature);
    row(keys, n).forEach((x, i) => expect(x).toBeCloseTo(feature[i]! / norm, 5));
  }
  // its own pictures now vote for it
  const loaded = await loadRun(out);
  const [own] = await loaded.predictImages([extra[0]!], { top: 4 });
  const other = (await scores(out))[0]!;
  expect(own!.classes.find(({ label }) => label === 'x')!.probability).toBeGreaterThan(Math.exp(other.get('x')!));
  await loaded.close();

  const residual = await trained('taskres');
  await addClass(residual, { name: 'x', pictures: extra }, join(folder, 'res-more'), { cache: false });
  const { values: more } = await readRun(join(folder, 'res-more'));
  const rows = more['text_feature_residuals']!;
  expect(rows.shape).toEqual([4, dim]);
  expect(row(rows, 3)).toEqual(Array(dim).fill(0));
});

test('other texts than the templates, of another number, and several templates', async () => {
  const run = await trained('zero-shot', { templates: 'ensemble' });
  const out = join(folder, 'texts');
  const added = { name: 'x', pictures: extra, texts: ['a thing', 'things'] };
  const { info } = await addClass(run, added, out, { cache: false });
  expect(info.pictures!.prompts.map((list) => list.length)).toEqual([7, 7, 7, 2]);
  expect(moved(await scores(run), await scores(out))).toBeLessThan(1e-4);
  const same = join(folder, 'texts-same');
  await addClass(run, { name: 'y', pictures: extra }, same, { cache: false });
  expect((await readRun(same)).support['text.features']!.shape.slice(0, 2)).toEqual([4, 7]);
});

test('linear-probe lets a class go but cannot take one; graph-adapter can neither, and both say why', async () => {
  const probeRun = await trained('linear-probe');
  const less = join(folder, 'probe-less');
  await removeClasses(probeRun, ['grün'], less);
  expect(moved(await scores(probeRun), await scores(less))).toBeLessThan(1e-4);
  const graph = await trained('graph-adapter');
  const none = join(folder, 'none');
  const added = { name: 'x', pictures: extra };
  await expect(addClass(probeRun, added, none)).rejects.toThrow(/linear-probe cannot take .* fitted/);
  await expect(addClass(graph, added, none)).rejects.toThrow(/graph-adapter cannot take .* graph of/);
  await expect(removeClasses(graph, ['grün'], none)).rejects.toThrow(/graph-adapter cannot let a class go/);
});

describe('refused, with nothing written', () => {
  test.each([
    [{ name: 'grün', pictures: extra }, /"grün" is a class of the run already/],
    [{ name: ' ', pictures: extra }, /--name: is empty/],
    [{ name: 'x', pictures: [] }, /images: missing/],
    [{ name: 'x', pictures: [join(fixtures, 'none.png')] }, /none\.png: cannot read it/],
    [{ name: 'x', pictures: [join(fixtures, 'model/config.json')] }, /config\.json: is a text file/],
  ])('%j', async (added, message) => {
    const run = join(folder, 'run-zero-shot-');
    await expect(addClass(run, added, join(folder, 'none'), { cache: false })).rejects.toThrow(message);
    expect((await readdir(folder)).filter((name) => name === 'none' || name.endsWith('.tmp'))).toEqual([]);
  });

  test('unknown classes, too few that stay, a folder with content, and a damaged run', async () => {
    const run = join(folder, 'run-taskres-');
    const none = join(folder, 'none');
    await expect(removeClasses(run, ['grun'], none)).rejects.toThrow(/unknown class "grun"; did you mean grün/);
    await expect(removeClasses(run, ['grün', 'red_square'], none)).rejects.toThrow(/1 of 3 classes would stay/);
    await mkdir(join(folder, 'full'));
    await writeFile(join(folder, 'full/mine'), '');
    await expect(removeClasses(run, ['grün'], join(folder, 'full'))).rejects.toThrow(/full exists already/);
    const adapter = join(run, 'adapter.safetensors');
    const { tensors } = await readSafetensors(adapter);
    await writeSafetensors(adapter, { other: tensors.get('text_feature_residuals')! });
    await expect(removeClasses(run, ['grün'], none)).rejects.toThrow(/has no tensor text_feature_residuals/);
    expect(await readdir(folder)).not.toContain('none');
  });
});
