/** One process at a time, by a file that is there while somebody works; between machines that share a disk as well. */
import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemError } from '../formats/files.js';

export interface LockOptions {
  signal?: AbortSignal | undefined;
  /** Told once where another process has to be waited for. */
  onWait?: (() => void) | undefined;
  /** Milliseconds between signs of life. */
  beat?: number;
  /** A lock that gives no sign for this many milliseconds is void. */
  patience?: number;
}

/**
 * Runs `work` while this process alone holds the lock at `path`; the folders above are made.
 * @throws whatever `work` throws, the signal's reason, ScionError of kind `io`
 */
export async function withLock<T>(path: string, work: () => Promise<T>, options: LockOptions = {}): Promise<T> {
  const { beat = 2000 } = options;
  const own = `${process.pid} ${hostname()} ${randomUUID()}`;
  await mkdir(dirname(path), { recursive: true }).catch((cause: unknown) => {
    throw systemError(dirname(path), 'make the folder', cause);
  });
  await take(path, own, options);
  const alive = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => undefined);
  }, beat);
  alive.unref();
  try {
    return await work();
  } finally {
    clearInterval(alive);
    if ((await readFile(path, 'utf8').catch(() => '')) === own) await rm(path, { force: true });
  }
}

async function take(path: string, own: string, { signal, onWait, patience = 10_000 }: LockOptions): Promise<void> {
  let seen: { sign: string; since: number } | undefined;
  for (;;) {
    signal?.throwIfAborted();
    try {
      await writeFile(path, own, { flag: 'wx' });
      return;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw systemError(path, 'write it', cause);
    }
    const [owner, mtime] = await Promise.all([
      readFile(path, 'utf8').catch(() => ''), stat(path).then((s) => s.mtimeMs, () => undefined)]);
    if (mtime === undefined) continue; // given back meanwhile
    // signs of life are compared with each other, not with the clock, which another machine may have set otherwise
    const sign = `${owner} ${mtime}`;
    if (seen?.sign !== sign) seen = { sign, since: performance.now() };
    if (isGone(owner) || performance.now() - seen.since > patience) await discard(path, sign);
    else {
      onWait?.();
      onWait = undefined;
      await sleep(100);
    }
  }
}

/** Moves a void lock away and looks at it: a process that found the same void lock may have put its own there. */
async function discard(path: string, sign: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  const moved = await rename(path, aside).then(() => true, () => false);
  if (!moved) return;
  const now = `${await readFile(aside, 'utf8')} ${(await stat(aside)).mtimeMs}`;
  if (now === sign) await rm(aside, { force: true });
  else await rename(aside, path);
}

/** Whether the process that a lock names was one of this machine and is no more. */
function isGone(owner: string): boolean {
  const [pid, host] = owner.split(' ');
  if (host !== hostname() || Number(pid) === process.pid || !(Number(pid) > 0)) return false;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === 'ESRCH';
  }
}
