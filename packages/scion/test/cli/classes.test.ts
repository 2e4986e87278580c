/** `scion classes`: what it says and what it refuses. What becomes of the run is tested beside the source. */
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { json, refused, scion, scratch, succeed } from '../support/cli.js';
import { model, pictures } from '../support/pictures.js';
import { tinyFile } from '../support/features.js';

const folder = await scratch();
const run = join(folder, 'run');
const image = join(pictures, 'train/grün/0.png');
beforeAll(() => succeed(['train', '--data', pictures, '--model', model, '--method', 'taskres', '--shots', '1',
  '--epochs', '2', '--no-cache', '--out', run]), 60_000);

test('a class comes and goes, and each run predicts', async () => {
  const more = join(folder, 'more');
  const { code, stdout, stderr } =
    await scion(['classes', 'add', run, '--name', 'red panda', join(pictures, 'train/grün'), '--no-cache', '--out', more]);
  expect([code, stdout]).toEqual([0, `${more}: 4 classes: Blue stripes, grün, red_square, red panda\n`]);
  expect(stderr).toMatch(/note: red panda: it is known by its words; its residual is 0/);
  const { predictions } = await json<{ predictions: { classes: { label: string }[] }[] }>(['predict', more, image]);
  expect(predictions[0]!.classes.map(({ label }) => label)).toContain('red panda');
  const less = join(folder, 'less');
  const result = await json<object>(['classes', 'remove', more, 'grün', 'red panda', '--out', less]);
  expect(result).toMatchObject({ run: less, class_names: ['Blue stripes', 'red_square'] });
  expect(await succeed(['predict', less, image])).not.toMatch(/grün \d/);
});

test('what is missing is said', async () => {
  const out = ['--out', join(folder, 'none')];
  await refused(folder, 2, ['classes', 'add', run, image, ...out], [/--name: missing/]);
  await refused(folder, 2, ['classes', 'add', run, '--name', 'x', ...out], [/images: missing: name a few pictures/]);
  await refused(folder, 2, ['classes', 'add', run, image, '--name', 'x'], [/--out: missing: expected a new folder/]);
  await refused(folder, 2, ['classes', 'remove', run, 'blau', ...out], [/unknown class "blau"/]);
  await refused(folder, 2, ['classes', 'remove', run, 'grün', '--out', run], [/run exists already/]);
  const features = join(folder, 'features');
  await succeed(['train', '--features', await tinyFile(folder, 'tiny'), '--method', 'taskres', '--shots', '2',
    '--epochs', '1', '--out', features]);
  await refused(folder, 2, ['classes', 'add', features, image, '--name', 'x', '--model', model, ...out],
    [/--text: missing: the run was trained on a feature file/]);
});
