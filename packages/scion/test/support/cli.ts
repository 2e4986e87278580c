/** Runs the built command as its users do, in a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, mkdtemp, readFile, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, expect } from 'vitest';

const dist = (file: string): string => fileURLToPath(new URL(`../../dist/${file}`, import.meta.url));
export const command = dist('cli/main.js');
export const pictograms = fileURLToPath(new URL('../../../../fixtures/features/pictograms.safetensors',
  import.meta.url));

export interface Result {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface Running {
  child: ChildProcess;
  done: Promise<Result>;
  /** Everything on stdout so far. */
  stdout: () => string;
  stderr: () => string;
}

export interface StartOptions {
  cwd?: string;
  uid?: number;
  /** On top of the test's own environment. */
  env?: Record<string, string>;
  /** A shell line that ends in `exec "$@"`, to start the command under other conditions. */
  shell?: string;
}

function run(args: readonly string[], { cwd, uid, shell, env }: StartOptions): Running {
  const line = [process.execPath, ...args];
  const [file, ...rest] = shell === undefined ? line : ['sh', '-c', shell, 'sh', ...line];
  const child = spawn(file!, rest, {
    stdio: ['ignore', 'pipe', 'pipe'], cwd, env: { ...process.env, ...env }, timeout: 50_000, killSignal: 'SIGKILL',
      ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  const text = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (chunk: string) => { text[name] += chunk; });
  }
  const done = new Promise<Result>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, ...text }));
  });
  return { child, done, stdout: () => text.stdout, stderr: () => text.stderr };
}

export function start(args: readonly string[], options: StartOptions = {}): Running {
  return run([command, ...args], options);
}

export async function scion(args: readonly string[], options: StartOptions = {}): Promise<Result> {
  return start(args, options).done;
}

/** Runs it where it must succeed; gives stdout. */
export async function succeed(args: readonly string[], options: StartOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await scion(args, options);
  expect(code, stderr).toBe(0);
  return stdout;
}

export async function json<T>(args: readonly string[]): Promise<T> {
  return JSON.parse(await succeed([...args, '--json'])) as T;
}

/** The library in a process of its own; `body` has its exports in `scion` and `argument`, and may await. */
export function library(body: string, argument: unknown = null): Running {
  const index = JSON.stringify(new URL('../../dist/index.js', import.meta.url).href);
  return run(['-e', `(async () => {
    const scion = await import(${index}); const argument = ${JSON.stringify(argument)}; ${body} })()
    .catch((error) => { console.error(error); process.exitCode = 1; });`], {});
}

/** A folder for one test file, removed at its end; others may read it. */
export async function scratch(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'scion-test-'));
  await chmod(folder, 0o755);
  afterAll(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** All files and folders below, files with their sizes and times of change. */
export async function listing(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true });
  return (await Promise.all(names.map(async (name) => {
    const entry = await stat(join(folder, name));
    return entry.isDirectory() ? name : `${name} ${entry.size} ${entry.mtimeMs}`;
  }))).sort();
}

/** A failure as users should see it: reasons on stderr, nothing on stdout, no stack trace, nothing left in `folder`. */
export async function refused(
  folder: string, code: 1 | 2, args: readonly string[], mentions: readonly (string | RegExp)[],
    options: StartOptions = {},
): Promise<string> {
  const before = await listing(folder);
  const result = await scion(args, options);
  expectRefusal(result, code, mentions);
  expect(await listing(folder)).toEqual(before);
  return result.stderr;
}

export function expectRefusal({ code, stdout, stderr }: Result, expected: 1 | 2,
  mentions: readonly (string | RegExp)[]): void {
  expect(code, stderr).toBe(expected);
  expect(stdout).toBe('');
  expect(stderr).not.toMatch(/^\s+at |defect|node:internal/m);
  for (const part of mentions) expect(stderr).toMatch(typeof part === 'string' ? new RegExp(escape(part)) : part);
}

const escape = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** Waits until `condition` gives something; the limit is far beyond what any of it takes. */
export async function until<T>(condition: () => T | undefined | false | Promise<T | undefined | false>): Promise<T> {
  for (const end = Date.now() + 30_000; Date.now() < end; await sleep(5)) {
    const found = await condition();
    if (found !== undefined && found !== false) return found;
  }
  throw new Error('waited 30 s in vain');
}

export const readRun = async (run: string): Promise<{ info: Record<string, unknown>; metrics: string;
  adapter: Buffer }> => ({
  info: JSON.parse(await readFile(join(run, 'run.json'), 'utf8')) as Record<string, unknown>,
  metrics: await readFile(join(run, 'metrics.jsonl'), 'utf8'),
  adapter: await readFile(join(run, 'adapter.safetensors')),
});
