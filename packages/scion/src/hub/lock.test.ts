import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, test } from 'vitest';
import { withLock } from './lock.js';

const folder = await mkdtemp(join(tmpdir(), 'scion-lock-'));
afterAll(() => rm(folder, { recursive: true }));

test('one at a time, and nothing is left', async () => {
  const path = join(folder, 'made/one');
  let [inside, most] = [0, 0];
  const work = async (i: number): Promise<number> => {
    most = Math.max(most, ++inside);
    await sleep(5);
    inside--;
    return i;
  };
  expect(await Promise.all([0, 1, 2, 3].map((i) => withLock(path, () => work(i))))).toEqual([0, 1, 2, 3]);
  expect(most).toBe(1);
  await expect(withLock(path, () => Promise.reject(new Error('fails')))).rejects.toThrow('fails');
  expect(await readdir(join(folder, 'made'))).toEqual([]);
});

test('a lock that gives no sign of life is void, one that does is not', async () => {
  const path = join(folder, 'other-machine');
  await writeFile(path, '1 another-machine x');
  const start = performance.now();
  expect(await withLock(path, () => Promise.resolve('taken'), { patience: 300 })).toBe('taken');
  expect(performance.now() - start).toBeGreaterThan(290);
  // the holder works for far longer than the other's patience
  const order: string[] = [];
  const holder = withLock(path, async () => { await sleep(700); order.push('holder'); }, { beat: 50 });
  await sleep(50);
  let waits = 0;
  const waiter = withLock(path, () => { order.push('waiter'); return Promise.resolve(); },
    { patience: 300, onWait: () => { waits++; } });
  await Promise.all([holder, waiter]);
  expect(order).toEqual(['holder', 'waiter']);
  expect(waits).toBe(1);
});

test('that of a process that is gone is void at once', async () => {
  const path = join(folder, 'gone');
  await writeFile(path, `4194999 ${hostname()} x`); // above the largest number that Linux gives
  await withLock(path, async () => {
    expect(await readFile(path, 'utf8')).toContain(`${process.pid} `);
  }, { patience: 1e9 });
});

test('waiting can be stopped', async () => {
  const path = join(folder, 'stopped');
  await writeFile(path, '1 another-machine x');
  const signal = AbortSignal.timeout(150);
  await expect(withLock(path, () => Promise.resolve(), { signal })).rejects.toMatchObject({ name: 'TimeoutError' });
  expect(await readFile(path, 'utf8')).toBe('1 another-machine x');
});
