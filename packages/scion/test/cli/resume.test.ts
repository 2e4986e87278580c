/** Runs that are stopped or killed, at many moments, and gone on with: as if they had never been interrupted. */
import { existsSync } from 'node:fs';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { Random } from '../../src/util/random.js';
import { expectRefusal, library, readRun, scion, scratch, start, succeed, until } from '../support/cli.js';
import { tinyFile } from '../support/features.js';

const folder = await scratch();
let features: string;
beforeAll(async () => {
  features = await tinyFile(folder, 'tiny', { train: [9, 9, 9], noise: 1.5 });
});

interface Case {
  name: string;
  recipe: Record<string, unknown>;
}
const cases: Case[] = [
  { name: 'adam, best of all epochs by a held-out set',
    recipe: { method: 'taskres', shots: 5, training: { epochs: 60, batch_size: 4, lr: 0.02 } } },
  { name: 'early stopping, momentum, and uneven batches',
    recipe: { method: 'graph-adapter', shots: 5, seed: 3, training: { optimizer: 'sgd', momentum: 0.9, lr: 0.05,
      epochs: 200, patience: 25, batch_size: 7 } } },
  { name: 'the last epoch, after cross-validation and with a search afterwards',
    recipe: { method: 'tip-adapter-f', shots: 9, training: { epochs: 60, batch_size: 8, checkpoint: 'last',
      schedule: 'linear', warmup_epochs: 2 } } },
];

/** Trains or goes on, with a checkpoint after every step; prints a line a step. */
const child = (recipe: unknown, run: string): ReturnType<typeof library> => library(`
  const options = { checkpointEvery: 0, onMetric: (m) => { if (m.type === 'step') console.log(m.step); } };
  const { recipe, run, fresh } = argument;
  const done = await (fresh ? scion.train({ ...recipe, out: run }, options) : scion.resume(run, options));
  await done.close();`, { recipe, run, fresh: !existsSync(run) });

const result = (info: Record<string, unknown>): unknown => ({ ...info.result as object, seconds: undefined });

/** Everything that a run leaves behind but its name, times and age. */
async function expectSame(run: string, whole: string): Promise<void> {
  const [a, b] = [await readRun(whole), await readRun(run)];
  expect(b.metrics.split('\n')).toEqual(a.metrics.split('\n'));
  expect(b.adapter.equals(a.adapter)).toBe(true);
  expect(result(b.info)).toEqual(result(a.info));
  const names = await readdir(run);
  expect(names.filter((name) => /lock|tmp/.test(name))).toEqual([]);
}

describe.each(cases)('$name', ({ name, recipe }) => {
  test('killed again and again, at any moment', async () => {
    const random = Random.seeded(17).child(name);
    const whole = join(folder, `whole ${name}`);
    const run = join(folder, `killed ${name}`);
    const full = { ...recipe, features, threads: 1 };
    const { code, stderr } = await child(full, whole).done;
    expect(code, stderr).toBe(0);
    for (let kills = 0; kills < 4; kills++) {
      const { child: process, done, stdout } = child(full, run);
      const steps = kills === 0 ? 1 : 1 + random.integer(25);
      await until(() => process.exitCode !== null || stdout().split('\n').length > steps);
      await sleep(random.uniform(0, 8));
      process.kill('SIGKILL');
      const { signal, stderr: why } = await done;
      expect(signal, why).toBe('SIGKILL');
    }
    await writeFile(join(run, '.scion-0123.tmp'), 'half a checkpoint');
    await writeFile(join(run, 'metrics.jsonl'), `${await readFile(join(run, 'metrics.jsonl'), 'utf8')}{"type":"st`);
    await succeed(['resume', run]);
    await expectSame(run, whole);
  });
});

describe('Ctrl-C', () => {
  const train = (out: string, ...more: string[]): string[] =>
    ['train', '--features', features, '--method', 'taskres', '--shots', '5',
    '--epochs', '600', '--batch-size', '4', '--threads', '1', '--out', out, ...more];

  test.each(['SIGINT', 'SIGTERM'] as const)('%s: stops after the step, says how to go on, and going on gives the same',
    async (signal) => {
    const [whole, run] = [join(folder, 'whole'), join(folder, signal)];
    if (!existsSync(whole)) await succeed(train(whole));
    const { child: process, done } = start(train(run));
    await until(async () => process.exitCode !== null || existsSync(join(run, 'metrics.jsonl'))
      && (await readFile(join(run, 'metrics.jsonl'))).length > 2000);
    process.kill(signal);
    expectRefusal(await done, 1, [`${signal}: stopping after this step`,
      `stopped; go on with \`scion resume ${run}\``]);
    expect(await readdir(run)).not.toContain('lock');
    expect(await readdir(run)).toContain('checkpoint.safetensors');
    const lines = (await readFile(join(run, 'metrics.jsonl'), 'utf8')).split('\n').length;
    await succeed(['resume', run]);
    await expectSame(run, whole);
    expect((await readFile(join(run, 'metrics.jsonl'), 'utf8')).split('\n').length).toBeGreaterThan(lines);
  });

  test('killed while a checkpoint is being saved: the one before stays whole', async () => {
    const run = join(folder, 'mid-checkpoint');
    const recipe = { features, method: 'taskres', shots: 5, threads: 1, training: { epochs: 40, batch_size: 4 } };
    let caught = 0;
    for (let i = 0; i < 6 && caught < 2; i++) {
      const { child: process, done } = child(recipe, run);
      const half = await until(async () => process.exitCode !== null ? 'ended'
        : existsSync(run) && (await readdir(run)).some((n) => n.endsWith('.tmp')) && 'half');
      process.kill('SIGKILL');
      await done;
      if (half === 'ended') break;
      caught += Number((await readdir(run)).some((n) => n.endsWith('.tmp')));
    }
    expect(caught).toBeGreaterThan(0);
    const whole = join(folder, 'mid-checkpoint whole');
    await child(recipe, whole).done;
    await succeed(['resume', run]);
    await expectSame(run, whole);
  });
});

describe('the same seed', () => {
  const train = (out: string, seed: number): string[] => ['train', '--features', features, '--method', 'graph-adapter',
    '--shots', '4',
    '--epochs', '5', '--threads', '1', '--seed', String(seed), '--out', join(folder, out)];

  test('gives the same bytes, another seed does not', async () => {
    await Promise.all([succeed(train('one', 1)), succeed(train('again', 1)), succeed(train('two', 2))]);
    const [one, again, two] = [await readRun(join(folder, 'one')), await readRun(join(folder, 'again')),
      await readRun(join(folder, 'two'))];
    expect(again.metrics).toBe(one.metrics);
    expect(again.adapter.equals(one.adapter)).toBe(true);
    expect(two.metrics).not.toBe(one.metrics);
    expect(two.adapter.equals(one.adapter)).toBe(false);
    const { code } = await scion(['eval', join(folder, 'one')]);
    expect(code).toBe(0);
  });
});
