import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type DType, bytesOf, float32, fromFloat64 } from '../util/tensor.js';
import { readParameter } from './parameter-values.js';
import { Parameter, frozen, init, setting, trained } from './parameter.js';

const matrix = float32([2, 3], [1, 2, -3, 0.5, 5, 6]);
const columns = Float64Array.of(1, 0.5, 2, 5, -3, 6);

let folder: string;
beforeAll(async () => { folder = await mkdtemp(join(tmpdir(), 'scion-parameters-')); });
afterAll(() => rm(folder, { recursive: true }));

/** A parameter whose values lie behind three other bytes of a file. */
async function stored(dtype: DType, values: Float64Array, transposed: boolean): Promise<Parameter> {
  const bytes = bytesOf(fromFloat64(dtype, [values.length], values));
  const path = join(folder, `${dtype}-${transposed}`);
  await writeFile(path, Buffer.concat([Buffer.of(7, 7, 7), bytes]));
  return new Parameter([2, 3], {
    kind: 'external', dtype, transposed, data: { path, offset: 3, byteLength: bytes.length },
  });
}

test.each(['float32', 'float16', 'bfloat16'] as const)('a parameter in a file of %s, in rows and in columns', async (dtype) => {
  expect(await readParameter(await stored(dtype, Float64Array.from(matrix.data), false))).toEqual(matrix);
  expect(await readParameter(await stored(dtype, columns, true))).toEqual(matrix);
});

test('a parameter in memory, a setting, and an unfrozen one with the value that it had', async () => {
  expect(await readParameter(frozen(matrix))).toEqual(matrix);
  expect((await readParameter(setting(0.5))).data).toEqual(Float32Array.of(0.5));
  const unfrozen = await stored('float16', columns, true);
  unfrozen.unfreeze(await readParameter(unfrozen));
  expect(unfrozen.origin.kind).toBe('trained');
  expect(await readParameter(unfrozen)).toEqual(matrix);
});

test('a new parameter has no value to read, and a file that is cut short is told by name', async () => {
  await expect(readParameter(trained([2], init.zeros))).rejects.toThrow('defect in Scion');
  const short = await stored('float32', columns, false);
  const path = join(folder, 'float32-false');
  await truncate(path, 20);
  await expect(readParameter(short)).rejects.toThrow(`${path}: has 20 bytes, expected 27: cut short; get it again`);
});
