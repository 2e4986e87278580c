/** Wrong feature files and wrong words: a clear error, the right exit code, and nothing written. */
import { existsSync } from 'node:fs';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { writeSafetensors } from '../../src/formats/safetensors-node.js';
import { type Tensor, float32, int64 } from '../../src/util/tensor.js';
import { expectRefusal, refused, scion, scratch } from '../support/cli.js';
import { tinyContent, tinyFile } from '../support/features.js';

const folder = await scratch();
let sound: string;
beforeAll(async () => {
  sound = await tinyFile(folder, 'sound');
});

const { train, test: held, text } = tinyContent();
const tensors: Record<string, Tensor> = {
  'train.features': train!.features, 'train.labels': int64([24], train!.labels),
  'test.features': held!.features, 'test.labels': int64([18], held!.labels),
  'text.features': text!,
};
const changed = (t: Tensor<'float32'>, at: number, value: number): Tensor => float32(t.shape, t.data.with(at, value));

async function file(name: string, changes: Record<string, Tensor | undefined>): Promise<string> {
  const path = join(folder, `${name}.safetensors`);
  const all = Object.entries({ ...tensors, ...changes }).filter((e): e is [string, Tensor] => e[1] !== undefined);
  await writeSafetensors(path, Object.fromEntries(all), { class_names: '["a","b","c"]', logit_scale: '10' });
  return path;
}

const train1 = (path: string, ...more: string[]): string[] =>
  ['train', '--features', path, '--method', 'taskres', '--threads', '1', '--out', join(folder, 'new', 'run'), ...more];

describe('feature files', () => {
  test.each([
    { name: 'one class', changes: { 'train.labels': int64([24], new Array<number>(24).fill(1)) },
      says: ['train.labels', 'all 24 images are of class 1, expected at least 2 classes', 'add images of others'] },
    { name: 'label too large', changes: { 'train.labels': int64([24], train!.labels.with(5, 7)) },
      says: ['train.labels', 'row 5 is 7, expected 0 to 2', 'mend the label'] },
    { name: 'label negative', changes: { 'train.labels': int64([24], train!.labels.with(0, -1)) },
      says: ['train.labels', 'row 0 is -1, expected 0 to 2'] },
    { name: 'NaN', changes: { 'train.features': changed(train!.features, 9, NaN) },
      says: ['train.features', 'row 1, column 1 is NaN, expected finite numbers', 'compute these features again'] },
    { name: 'infinite text', changes: { 'text.features': changed(text!, 3, -Infinity) },
      says: ['text.features', 'class 0, template 0, column 3 is -Infinity, expected finite numbers'] },
    { name: 'text of another width', changes: { 'text.features': float32([3, 4], new Array<number>(12).fill(1)) },
      says: ['train.features', 'has 8 columns, expected 4 as text.features has', 'compute both with the same model'] },
    { name: 'no text', changes: { 'text.features': undefined },
      says: ['text.features', 'missing but needed by ', 'it has: '] },
    { name: 'no labels', changes: { 'train.labels': undefined }, says: ['train.labels', 'missing but needed here'] },
    { name: 'labels short', changes: { 'train.labels': int64([23], train!.labels.slice(1)) },
      says: ['train.labels', 'has 23 labels for 24 rows'] },
    { name: 'a class without rows', changes: { 'train.labels': int64([24], train!.labels.map((k) => Math.min(k, 1))) },
      says: ['train.labels', 'class "c" has no training row, expected at least 1; add some or remove the class'] },
  ])('$name', async ({ name, changes, says }) => {
    const path = await file(name, changes);
    await refused(folder, 1, train1(path), [path, ...says]);
  });

  test('everything that is wrong is told at once', async () => {
    const path = await file('all wrong', {
      'train.features': changed(train!.features, 9, NaN), 'test.labels': int64([18], held!.labels.with(2, 3)),
      'text.features': undefined,
    });
    const stderr = await refused(folder, 1, train1(path), ['train.features', 'test.labels', 'text.features']);
    expect(stderr.match(/^error: /gm)).toHaveLength(3);
  });

  const header = (text: string, length = BigInt(text.length), data = 16): Buffer => {
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(length);
    return Buffer.concat([size, Buffer.from(text), Buffer.alloc(data)]);
  };
  const entry = (begin: number, end: number): string =>
    `{"dtype":"F32","shape":[2,2],"data_offsets":[${begin},${end}]}`;
  test.each([
    { name: 'lying offsets', bytes: header(`{"train.features":${entry(0, 2 ** 40)}}`),
      says: ['tensor "train.features"', '1099511627776'] },
    { name: 'overlap', bytes: header(`{"a":${entry(0, 16)},"b":${entry(0, 16)}}`),
      says: ['overlaps the tensor before it'] },
    { name: 'size of 2^60', bytes: header('{}', 2n ** 60n), says: ['1152921504606846976'] },
    { name: 'shape of 2^60',
      bytes: header(`{"a":{"dtype":"F32","shape":[${2 ** 30},${2 ** 30}],"data_offsets":[0,16]}}`),
      says: ['tensor "a"', 'overflows 2^53 bytes'] },
    { name: 'duplicate names', bytes: header(`{"a":${entry(0, 16)},"a":${entry(0, 16)}}`),
      says: ['"a"', /twice|duplicate/] },
    { name: 'empty', bytes: Buffer.alloc(0), says: ['the file is empty'] },
    { name: 'a page of text', bytes: Buffer.from('<html>no such file</html>'), says: ['get it or write it again'] },
  ])('a damaged file: $name', async ({ name, bytes, says }) => {
    const path = join(folder, `${name}.safetensors`);
    await writeFile(path, bytes);
    await refused(folder, 1, train1(path), [path, ...says]);
  });

  test.each(['predict', 'eval'])('%s refuses what is not there', async (verb) => {
    await refused(folder, 1, [verb, join(folder, 'nowhere'), '--features', sound],
      ['nowhere', 'is no run folder', '`scion train --out` made']);
  });

  test('no such file', async () => {
    await refused(folder, 1, train1(join(folder, 'absent.safetensors')),
      ['absent.safetensors', 'there is no such file']);
  });
});

describe('words of the command line', () => {
  test('an unknown method lists the nearest and all', async () => {
    await refused(folder, 2, ['train', '--features', sound, '--method', 'grap-adaptor', '--out', join(folder, 'r')],
      ['--method', 'unknown method "grap-adaptor"', 'did you mean graph-adapter?', 'known: zero-shot, linear-probe']);
  });

  test('several wrong values are several lines, with the names of their flags', async () => {
    const stderr = await refused(folder, 2, train1(sound, '--epochs', '0', '--lr', 'fast', '--shots', 'many', '--seed',
      '-1',
      '--schedule', 'cosin', '--validation', 'maybe', '--set', 'alpa=1', '--batch-size', '1.5', '--checkpoint',
        'worst'), [
      /^error: --epochs: 0: expected .*>=1$/m, /^error: --lr: "fast": expected number$/m,
      /^error: --shots: "many": expected a whole number from 1 on, or all$/m, /^error: --seed: -1: /m,
      /^error: --schedule: "cosin": expected one of "constant"\|"linear"\|"cosine"$/m,
        /^error: --validation: "maybe": expected one of/m,
      /^error: config\.alpa: unknown key "alpa"; did you mean alpha\? known: alpha$/m, /^error: --batch-size: 1.5: /m,
      /^error: --checkpoint: "worst": /m,
    ]);
    expect(stderr.match(/^error: /gm)).toHaveLength(9);
  });

  test('what is missing', async () => {
    await refused(folder, 2, ['train'], [/^error: --out: missing/m, /^error: --features: missing/m]);
    await refused(folder, 2, ['predict', folder], [/^error: --features: missing/m]);
  });

  test.each([['--nonsense'], ['trian'], ['train', '--nonsense', '1'], ['eval']])('%s %s: usage', async (...args) => {
    const { code, stdout, stderr } = await scion(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^error: /);
  });

  test('training values for a method that trains nothing', async () => {
    await refused(folder, 2, ['train', '--features', sound, '--method', 'zero-shot', '--lr', '0.1', '--out',
      join(folder, 'r')],
      ['--lr', 'zero-shot trains nothing; leave it out']);
  });

  test('lbfgs for a problem that is not convex', async () => {
    await refused(folder, 2, train1(sound, '--optimizer', 'lbfgs'),
      ['--optimizer', 'taskres takes adam, adamw or sgd']);
  });

  test('more shots than there are, under --strict-shots', async () => {
    await refused(folder, 2, train1(sound, '--shots', '32', '--strict-shots'),
      ['error: --shots 32: class "kind 0" has 8 rows; use --shots 8 or fewer']);
  });

  test('validation that the rows do not allow', async () => {
    await refused(folder, 2, train1(sound, '--shots', '8', '--validation', 'holdout'),
      ['--validation', 'use fewer --shots, or kfold']);
    await refused(folder, 2, train1(sound, '--shots', '1', '--validation', 'kfold'),
      ['--validation', 'use more --shots, or none']);
  });

  test('a loss that is no number: at which step, what to do, and no finished run', async () => {
    const out = join(folder, 'diverged');
    const result = await scion(['train', '--features', sound, '--method', 'clip-adapter', '--lr', '1e30', '--optimizer',
      'sgd',
      '--epochs', '50', '--shots', '2', '--out', out]);
    expectRefusal(result, 1,
      [/the validation loss is NaN after epoch 1 \(sgd, lr 1e\+30\); use a smaller lr or max_grad_norm/]);
    if (existsSync(out)) expectRefusal(await scion(['eval', out]), 1, ['not finished']);
    else expect(await readdir(folder)).not.toContain('diverged');
  });
});
