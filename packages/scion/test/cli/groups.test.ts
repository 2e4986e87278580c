/** Groups of test pictures all the way: a CoOp split, its feature file, a run's evaluation. */
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readFeatureFile } from '../../src/data/feature-file.js';
import { repository } from '../command.js';
import { json, scratch, succeed } from '../support/cli.js';

const fixture = join(repository, 'fixtures/clip/pictures');

test('from a CoOp split through features and train to eval', async () => {
  const folder = await scratch();
  await cp(join(fixture, 'data'), folder, { recursive: true });
  const names = ['Blue stripes', 'grün', 'red_square'];
  const train = names.flatMap((name, k) => [0, 1].map((i) => [`train/${name}/${i}.png`, k, name]));
  // one that cannot be read goes in front: the rows behind it move up, and their groups with them
  await writeFile(join(folder, 'bad.png'), 'no picture');
  const held = [['bad.png', 0, names[0]], ...names.map((name, k) => [`test/${name}/2.png`, k, name])];
  const groups = { test: { seen: [0, 1, 3], unseen: [2] } };
  await writeFile(join(folder, 'split.json'), JSON.stringify({ train, test: held, groups }));
  const [features, run] = [join(folder, 'f.safetensors'), join(folder, 'run')];
  await succeed(['features', '--data', join(folder, 'split.json'), '--model', join(fixture, 'model'), '--out', features,
    '--skip-bad']);
  const file = await readFeatureFile(features, { test: true });
  expect(file.test!.groups).toEqual({ names: ['seen', 'unseen'], of: Int32Array.of(0, 1, 0) });

  await succeed(['train', '--features', features, '--method', 'taskres', '--shots', '2', '--epochs', '5', '--out', run]);
  const result = await json<{ accuracy: number; groups: Record<string, { rows: number; accuracy: number }> }>(['eval', run]);
  expect(Object.keys(result.groups)).toEqual(['seen', 'unseen']);
  const { seen, unseen } = result.groups;
  expect([seen!.rows, unseen!.rows]).toEqual([2, 1]);
  expect(seen!.accuracy * 2 + unseen!.accuracy).toBeCloseTo(result.accuracy * 3, 12);
  expect(await succeed(['eval', run])).toMatch(/^seen: accuracy [\d.]+ % of 2 rows$/m);
  expect(await readFile(join(run, 'run.json'), 'utf8')).not.toContain('undefined');
});
