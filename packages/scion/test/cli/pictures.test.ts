/** From pictures to runs: train and compare with --data, views, and the same as a library. */
import { cp, copyFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Run, encodePictures, loadRun, resume, train, writeFeatureFile } from 'scion-peft';
import { beforeAll, describe, expect, test } from 'vitest';
import { readFeatureFile } from '../../src/data/feature-file.js';
import { expectRefusal, json, readRun, refused, scion, scratch, succeed } from '../support/cli.js';
import { makeData, model, picture } from '../support/pictures.js';

interface Info {
  recipe: Record<string, unknown>;
  warnings: string[];
  features: { path: string; digest: string };
  pictures?: {
    model: { name: string; digest: string };
    prompts: string[][];
    preprocessing: object;
    left_out: string[];
  };
  result: { test?: unknown; calibration?: { temperature: number; rows: number } };
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

describe('train', () => {
  test('gives what training on the feature file of the same pictures gives', async () => {
    const file = join(folder, 'features.safetensors');
    const words = ['--data', data, '--model', model, '--template', 'a {}, drawn', '--views', '2', '--no-flip'];
    await succeed(['features', ...words, '--out', file]);
    await succeed(trained('by file', '--features', file, '--shots', '4'));
    await succeed(trained('by data', ...words, '--shots', '4'));
    const [a, b] = [await readRun(join(folder, 'by file')), await readRun(join(folder, 'by data'))];
    expect(b.adapter.equals(a.adapter)).toBe(true);
    expect(b.info.result).toMatchObject({ test: (a.info.result as Info['result']).test as object });
  });

  test('the run says which model, words and preprocessing it stands on', async () => {
    const { pictures, recipe, features } = await infoOf('run');
    expect(recipe).toMatchObject({ data, model, templates: ['a {}, drawn'] });
    expect(recipe).not.toHaveProperty('features');
    expect(pictures).toMatchObject({
      model: { name: model, digest: expect.stringMatching(/^[0-9a-f]{64}$/) as string },
      prompts: [['a blue, drawn'], ['a green, drawn'], ['a red, drawn']],
      preprocessing: { resize: { shortestEdge: 16 }, resample: 'bicubic' },
      left_out: [],
    });
    expect(features).toMatchObject({ path: data, digest: expect.stringMatching(/^[0-9a-f]{64}$/) as string });
  });

  test('data without a test split: validation only, and eval says what is missing', async () => {
    const own = await makeData(join(folder, 'untested'), { '.': 6 });
    const result = await json<{ test?: object; validation: { accuracy: number } }>(
      trained('untested run', '--data', own, '--model', model, '--shots', '3'),
    );
    expect(result.test).toBeUndefined();
    expect(result.validation.accuracy).toBeGreaterThanOrEqual(0);
    await refused(
      folder,
      1,
      ['eval', join(folder, 'untested run')],
      [/untested: has no test pictures; put them below test\//],
    );
    await refused(
      folder,
      1,
      ['compare', '--data', own, '--model', model, '--methods', 'zero-shot'],
      [/untested: has no test pictures, which are needed here/],
    );
  });

  test('the same picture in train and test is warned of, with the names', async () => {
    const own = await makeData(join(folder, 'twice'), { train: 3, test: 2 });
    await copyFile(join(own, 'train/red/1.png'), join(own, 'test/red/copy.png'));
    const { code, stderr } = await scion(trained('twice run', '--data', own, '--model', model, '--shots', '2'));
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(
      /warning: 1 picture is in both train and test.*train\/red\/1\.png" = .*test\/red\/copy\.png/,
    );
    expect((await infoOf('twice run')).warnings.join()).toMatch(/in both train and test/);
  });

  test('all that is wrong with the words is said at once, by flag', async () => {
    await refused(
      folder,
      2,
      [
        'train',
        '--data',
        data,
        '--features',
        'x.safetensors',
        '--views',
        '0',
        '--templates',
        'foto',
        '--method',
        'taskres',
        '--shots',
        'x',
      ],
      [
        /--out: missing/,
        /--data: is given beside features/,
        /--views: 0: expected/,
        /--templates: "foto": expected photo/,
        /--shots: "x"/,
      ],
    );
    await refused(
      folder,
      2,
      trained('no', '--features', 'x.safetensors', '--model', model, '--no-flip', '--skip-bad'),
      [
        /--model: is for pictures \(--data\), not for a feature file/,
        /--no-flip: is for pictures/,
        /--skip-bad: is for pictures/,
      ],
    );
    await refused(folder, 2, trained('no', '--data', data, '--model', model, '--template', 'no place'), [
      /no \{\} for the class/,
    ]);
    await refused(folder, 2, trained('no', '--data', data, '--template', 'a {}', '--templates', 'photo'), [
      /--templates: is given beside --template; choose one/,
    ]);
    await refused(folder, 2, trained('no', '--data', data, '--model', 'clip-vit-base-patch32'), [
      /--model: "clip-vit-base-patch32" is no folder or file here, no built-in model, and no name on the hub; built-in: picto/,
    ]);
  });

  test('a recipe file: paths start at its folder', async () => {
    await cp(model, join(folder, 'recipe/model'), { recursive: true });
    await writeFile(
      join(folder, 'recipe/words.json'),
      JSON.stringify({ red: 'red noise', green: ['leaves', 'grass'], blue: 'sea' }),
    );
    await writeFile(
      join(folder, 'recipe/recipe.yaml'),
      'data: ../data\nmodel: model\ntemplates: ["a {}"]\ndescriptions: words.json\nshots: 2\nviews: 2\nflip: false\n',
    );
    await succeed(trained('by recipe', '--recipe', join(folder, 'recipe/recipe.yaml')));
    const { pictures, recipe } = await infoOf('by recipe');
    expect(pictures!.prompts).toEqual([
      ['a blue', 'sea'],
      ['a green', 'leaves', 'grass'],
      ['a red', 'red noise'],
    ]);
    expect(recipe).toMatchObject({ data, model: join(folder, 'recipe/model'), views: 2, flip: false });
  });
});

describe('views', () => {
  test('are rows of train alone, tied to their picture; the plain ones come first and stay the same', async () => {
    const encode = async (more: object): ReturnType<typeof encodePictures> =>
      encodePictures({ data, model, cache: false, ...more });
    const [one, three] = [await encode({}), await encode({ views: 3 })];
    const { train: a, test: b } = one.content;
    const { train: c, test: d } = three.content;
    expect(a!.pictures).toBeUndefined();
    expect(c!.features.shape).toEqual([72, 12]);
    expect(Array.from(c!.pictures!.subarray(0, 24))).toEqual(Array.from({ length: 24 }, (_, i) => i));
    expect(Array.from(c!.pictures!.subarray(24, 28))).toEqual([0, 0, 1, 1]);
    expect(c!.features.data.slice(0, 24 * 12)).toEqual(a!.features.data);
    expect(d!.features.data).toEqual(b!.features.data);
    const rows = Array.from({ length: 72 }, (_, i) => c!.features.data.slice(12 * i, 12 * i + 12).join());
    expect(new Set(rows).size).toBe(72);
    // the same again, and others for another seed or without mirroring
    expect((await encode({ views: 3 })).content.train!.features.data).toEqual(c!.features.data);
    for (const more of [{ view_seed: 2 }, { flip: false }]) {
      const other = await encode({ views: 3, ...more });
      expect(other.content.train!.features.data).not.toEqual(c!.features.data);
      expect(other.content.train!.features.data.slice(0, 24 * 12)).toEqual(a!.features.data);
      expect(other.digest).not.toBe(three.digest);
    }
    const file = join(folder, 'views.safetensors');
    await writeFeatureFile(file, three.content);
    expect((await readFeatureFile(file)).train!.pictures).toEqual(c!.pictures);
  });

  test('compare trains on them', async () => {
    const result = await json<{ cells: { shots: number; trainableParameters: number }[] }>([
      'compare',
      '--data',
      data,
      '--model',
      model,
      '--methods',
      'tip-adapter-f',
      '--shots',
      '2',
      '--seeds',
      '1',
      '--views',
      '4',
      '--epochs',
      '2',
    ]);
    // keys of 3 classes, 2 pictures each, 4 views, 12 numbers
    expect(result.cells).toMatchObject([{ shots: 2, trainableParameters: 3 * 2 * 4 * 12 }]);
  });
});

describe('the library', () => {
  test('predicts pictures again and again with one model', async () => {
    const loaded: Run = await loadRun(run);
    try {
      const path = join(data, 'test/green/1.png');
      const [a, b] = await Promise.all([loaded.predictImages([path]), loaded.predictImages([path, path], { top: 1 })]);
      expect(a).toHaveLength(1);
      expect(b.map((p) => p.label)).toEqual([a[0]!.label, a[0]!.label]);
      expect(b[0]!.classes).toHaveLength(1);
      await expect(loaded.predictImages([join(data, 'none.png')])).rejects.toThrow(/no such file/);
      expect(await loaded.predictImages([path])).toEqual(a);
    } finally {
      await loaded.close();
    }
  });

  test('goes on with a stopped training, unless a picture has changed since', async () => {
    const own = await makeData(join(folder, 'going on'), { train: 6, test: 2 });
    const recipe = {
      data: own,
      model,
      method: 'taskres',
      shots: 4,
      threads: 1,
      training: { epochs: 40, batch_size: 4 },
    };
    const stopped = async (out: string, from = model): Promise<void> => {
      const stop = new AbortController();
      await expect(
        train(
          { ...recipe, model: from, out },
          {
            signal: stop.signal,
            onMetric: ({ step }) => {
              if (step === 20) stop.abort();
            },
          },
        ),
      ).rejects.toMatchObject({ kind: 'interrupted' });
    };
    const [whole, a, b] = ['whole', 'a', 'b'].map((name) => join(folder, name)) as [string, string, string];
    await (await train({ ...recipe, out: whole })).close();
    await stopped(a);
    await (await resume(a)).close();
    expect((await readRun(a)).adapter.equals((await readRun(whole)).adapter)).toBe(true);
    await stopped(b);
    await writeFile(join(own, 'train/red/0.png'), await picture(0, 1234));
    await expect(resume(b)).rejects.toThrow(/pictures, words or model have changed since the run began/);
    const [moving, c] = [join(folder, 'its model'), join(folder, 'c')];
    await cp(model, moving, { recursive: true });
    await stopped(c, moving);
    await rm(moving, { recursive: true });
    await expect(resume(c)).rejects.toThrow(/the model of its training is not at .*its model any more; put it back/);
  });
});

test('Ctrl-C while pictures are encoded leaves no run', async () => {
  const stop = new AbortController();
  const out = join(folder, 'never');
  await expect(
    train({ data, model, cache: false, out }, { signal: stop.signal, onEncode: () => stop.abort() }),
  ).rejects.toMatchObject({ kind: 'interrupted' });
  expect(await readdir(folder)).not.toContain('never');
  expectRefusal(await scion(['eval', out]), 1, [/is no run folder/]);
});
