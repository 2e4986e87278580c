/** Groups of test rows in feature files. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { encodeNpy } from '../formats/npy.js';
import { writeSafetensors } from '../formats/safetensors-node.js';
import { ScionError } from '../util/errors.js';
import { float32, int64, tensor } from '../util/tensor.js';
import type { Tensor } from '../util/tensor.js';
import { readFeatureFile, writeFeatureFile } from './feature-file.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-groups-'));
});
afterAll(() => rm(folder, { recursive: true }));

const held = float32([3, 2], [1, 2, 3, 4, 5, 6]);
const of = tensor('int32', [3], Int32Array.of(1, -1, 0));

async function file(change: Record<string, Tensor>, groupNames?: string): Promise<string> {
  const path = join(folder, 'a.safetensors');
  await writeSafetensors(path, { 'test.features': held, 'test.labels': int64([3], [0, 1, 0]), ...change },
    { class_names: '["x","y"]', logit_scale: '10', ...(groupNames === undefined ? {} : { group_names: groupNames }) });
  return path;
}

test('are written and read back, and are of the test rows alone', async () => {
  const read = await readFeatureFile(await file({ 'test.groups': of }, '["seen","unseen"]'));
  expect(read.test!.groups).toEqual({ names: ['seen', 'unseen'], of: Int32Array.of(1, -1, 0) });
  expect(read.notes).toEqual([]);
  const again = join(folder, 'again.safetensors');
  await writeFeatureFile(again, read);
  expect((await readFeatureFile(again)).test).toEqual(read.test);
  expect((await readFeatureFile(await file({}))).test).not.toHaveProperty('groups');
});

test('stand in a .json file beside .npy files too', async () => {
  await writeFile(join(folder, 'test.npy'), encodeNpy(held));
  const path = join(folder, 'b.json');
  await writeFile(path, JSON.stringify({
    test: { features: 'test.npy', labels: [0, 1, 0], groups: [0, 0, 1] }, class_names: ['x', 'y'], group_names: ['s', 'u'],
    logit_scale: 10,
  }));
  expect((await readFeatureFile(path)).test!.groups).toEqual({ names: ['s', 'u'], of: Int32Array.of(0, 0, 1) });
});

describe('what is wrong is named', () => {
  test.each<[string, Record<string, Tensor>, string | undefined, string]>([
    ['no names', { 'test.groups': of }, undefined, 'group_names: is nothing, expected a JSON list of names such as ["seen", "unseen"]'],
    ['no numbers', {}, '["s"]', 'test.groups: missing, but group_names names groups; add the tensor [N]'],
    ['a number without a name', { 'test.groups': of }, '["s"]', 'test.groups: row 0 is 1, expected -1 to 0 for 1 group_names'],
    ['below -1', { 'test.groups': tensor('int32', [3], Int32Array.of(0, 0, -2)) }, '["s"]', 'test.groups: row 2 is -2'],
    ['too few', { 'test.groups': tensor('int32', [2], Int32Array.of(0, 0)) }, '["s"]', 'has 2 numbers for 3 test rows'],
    ['no integers', { 'test.groups': float32([3], [0, 0, 0]) }, '["s"]', 'test.groups: is float32, expected integers'],
    ['of two dimensions', { 'test.groups': int64([3, 1], [0, 0, 0]) }, '["s"]', 'has shape [3, 1], expected [N]'],
    ['a name twice', { 'test.groups': of }, '["s","s"]', 'group_names: "s" names both group 0 and group 1'],
  ])('%s', async (_, change, names, message) => {
    const error: unknown = await readFeatureFile(await file(change, names)).then(() => 'accepted', (e: unknown) => e);
    expect(error).toBeInstanceOf(ScionError);
    expect((error as ScionError).message).toContain(message);
  });
});
