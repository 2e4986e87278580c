/** `scion compare`: every cell, in every form of output; stopped in the middle; and that training helps. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ComparisonResult } from '../../src/index.js';
import { pictograms, refused, scratch, start, succeed, until } from '../support/cli.js';
import { tinyFile } from '../support/features.js';

const folder = await scratch();
let features: string;
beforeAll(async () => {
  features = await tinyFile(folder);
});

test('JSON, page and table hold all of it', async () => {
  const [file, page] = [join(folder, 'r.json'), join(folder, 'r.html')];
  const stdout = await succeed(['compare', '--features', features, '--methods', 'zero-shot, taskres', '--shots', '1,2',
    '--seeds', '1,2',
    '--epochs', '2', '--threads', '1', '--json', file, '--html', page]);
  const result = JSON.parse(await readFile(file, 'utf8')) as ComparisonResult;
  expect(result.cells.map((c) => `${c.method} ${c.shots} ${c.seed}`)).toEqual(
    [1, 2].flatMap((shots) => [1, 2].flatMap((seed) => ['zero-shot', 'taskres'].map((m) => `${m} ${shots} ${seed}`))));
  for (const cell of result.cells) {
    expect(cell.accuracy).toBeGreaterThanOrEqual(0);
    expect(cell.accuracy).toBeLessThanOrEqual(1);
    expect(cell.ece).toBeLessThanOrEqual(1);
    expect(cell.seconds).toBeGreaterThan(0);
    expect(cell.trainableParameters).toBe(cell.method === 'taskres' ? 24 : 0);
  }
  expect(result).toMatchObject({
    datasets: [{ path: features, classes: 3, dim: 8, train: 24, test: 18 }], shots: [1, 2], seeds: [1, 2],
    recipe: { training: { epochs: 2 } },
  });
  expect(stdout).toContain('TaskRes');
  expect(stdout).toContain('Zero-shot');
  const html = await readFile(page, 'utf8');
  expect(html).toMatch(/^<!doctype html>/i);
  expect(html).toContain('TaskRes');
  expect(html).toContain('<svg');
});

test('JSON and Markdown on stdout, nothing beside', async () => {
  const args = ['compare', '--features', features, '--methods', 'zero-shot', '--shots', '1', '--seeds', '1',
    '--threads', '1'];
  expect((JSON.parse(await succeed([...args, '--json'])) as ComparisonResult).cells).toHaveLength(1);
  expect(await succeed([...args, '--markdown'])).toMatch(/^\|.*\|$/m);
});

test('names and numbers that are wrong, all at once', async () => {
  await refused(folder, 2, ['compare', '--features', features, '--methods', 'zero-shoot,taskres,tip', '--shots', '1,x',
    '--seeds', '1', '--html',
    join(folder, 'no.html')], [/^error: .*shots/m, '"x"']);
  await refused(folder, 2, ['compare', '--features', features, '--methods', 'zero-shoot,taskres,tip', '--html',
    join(folder, 'no.html')],
    ['unknown method "zero-shoot"; did you mean zero-shot?', 'unknown method "tip"']);
  await refused(folder, 2, ['compare', '--features', features, '--methods', 'taskres', '--set', 'graph-adapter.beta=1'],
    ['config.graph-adapter', 'not among the methods compared']);
  await refused(folder, 2, ['compare', '--features', features, '--methods', 'zero-shot', '--shots', '9',
    '--strict-shots'],
    ['--shots 9: class "kind 0" has 8 rows; use --shots 8 or fewer']);
});

test('Ctrl-C leaves what was done, in all outputs, and exit code 1', async () => {
  const [file, page] = [join(folder, 'part.json'), join(folder, 'part.html')];
  const { child, done, stderr } = start(['compare', '--features', features, '--methods', 'zero-shot,taskres', '--shots',
    '1,2,4,16',
    '--seeds', Array.from({ length: 40 }, (_, i) => i + 1).join(), '--epochs', '20', '--threads', '1', '--json', file,
      '--html', page]);
  // the warning about too few rows comes when all rows have been drawn: from then on trainings are running
  await until(() => child.exitCode !== null || stderr().includes('warning: ') || undefined);
  await new Promise((r) => { setTimeout(r, 400); });
  child.kill('SIGINT');
  const { code, stdout } = await done;
  expect(code).toBe(1);
  expect(stderr()).toMatch(/warning: stopped after \d+ of 320 trainings/);
  expect(stderr()).not.toMatch(/^\s+at /m);
  const { cells, warnings } = JSON.parse(await readFile(file, 'utf8')) as ComparisonResult;
  expect(cells.length).toBeLessThan(320);
  expect(warnings.at(-1)).toBe(`stopped after ${cells.length} of 320 trainings`);
  expect(existsSync(page)).toBe(true);
  expect(stdout).toContain('Zero-shot');
});

describe('16 shots of the pictograms', () => {
  test('every trained method is better than no training', async () => {
    const methods = ['zero-shot', 'linear-probe', 'tip-adapter', 'tip-adapter-f', 'clip-adapter', 'taskres',
      'graph-adapter'];
    const { cells } = JSON.parse(await succeed(['compare', '--features', pictograms, '--methods', methods.join(),
      '--shots', '16',
      '--seeds', '1', '--threads', '2', '--json'])) as ComparisonResult;
    const accuracy = Object.fromEntries(cells.map((c) => [c.method, c.accuracy]));
    expect(accuracy['zero-shot']).toBeCloseTo(0.699, 2);
    for (const name of methods.slice(1)) expect(accuracy[name], name).toBeGreaterThan(accuracy['zero-shot']! + 0.02);
  });
});
