/** What a run on pictures is for: predict and eval, calibrated probabilities, "none of these", broken pictures. */
import { cp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodePictures, writeFeatureFile } from 'scion-peft';
import { beforeAll, describe, expect, test } from 'vitest';
import { json, readRun, refused, scion, scratch, succeed } from '../support/cli.js';
import { makeData, model, picture } from '../support/pictures.js';

interface Predicted {
  predictions: {
    path: string;
    label: string | null;
    reason?: string;
    classes: { label: string; probability: number }[];
  }[];
  left_out: string[];
}
interface Evaluated {
  accuracy: number;
  rows: number;
  loss: number;
  ece: number;
  raw_loss: number;
  raw_ece: number;
  temperature: number;
  kept?: { coverage: number; accuracy: number; threshold: number };
  left_out: string[];
}
interface Info {
  warnings: string[];
  pictures?: { left_out: string[] };
  result: { calibration?: { temperature: number; rows: number } };
}

const folder = await scratch();
const data = join(folder, 'data');
const run = join(folder, 'run');
const method = ['--method', 'taskres', '--epochs', '8', '--threads', '1'];
const trained = (out: string, ...flags: string[]): string[] => [
  'train',
  ...method,
  '--out',
  join(folder, out),
  ...flags,
];
const infoOf = async (name: string): Promise<Info> => (await readRun(join(folder, name))).info as unknown as Info;
beforeAll(async () => {
  await makeData(data, { train: 8, test: 4 });
  await succeed(trained('run', '--data', data, '--model', model, '--shots', '4', '--template', 'a {}, drawn'));
});

describe('predict', () => {
  test('pictures, and the features of the same pictures, alike', async () => {
    const file = join(folder, 'to predict.safetensors');
    await succeed(['features', '--data', data, '--model', model, '--out', file]);
    const byFile = await json<Predicted>(['predict', run, '--features', file]);
    const byPicture = await json<Predicted>(['predict', run, join(data, 'test')]);
    expect(byPicture.predictions.map((p) => p.path)).toEqual(
      ['blue', 'green', 'red'].flatMap((name) => [0, 1, 2, 3].map((i) => join(data, 'test', name, `${i}.png`))),
    );
    byPicture.predictions.forEach((p, i) => {
      expect(p.label).toBe(byFile.predictions[i]!.label);
      p.classes.forEach((c, k) => expect(c.probability).toBeCloseTo(byFile.predictions[i]!.classes[k]!.probability, 6));
    });
    const line = await succeed(['predict', run, join(data, 'test/red/0.png'), '--top', '1']);
    expect(line).toMatch(/^.*test\/red\/0\.png\t(red|green|blue) \d+\.\d\d %\n$/);
  });

  test('a model that has moved, another one, other preprocessing: what to do is said', async () => {
    const here = join(folder, 'moving');
    await cp(model, here, { recursive: true });
    await succeed(trained('moving run', '--data', data, '--model', here, '--shots', '2'));
    const args = ['predict', join(folder, 'moving run'), join(data, 'test/red/0.png')];
    const before = await succeed(args);
    await rename(here, join(folder, 'moved'));
    await refused(folder, 1, args, [/the model that it was trained on is not at .*moving any more; name .*--model/]);
    expect(await succeed([...args, '--model', join(folder, 'moved')])).toBe(before);
    await writeFile(join(folder, 'moved/tokenizer_config.json'), '{"add_prefix_space": false}');
    await refused(
      folder,
      1,
      [...args, '--model', join(folder, 'moved')],
      [/is another model than the run was trained on \(SHA-256/],
    );
    await cp(model, here, { recursive: true });
    const settings = JSON.parse(await readFile(join(here, 'preprocessor_config.json'), 'utf8')) as object;
    await writeFile(join(here, 'preprocessor_config.json'), JSON.stringify({ ...settings, resample: 2 }));
    await refused(folder, 1, args, [/preprocessor_config\.json: prepares pictures in another way/]);
  });

  test('a run on a feature file needs to be told the model', async () => {
    const file = join(folder, 'bare.safetensors');
    await succeed(['features', '--data', data, '--model', model, '--out', file]);
    await succeed(trained('bare', '--features', file, '--shots', '2'));
    const args = ['predict', join(folder, 'bare'), join(data, 'test/red/0.png')];
    await refused(folder, 2, args, [/--model: missing: the run was trained on a feature file; name the backbone/]);
    expect(await succeed([...args, '--model', model])).toMatch(/red|green|blue/);
  });

  test('what there is not', async () => {
    await mkdir(join(folder, 'empty'));
    await refused(
      folder,
      1,
      ['predict', run, join(folder, 'empty'), join(folder, 'no.png')],
      [/empty: has no pictures in or below it/, /no\.png: cannot read it: there is no such file/],
    );
    await refused(
      folder,
      2,
      ['predict', run, 'a.png', '--features', 'b', '--top', '0', '--reject', '2'],
      [/--features: is given beside pictures/, /--top: 0/, /--reject: 2: expected the share/],
    );
    for (const verb of ['eval', 'predict']) {
      await refused(
        folder,
        2,
        [verb, run, '--features', 'b', '--model', model, '--skip-bad'],
        [/--model: is for pictures, not for a feature file/, /--skip-bad: is for pictures/],
      );
    }
  });
});

describe('eval', () => {
  test('of the pictures of the training, and of others by the names of their classes', async () => {
    const own = await json<Evaluated>(['eval', run]);
    expect(own.rows).toBe(12);
    expect(await json<Evaluated>(['eval', run, '--data', data])).toMatchObject({
      accuracy: own.accuracy,
      loss: own.loss,
    });
    const { predictions } = await json<Predicted>(['predict', run, join(data, 'test')]);
    const right = predictions.filter(({ path, label }) => path.includes(`/${label}/`)).length;
    expect(own.accuracy).toBeCloseTo(right / 12, 12);
    const some = join(folder, 'some');
    await cp(join(data, 'test/red'), join(some, 'test/red'), { recursive: true });
    const red = predictions.filter(({ path }) => path.includes('/red/'));
    expect(await json<Evaluated>(['eval', run, '--data', some])).toMatchObject({
      rows: 4,
      accuracy: red.filter(({ label }) => label === 'red').length / 4,
    });
    await cp(join(data, 'test/red'), join(some, 'test/mauve'), { recursive: true });
    await refused(
      folder,
      1,
      ['eval', run, '--data', some],
      [/its classes "mauve" are not those of the run \(3: blue, green, red/],
    );
    await refused(folder, 2, ['eval', run, '--data', some, '--features', 'x'], [/--data: is given beside --features/]);
  });

  test('features of another model are warned of', async () => {
    const file = join(folder, 'another.safetensors');
    const { content } = await encodePictures({ data, model });
    await writeFeatureFile(file, { ...content, model: 'another' });
    const { code, stderr } = await scion(['eval', run, '--features', file]);
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(/its features are of the model another, the run was trained on/),
    ]);
  });
});

describe('calibration and "none of these"', () => {
  test('eval reports before and after, and what is kept', async () => {
    const { result } = await infoOf('run');
    expect(result.calibration).toMatchObject({ rows: 12 });
    const found = await json<Evaluated>(['eval', run, '--reject', '0.5']);
    expect(found.temperature).toBe(result.calibration!.temperature);
    expect(found.temperature).not.toBe(1);
    expect([found.raw_loss, found.raw_ece]).not.toEqual([found.loss, found.ece]);
    const { predictions } = await json<Predicted>(['predict', run, join(data, 'test'), '--reject', '0.5']);
    const kept = predictions.filter(({ label }) => label !== null);
    expect(found.kept!.coverage).toBeCloseTo(kept.length / 12, 12);
    for (const p of predictions) {
      const sure = p.classes[0]!.probability >= found.kept!.threshold;
      expect(p.label).toBe(sure ? p.classes[0]!.label : null);
      if (sure) expect(p.reason).toBeUndefined();
      else expect(p.reason).toMatch(/^none of these: the largest probability is 0\.\d{4}, below 0\.\d{4}$/);
    }
    const text = await succeed(['eval', run, '--reject']);
    expect(text).toMatch(/calibration error .* uncalibrated\)\nkept \d+\.\d\d % of the rows/);
  });

  test('cross-validation calibrates on every drawn picture, by its plain view', async () => {
    await succeed(trained('folds', '--data', data, '--model', model, '--shots', '8', '--views', '2'));
    const { result } = await infoOf('folds');
    expect(result.calibration!.rows).toBe(24);
    await succeed(trained('folds again', '--data', data, '--model', model, '--shots', '8', '--views', '2'));
    expect((await infoOf('folds again')).result.calibration).toEqual(result.calibration);
  });

  test('without validation rows probabilities stay as they are, and nothing can be rejected', async () => {
    await succeed(trained('plain', '--data', data, '--model', model, '--shots', '2', '--validation', 'none'));
    const { result, warnings } = await infoOf('plain');
    expect(result.calibration).toBeUndefined();
    expect(warnings.join()).toMatch(/probabilities are not calibrated/);
    const { ece, raw_ece: raw, temperature } = await json<Evaluated>(['eval', join(folder, 'plain')]);
    expect([ece, temperature]).toEqual([raw, 1]);
    await refused(folder, 2, ['eval', join(folder, 'plain'), '--reject'], [/--reject: .*plain has no validation rows/]);
  });
});

describe('pictures that cannot be read', () => {
  test('are errors, or left out, named and counted, in every command', async () => {
    const own = await makeData(join(folder, 'bad'), { train: 4, test: 2 });
    await writeFile(join(own, 'train/red/cut.png'), (await picture(0, 99)).subarray(0, 200));
    await writeFile(join(own, 'test/red/text.png'), 'only words');
    const base = ['--data', own, '--model', model];
    await refused(folder, 1, trained('bad run', ...base), [/train\/red\/cut\.png: cannot be decoded as PNG/]);
    const { code, stderr } = await scion(trained('bad run', ...base, '--skip-bad', '--shots', '4', '--views', '2'));
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/left out: .*cut\.png/);
    expect(stderr).toMatch(/left out: .*text\.png: is a text file/);
    expect(stderr).toMatch(/2 pictures cannot be read and are left out/);
    expect(stderr.match(/left out: .*cut\.png/g)).toHaveLength(1);
    expect((await infoOf('bad run')).pictures!.left_out).toEqual([
      join(own, 'train/red/cut.png'),
      join(own, 'test/red/text.png'),
    ]);
    await refused(folder, 1, ['eval', join(folder, 'bad run')], [/text\.png: is a text file/]);
    expect(await json<Evaluated>(['eval', join(folder, 'bad run'), '--skip-bad'])).toMatchObject({
      rows: 6,
      left_out: [join(own, 'test/red/text.png')],
    });
    await refused(folder, 1, ['predict', join(folder, 'bad run'), join(own, 'test')], [/text\.png/]);
    const found = await json<Predicted>(['predict', join(folder, 'bad run'), join(own, 'test'), '--skip-bad']);
    expect(found.predictions).toHaveLength(6);
    expect(found.left_out).toEqual([join(own, 'test/red/text.png')]);
    await refused(
      folder,
      1,
      ['predict', join(folder, 'bad run'), join(own, 'test/red/text.png'), '--skip-bad'],
      [/text\.png: none of the 1 pictures can be read/],
    );
    await rm(join(own, 'test'), { recursive: true });
    await mkdir(join(own, 'test/red'), { recursive: true });
    await writeFile(join(own, 'test/red/text.png'), 'only words');
    await refused(folder, 1, trained('no', ...base, '--skip-bad'), [/none of the 1 pictures of test can be read/]);
  });
});
