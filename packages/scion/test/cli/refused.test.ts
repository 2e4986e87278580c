/** Settings that would be ignored, and work that must not be lost. */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type ComparisonResult, loadRun, train } from '../../src/index.js';
import { expectRefusal, json, pictograms, scion, scratch } from '../support/cli.js';

const base = ['--features', pictograms];

test.each([
  [['--method', 'linear-probe', '--lr', '7'], /--lr: has no meaning for linear-probe/],
  [
    ['--method', 'taskres', '--optimizer', 'sgd', '--set', 'alpha=1', '--warmup-epochs', '500'],
    /--warmup-epochs: 500: expected at most/,
  ],
  [['--method', 'taskres', '--search', 'on', '--validation', 'none'], /--search: on: there is nothing to search on/],
  [['--set', '__proto__.x=1'], /__proto__ is no name/],
])('%j', async (flags, message) => {
  expectRefusal(await scion(['train', ...base, '--out', join(await scratch(), 'run'), ...flags]), 2, [message]);
});

test('names that stand twice in a comparison', async () => {
  const args = ['compare', ...base, '--methods', 'zero-shot,zero-shot', '--seeds', '1,1'];
  expectRefusal(await scion(args), 2, [/--methods: zero-shot stands there twice/, /--seeds: 1 stands there twice/]);
});

test('an update that breaks the values after the last loss is a failure', async () => {
  const flags = ['--method', 'taskres', '--shots', '4', '--epochs', '1', '--lr', '1e38'];
  expectRefusal(await scion(['train', ...base, '--out', join(await scratch(), 'run'), ...flags]), 1, [
    /use a smaller lr/,
  ]);
});

test('one training that fails leaves the others of a comparison', async () => {
  const out = join(await scratch(), 'new', 'cells.json');
  const flags = [
    '--methods',
    'zero-shot,clip-adapter',
    '--shots',
    '2',
    '--seeds',
    '1',
    '--optimizer',
    'sgd',
    '--lr',
    '1e30',
  ];
  const { code, stderr } = await scion(['compare', ...base, ...flags, '--json', out]);
  expect([code, stderr]).toEqual([0, expect.stringMatching(/clip-adapter, shots 2, seed 1 is left out/)]);
  const { cells, warnings } = JSON.parse(await readFile(out, 'utf8')) as ComparisonResult;
  expect(cells.map((c) => c.method)).toEqual(['zero-shot']);
  expect(warnings.join()).toMatch(/left out/);
});

test('a folder in the place of the report is refused before any training', async () => {
  const folder = join(await scratch(), 'report.html');
  await mkdir(folder);
  expectRefusal(await scion(['compare', ...base, '--methods', 'zero-shot', '--html', folder]), 1, [/is a folder/]);
});

test('a hyper-parameter that the user sets is not searched', async () => {
  const flags = ['--method', 'tip-adapter', '--shots', '4', '--set', 'alpha=2', '--set', 'beta=3'];
  const { config } = await json<{ config: object }>([
    'train',
    ...base,
    '--out',
    join(await scratch(), 'run'),
    ...flags,
  ]);
  expect(config).toEqual({ alpha: 2, beta: 3 });
});

test('rows may be typed arrays, and anything else is refused', async () => {
  const path = join(await scratch(), 'run');
  const made = await train({ features: pictograms, method: 'zero-shot', shots: 1, out: path });
  await made.close();
  const run = await loadRun(path);
  try {
    const row = Float32Array.from({ length: run.info.dim }, (_, i) => Math.cos(i));
    const [typed] = await run.predict([row]);
    const [plain] = await run.predict([Array.from(row)]);
    expect(typed).toEqual(plain);
    for (const bad of [[null], ['x'], [[1, 2]]]) {
      await expect(run.predict(bad as never)).rejects.toThrow(/row 0 (has 2 numbers|is no list of numbers), expected 64/);
    }
  } finally {
    await run.close();
  }
});
