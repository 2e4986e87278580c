/** A disk that refuses, folders that are taken, and runs that are not as they should be. */
import { execFileSync } from 'node:child_process';
import { chmod, cp, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { expectRefusal, listing, pictograms, readRun, refused, scion, scratch, start,
  succeed } from '../support/cli.js';
import { tinyFile } from '../support/features.js';

const root = process.getuid?.() === 0;
const folder = await scratch();
let features: string;
let finished: string;
beforeAll(async () => {
  features = await tinyFile(folder);
  finished = join(folder, 'finished');
  await succeed(train(finished));
});
const train = (out: string, ...more: string[]): string[] =>
  ['train', '--features', features, '--method', 'taskres', '--shots', '4', '--epochs', '3', '--threads', '1', '--out',
    out, ...more];

/** A small file system of its own; false where this process may not mount one. */
function mount(at: string, size: string): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', at], { stdio: 'ignore' });
    onTestFinished(() => { execFileSync('umount', [at]); });
    return true;
  } catch {
    return false;
  }
}

describe('a folder that cannot be written', () => {
  let locked: string;
  beforeAll(async () => {
    locked = join(folder, 'locked');
    await mkdir(locked, { mode: 0o555 });
  });
  // the superuser may write anywhere, so another user takes the command over
  const other = root ? { uid: 65534 } : {};

  test('a new run in it', async () => {
    await refused(folder, 1, train(join(locked, 'deep', 'run')),
      [join(locked, 'deep', 'run'), 'cannot make the run folder',
        'permission denied; change the permissions or choose another path'], other);
  });

  test('going on with a run in it', async () => {
    const run = await unfinished('unwritable');
    await chmod(run, 0o555);
    await refused(folder, 1, ['resume', run], [run, 'cannot write to the run folder', 'permission denied'], other);
  });

  test('a finished run in it still predicts', async () => {
    const run = join(folder, 'read-only');
    await cp(finished, run, { recursive: true });
    await chmod(run, 0o555);
    const { code, stderr } = await scion(['eval', run], other);
    expect(code, stderr).toBe(0);
    await chmod(run, 0o755);
  });

  test('a place where nobody can make a folder', async () => {
    await refused(folder, 1, train('/proc/scion-run'), ['/proc/scion-run', 'cannot make the run folder']);
  });

  test('a read-only file system', async ({ skip }) => {
    const at = join(folder, 'mounted');
    await mkdir(at);
    if (!mount(at, '1m')) skip('may not mount; the tests above hold without');
    execFileSync('mount', ['-o', 'remount,ro', at]);
    await refused(folder, 1, train(join(at, 'run')), [join(at, 'run'),
      'the file system is read-only; choose another path']);
  });

  test('the name of a file', async () => {
    await refused(folder, 2, train(features), ['--out', 'exists already; choose another folder']);
    await refused(folder, 2, train(join(features, 'run')), ['exists already']);
  });
});

describe('a full disk', () => {
  test('at the first files: nothing is left', async () => {
    // no file may grow beyond 8 KiB, which stands for a full disk without any rights
    const stderr = await refused(folder, 1, ['train', '--features', pictograms, '--method', 'taskres', '--out',
      join(folder, 'a', 'full')],
      [join(folder, 'a', 'full'), 'cannot make the run folder', 'larger than the system allows'],
      { shell: 'ulimit -f 16; exec "$@"' });
    expect(stderr).not.toContain('.tmp');
  });

  test('at the first files of a file system of its own', async ({ skip }) => {
    const at = join(folder, 'small');
    await mkdir(at);
    if (!mount(at, '64k')) skip('may not mount; the tests with a limited file size hold without');
    await refused(folder, 1, ['train', '--features', pictograms, '--method', 'taskres', '--out', join(at, 'run')],
      [join(at, 'run'), 'cannot make the run folder', 'the disk is full; free some space']);
  });

  test('in the middle: the run goes on once there is room, as if nothing had been', async () => {
    const many = ['--epochs', '400'];
    const [whole, full] = [join(folder, 'whole'), join(folder, 'middle')];
    await succeed(train(whole, ...many));
    const result = await scion(train(full, ...many), { shell: 'ulimit -f 32; exec "$@"' });
    expectRefusal(result, 1, [join(full, 'metrics.jsonl'), 'cannot write it', 'larger than the system allows']);
    expect((await readdir(full)).filter((name) => /tmp|lock/.test(name))).toEqual([]);
    expectRefusal(await scion(['eval', full]), 1, ['not finished', `\`scion resume ${full}\``]);
    await succeed(['resume', full]);
    const [a, b] = [await readRun(whole), await readRun(full)];
    expect(b.metrics).toBe(a.metrics);
    expect(b.adapter.equals(a.adapter)).toBe(true);
  });
});

describe('two runs into one folder', () => {
  test('one after the other: the second is refused and the first stays as it was', async () => {
    await refused(folder, 2, train(finished), ['--out', `${finished} exists already`, `\`scion resume ${finished}\``]);
  });

  test('an empty folder may be in the way', async () => {
    const empty = join(folder, 'empty');
    await mkdir(empty);
    await succeed(train(empty));
    expect(await readdir(empty)).toContain('adapter.safetensors');
  });

  test('at once: exactly one wins and is whole', async () => {
    const out = join(folder, 'race');
    const results = await Promise.all([1, 2, 3].map((seed) => scion(train(out, '--seed', String(seed)))));
    expect(results.map((r) => r.code).sort()).toEqual([0, 2, 2]);
    for (const r of results.filter((x) => x.code === 2)) expectRefusal(r, 2, ['--out', 'exists already']);
    const winner = results.findIndex((r) => r.code === 0) + 1;
    expect((await readRun(out)).info).toMatchObject({ state: 'finished', recipe: { seed: winner } });
    await succeed(['eval', out]);
    expect((await readdir(folder)).filter((name) => name.includes('.tmp'))).toEqual([]);
  });

  test('going on with one run twice at once: one does it, or both in turn', async () => {
    const run = join(folder, 'resumed-twice');
    await succeed(train(run, '--epochs', '200'));
    const { adapter } = await readRun(run);
    await change(run, { state: 'running' });
    await writeFile(join(run, 'lock'), String(await deadProcess()));
    const results = await Promise.all([1, 2, 3].map(() => scion(['resume', run])));
    const won = results.filter((r) => r.code === 0);
    expect(won.length).toBeGreaterThan(0);
    for (const r of results.filter((x) => x.code !== 0)) expectRefusal(r, 2, [run, 'wait for it or stop it']);
    expect((await readRun(run)).adapter.equals(adapter)).toBe(true);
    expect((await readdir(run)).filter((name) => /tmp|lock/.test(name))).toEqual([]);
  });
});

describe('run folders', () => {
  test('a lock of a living process is respected, nothing is touched', async () => {
    const run = await unfinished('living');
    await writeFile(join(run, 'lock'), String(process.pid));
    await refused(folder, 2, ['resume', run],
      [`process ${process.pid} is writing to this run; wait for it or stop it`]);
  });

  test.each(['', 'x', '-1'])('a lock with %j in it is void', async (content) => {
    const run = await unfinished(`void ${content}`);
    await writeFile(join(run, 'lock'), content);
    await succeed(['resume', run]);
    expect(await readdir(run)).not.toContain('lock');
  });

  test('a finished run just reports', async () => {
    const before = (await listing(finished)).filter((line) => !line.startsWith('lock'));
    const stdout = await succeed(['resume', finished]);
    expect(stdout).toContain(`run folder: ${finished}`);
    expect(await listing(finished)).toEqual(before);
  });

  test.each([
    { name: 'newer', changes: { format: 2 }, says: ['run.json',
      'has format 2, this Scion reads up to 1; update scion-peft'] },
    { name: 'damaged', changes: { class_names: 'cat' }, says: ['run.json', 'class_names', 'damaged, train again'] },
    { name: 'of an unknown method', changes: { method: 'graf-adapter' },
      says: ['unknown method "graf-adapter"', 'graph-adapter'], code: 2 },
  ])('a run of a $name', async ({ name, changes, says, code = 1 }) => {
    const run = await unfinished(name, changes);
    await refused(folder, code as 1 | 2, ['eval', run], says);
    if (name === 'newer') await refused(folder, 1, ['resume', run], says);
  });

  test('the feature file has changed or gone since', async () => {
    const own = await tinyFile(folder, 'own');
    const run = join(folder, 'changed');
    await succeed(train(run, '--features', own));
    await change(run, { state: 'running' });
    await tinyFile(folder, 'own', { seed: 2 });
    await refused(folder, 1, ['resume', run],
      [own, 'has changed since the run began; put the old file back or train again']);
  });

});

/** As a run looks that was killed before its first checkpoint. */
async function unfinished(name: string, changes: object = { state: 'running' }): Promise<string> {
  const run = join(folder, name);
  await cp(finished, run, { recursive: true });
  await change(run, changes);
  return run;
}

async function change(run: string, changes: object): Promise<void> {
  const path = join(run, 'run.json');
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, 'utf8')) as object, ...changes }));
}

async function deadProcess(): Promise<number> {
  const { child, done } = start(['--version']);
  await done;
  return child.pid!;
}
