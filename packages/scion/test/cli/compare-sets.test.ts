/** `scion compare` over several data sets, with variants and groups of rows; stopped, killed and gone on with. */
import { existsSync } from 'node:fs';
import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ComparisonResult } from '../../src/index.js';
import { writeFeatureFile } from '../../src/data/feature-file.js';
import { json, refused, scratch, start, succeed, until } from '../support/cli.js';
import { tinyContent, tinyFile } from '../support/features.js';

const folder = await scratch();
let cats: string;
let dogs: string;
beforeAll(async () => {
  cats = await tinyFile(folder, 'cats');
  const content = tinyContent({ seed: 2, train: [9, 9, 9, 9], test: 5 });
  dogs = join(folder, 'dogs.safetensors');
  const of = Int32Array.from(content.test!.labels, (label, row) => (row === 0 ? -1 : label === 3 ? 1 : 0));
  await writeFeatureFile(dogs, { ...content, test: { ...content.test!, groups: { names: ['seen', 'unseen'], of } } });
});

type Summary = { title: string; group?: string; methods: {
  name: string; byShots: { accuracy: { mean: number }; interval: [number, number] }[];
  differences: { reference: string; byShots: { spread: { mean: number } }[] }[];
}[] };
type Whole = ComparisonResult & { summary: Summary[] };
const common = ['--shots', '1,2', '--seeds', '1,2', '--epochs', '2', '--threads', '1'];
/** Cells without their times. */
const numbers = ({ cells }: ComparisonResult): unknown[] => cells.map(({ seconds: _, ...cell }) => cell);

test('every cell of every data set is the one of a comparison of its own', async () => {
  const args = ['--methods', 'zero-shot,taskres', ...common];
  const both = await json<Whole>(['compare', '--features', cats, dogs, ...args]);
  expect(both.datasets).toMatchObject([{ name: 'cats', path: cats, classes: 3, test: 18 }, { name: 'dogs', path: dogs, classes: 4 }]);
  const alone = await Promise.all([cats, dogs].map((path) => json<Whole>(['compare', '--features', path, ...args])));
  expect(both.cells).toHaveLength(16);
  expect(numbers(both)).toEqual(alone.flatMap(numbers));
  const [average] = both.summary;
  expect(average!.title).toBe('average over 2 data sets');
  const meanOf = (view: Summary): number => view.methods[1]!.byShots[1]!.accuracy.mean;
  expect(meanOf(average!)).toBeCloseTo((meanOf(alone[0]!.summary[0]!) + meanOf(alone[1]!.summary[0]!)) / 2, 12);
});

test('groups of test rows are counted apart', async () => {
  const { cells, summary } = await json<Whole>(['compare', '--features', dogs, '--methods', 'zero-shot', ...common]);
  for (const { groups, accuracy, rows } of cells) {
    expect([rows, groups!.seen!.rows, groups!.unseen!.rows]).toEqual([20, 14, 5]); // row 0 is in none
    const correct = groups!.seen!.accuracy * 14 + groups!.unseen!.accuracy * 5;
    expect([0, 1]).toContain(Math.round(accuracy * 20 - correct));
  }
  expect(summary.map((v) => v.title)).toEqual(['dogs', 'dogs, seen', 'dogs, unseen']);
  expect(await succeed(['compare', '--features', dogs, '--methods', 'zero-shot', ...common])).toContain('dogs, unseen: test accuracy');
});

test('a method may appear several times under names', async () => {
  const recipe = join(folder, 'ablation.yaml');
  await writeFile(recipe, `
features: [cats.safetensors]
methods:
  - taskres
  - taskres:alpha=2:training.lr=0.01
  - { name: no residual, method: taskres, config: { alpha: 0 } }
config: { taskres: { alpha: 1 } }
shots: [2]
seeds: [1]
training: { epochs: 3 }
`);
  const page = join(folder, 'ablation.html');
  const { cells, methods } = await json<Whole>(['compare', '--recipe', recipe, '--threads', '1', '--html', page]);
  expect(methods.map(({ name, method, title }) => [name, method, title])).toEqual([
    ['taskres', 'taskres', 'TaskRes'],
    ['taskres:alpha=2:training.lr=0.01', 'taskres', 'TaskRes (alpha 2, training.lr 0.01)'],
    ['no residual', 'taskres', 'no residual'],
  ]);
  expect(cells.map((c) => c.hyperparameters.alpha)).toEqual([1, 2, 0]);
  // without a residual nothing is adapted
  const zero = await json<Whole>(['compare', '--features', cats, '--methods', 'zero-shot', '--shots', '2', '--seeds', '1']);
  expect(cells[2]!.accuracy).toBe(zero.cells[0]!.accuracy);
  expect(cells[2]!.ece).not.toBe(cells[1]!.ece);
  expect(await readFile(page, 'utf8')).toContain('TaskRes (alpha 2, training.lr 0.01)');
});

test('Markdown goes into a file, with the differences that were asked for', async () => {
  const file = join(folder, 'tables.md');
  await succeed(['compare', '--features', cats, dogs, '--methods', 'zero-shot,taskres,tip-adapter', ...common, '--markdown',
    file, '--reference', 'taskres,tip-adapter']);
  const text = await readFile(file, 'utf8');
  expect(text.match(/^## .*$/gm)).toEqual(['## Average over 2 data sets', '## cats', '## dogs', '## Data sets']);
  expect(text.match(/^Difference to (\S+)/gm)).toEqual(
    Array.from({ length: 3 }, () => ['Difference to TaskRes', 'Difference to Tip-Adapter']).flat());
});

describe('what is wrong is told at once', () => {
  const args = (...words: string[]): string[] => ['compare', '--json', join(folder, 'no.json'), ...words];
  test('in variants and references', async () => {
    await refused(folder, 2, args('--features', cats, cats, '--methods', 'taskres:alpha=x,tip:beta=1,graph-adapter:bet=1,zero-shot:search'),
      [/features: .*cats\.safetensors stands there twice/, 'methods: taskres:alpha=x: config.alpha: "x": expected number',
        'unknown method "tip"', 'unknown key "bet"; did you mean beta?', '"zero-shot:search": "search" is no setting, expected method:key=value']);
    await refused(folder, 2, args('--features', cats, '--methods', 'taskres', '--reference', 'zero-shot'),
      ['--reference: "zero-shot" is not compared; name one of taskres']);
    await refused(folder, 2, args('--features', cats, '--methods', 'taskres,taskres'), ['taskres stands there twice']);
  });
  test('in data sets', async () => {
    const missing = join(folder, 'missing.safetensors');
    await refused(folder, 1, args('--features', missing, cats, join(folder, 'other.json'), '--methods', 'taskres'),
      [missing, 'there is no such file', 'other.json']);
    await refused(folder, 2, args('--features', cats, dogs, '--methods', 'taskres', '--shots', '9', '--strict-shots'),
      ['class "kind 0" has 8 rows; use --shots 8 or fewer']);
  });
});

test('files of the same name are told apart by their paths', async () => {
  await mkdir(join(folder, 'more'));
  const other = await tinyFile(join(folder, 'more'), 'cats', { seed: 3 });
  const { datasets } = await json<Whole>(['compare', '--features', cats, other, '--methods', 'zero-shot', ...common]);
  expect(datasets.map(({ name }) => name)).toEqual([cats, other]);
});

describe('a comparison that was ended', () => {
  const args = (file: string, ...more: string[]): string[] => ['compare', '--features', cats, dogs, '--methods',
    'zero-shot,clip-adapter', '--shots', '1,2,4', '--seeds', '1,2,3,4,5,6', '--epochs', '60', '--json', file, ...more];
  const lines = async (file: string): Promise<string[]> => (await readFile(file, 'utf8').catch(() => '')).split('\n');

  test('is gone on with after a kill, with the same numbers', async () => {
    const file = join(folder, 'killed.json');
    const { child, done } = start(args(file));
    await until(async () => child.exitCode !== null || (await lines(`${file}.cells`)).length > 6);
    child.kill('SIGKILL');
    expect((await done).signal).toBe('SIGKILL');
    expect(existsSync(file)).toBe(false);
    await appendFile(`${file}.cells`, '{"dataset":"cats","meth'); // cut off while it was written
    const kept = (await lines(`${file}.cells`)).slice(1, -1).map((line) => JSON.parse(line) as { seconds: number });
    expect(kept.length).toBeGreaterThan(4);
    expect(kept.length).toBeLessThan(72);
    await succeed(args(file));
    expect(existsSync(`${file}.cells`)).toBe(false);
    const went = JSON.parse(await readFile(file, 'utf8')) as Whole;
    const whole = join(folder, 'whole.json');
    await succeed(args(whole));
    expect(numbers(went)).toEqual(numbers(JSON.parse(await readFile(whole, 'utf8')) as Whole));
    // what was done was not trained again: its times are those of the first process
    const times = went.cells.map((c) => c.seconds);
    for (const { seconds } of kept) expect(times).toContain(seconds);
  });

  test('by Ctrl-C leaves a report and goes on; another recipe or other data are refused', async () => {
    const [file, page] = [join(folder, 'stopped.json'), join(folder, 'stopped.html')];
    const changing = await tinyFile(folder, 'changing');
    const words = (...more: string[]): string[] => ['compare', '--features', changing, '--methods', 'clip-adapter',
      '--shots', '1,2,4', '--seeds', Array.from({ length: 30 }, (_, i) => i + 1).join(), '--json', file, ...more];
    const { child, done, stderr } = start(words('--html', page));
    await until(async () => child.exitCode !== null || (await lines(`${file}.cells`)).length > 3);
    child.kill('SIGINT');
    expect((await done).code, stderr()).toBe(1);
    expect(stderr()).toContain('the same command goes on from there');
    const { cells } = JSON.parse(await readFile(file, 'utf8')) as Whole;
    expect(cells.length).toBeGreaterThan(1);
    expect(cells.length).toBeLessThan(90);
    expect(await readFile(page, 'utf8')).toContain('stopped after');
    const journal = await readFile(`${file}.cells`, 'utf8');
    await refused(folder, 1, words('--lr', '0.5', '--epochs', '7'),
      [`${file}.cells: was begun with training {} and not {"lr":0.5,"epochs":7}`, `remove ${file}.cells to start afresh`]);
    await tinyFile(folder, 'changing', { seed: 9 });
    await refused(folder, 1, words(), ['was begun with the content of changing']);
    await writeFile(`${file}.cells`, 'something else\n');
    await refused(folder, 1, words(), ['stopped.json.cells: line 1: is no JSON', 'remove']);
    await writeFile(`${file}.cells`, journal.replace('"accuracy":', '"accuracy":"high","was":'));
    await tinyFile(folder, 'changing');
    await refused(folder, 1, words(), ['stopped.json.cells: line 2: is no finished cell']);
    await writeFile(`${file}.cells`, journal);
    await succeed(words());
    expect((JSON.parse(await readFile(file, 'utf8')) as Whole).cells).toHaveLength(90);
  });
});
