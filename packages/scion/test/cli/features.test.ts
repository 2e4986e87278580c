/** `scion features` on a tiny checkpoint: the same features as Python's transformers, and a run on top of them. */
import { cp, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readFeatureFile } from '../../src/data/feature-file.js';
import { readTokenizer } from '../../src/data/tokenizer.js';
import { readSafetensors } from '../../src/formats/safetensors-node.js';
import { toFloat64 } from '../../src/util/tensor.js';
import { repository } from '../command.js';
import { expectRefusal, json, listing, scion, scratch } from '../support/cli.js';

const fixture = join(repository, 'fixtures/clip/pictures');
const model = join(fixture, 'model');
const data = join(fixture, 'data');
const templates = ['a photo of a {}.', 'art of the {}, 2 of them!'];
const flags = templates.flatMap((t) => ['--template', t]);

async function expected() {
  const { tensors, metadata } = await readSafetensors(join(fixture, 'expected.safetensors'));
  return {
    numbers: (name: string) => toFloat64(tensors.get(name)!),
    classNames: JSON.parse(metadata.class_names!) as string[],
    logitScale: Number(metadata.logit_scale),
  };
}

/** Largest difference between two rows of numbers. */
const apart = (a: Float32Array, b: Float64Array): number =>
  a.length === b.length ? Math.max(...Array.from(a, (v, i) => Math.abs(v - b[i]!))) : Infinity;

test('token ids are those of the Python tokenizer', async () => {
  const { numbers, classNames } = await expected();
  const tokenizer = await readTokenizer(model);
  for (const name of classNames) {
    templates.forEach((template, t) => {
      const ids = Array.from(numbers(`ids.${name}.${t}`));
      const text = template.replace('{}', name.replaceAll('_', ' '));
      const got = Array.from(tokenizer.encode([text], 24).data, Number);
      expect(got.slice(0, ids.length)).toEqual(ids);
      // padding repeats the end token
      expect(got.slice(ids.length).every((id) => id === ids.at(-1))).toBe(true);
      expect(Array.from(tokenizer.encode([text], 5).data, Number)).toEqual([...ids.slice(0, 4), ids.at(-1)]);
    });
  }
});

describe('the feature file', () => {
  test('holds the features that transformers computes, and trains', async () => {
    const folder = await scratch();
    const out = join(folder, 'pictures.safetensors');
    const result = await json([
      'features',
      '--data',
      data,
      '--model',
      model,
      '--out',
      out,
      ...flags,
      '--batch-size',
      '4',
    ]);
    expect(result).toMatchObject({ classes: 3, templates: 2, dim: 12, rows: { train: 6, test: 3 }, left_out: [] });
    const { numbers, classNames, logitScale } = await expected();
    const file = await readFeatureFile(out, { train: true, test: true, text: ['zero-shot'] });
    expect([...file.classNames].sort()).toEqual([...classNames].sort());
    expect(file.logitScale).toBeCloseTo(logitScale, 4);
    file.classNames.forEach((name, k) => {
      const at = classNames.indexOf(name);
      expect(
        apart(
          file.text!.data.subarray(k * 24, (k + 1) * 24),
          numbers('text.features').subarray(at * 24, (at + 1) * 24),
        ),
      ).toBeLessThan(1e-4);
      for (const [split, per] of [
        ['train', 2],
        ['test', 1],
      ] as const) {
        const rows = file[split]!.features.data.subarray(k * per * 12, (k + 1) * per * 12);
        expect(
          apart(rows, numbers(`${split}.features`).subarray(at * per * 12, (at + 1) * per * 12)),
          `${split} ${name}`,
        ).toBeLessThan(1e-4);
        expect(Array.from(file[split]!.labels).filter((label) => label === k)).toHaveLength(per);
      }
    });
    const run = await json<{ accuracy: number }>([
      'train',
      '--features',
      out,
      '--method',
      'taskres',
      '--shots',
      '2',
      '--epochs',
      '3',
      '--out',
      join(folder, 'run'),
    ]);
    expect(run.accuracy).toBeGreaterThanOrEqual(0);
  });

  test('a picture that cannot be read ends the work, or is left out and counted', async () => {
    const folder = await scratch();
    await cp(data, join(folder, 'data'), { recursive: true });
    await writeFile(join(folder, 'data/train/red_square/broken.png'), 'no picture');
    const args = ['features', '--data', join(folder, 'data'), '--model', model, '--out', join(folder, 'x.safetensors')];
    const before = await listing(folder);
    expectRefusal(await scion(args), 1, [/broken\.png/]);
    expect(await listing(folder)).toEqual(before);
    const result = await json([...args, '--skip-bad']);
    expect(result).toMatchObject({
      rows: { train: 6, test: 3 },
      left_out: [join(folder, 'data/train/red_square/broken.png')],
    });
  });

  test('what is missing or does not fit is named', async () => {
    const folder = await scratch();
    const broken = join(folder, 'model');
    await cp(model, broken, { recursive: true });
    const args = (m: string) => ['features', '--data', data, '--model', m, '--out', join(folder, 'x.safetensors')];
    await rm(join(broken, 'tokenizer.json'));
    expectRefusal(await scion(args(broken)), 1, [/tokenizer\.json: there is no such file/]);
    await rm(join(broken, 'model.safetensors'));
    expectRefusal(await scion(args(broken)), 1, [/model/]);
    await mkdir(join(folder, 'empty'));
    expectRefusal(
      await scion([
        'features',
        '--data',
        join(folder, 'empty'),
        '--model',
        model,
        '--out',
        join(folder, 'x.safetensors'),
      ]),
      1,
      [/empty/],
    );
    expectRefusal(await scion(['features', '--model', model, '--batch-size', '0', '--dtype', 'int8']), 2, [
      /--data: missing[^]*--out: missing[^]*--dtype: int8[^]*--batch-size: 0/,
    ]);
    expect((await readdir(folder)).sort()).toEqual(['empty', 'model']);
  });
});
