/** The temperature comes from rows that were not trained on, whatever kind of validation there is. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { tinyFile } from '../../test/support/features.js';
import { train } from './train.js';

const folder = await mkdtemp(join(tmpdir(), 'scion-held-out-'));
afterAll(() => rm(folder, { recursive: true, force: true }));
// nothing can be learned from this, only memorised: a temperature of the training rows would be below 1
const noise = await tinyFile(folder, 'noise', { train: [8, 8, 8], val: 4, noise: 50 });
const alone = await tinyFile(folder, 'alone', { train: [8, 8, 8], noise: 50 });
const clear = await tinyFile(folder, 'clear', { train: [8, 8, 8], noise: 0.3 });

let runs = 0;
async function calibration(
  features: string,
  method: string,
  more: object,
): Promise<{ temperature: number; rows: number } | undefined> {
  const run = await train({ features, method, shots: 8, threads: 1, out: join(folder, String(runs++)), ...more });
  await run.close();
  return run.info.result!.calibration;
}

describe.each(['tip-adapter-f', 'clip-adapter', 'linear-probe', 'tip-adapter'])('%s', (method) => {
  const training = method === 'tip-adapter' ? {} : { training: { epochs: 60 } };

  test.each([
    ['holdout', noise, 12],
    ['kfold', alone, 24],
    ['kfold', noise, 24],
  ] as const)('%s on noise: sure of nothing', async (validation, features, rows) => {
    const found = await calibration(features, method, { validation, ...training });
    expect(found).toMatchObject({ rows });
    expect(found!.temperature).toBeGreaterThan(1.5);
  });

  test('kfold on clear classes: sure', async () => {
    const [sure, unsure] = [
      await calibration(clear, method, { validation: 'kfold', ...training }),
      await calibration(alone, method, { validation: 'kfold', ...training }),
    ];
    expect(sure!.temperature).toBeLessThan(unsure!.temperature);
  });
});

test('the last epoch of every fold, where the last one is kept', async () => {
  const found = await calibration(alone, 'clip-adapter', {
    validation: 'kfold',
    training: { epochs: 60, checkpoint: 'last' },
  });
  expect(found!.rows).toBe(24);
  expect(found!.temperature).toBeGreaterThan(1.5);
});
