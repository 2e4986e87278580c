/**
 * The folder of a run: everything that is needed to resume, evaluate, export or copy it elsewhere.
 *
 * - `run.json`: format, state, resolved recipe, classes, environment, results
 * - `support.safetensors`: the frozen features that the method was built on
 * - `adapter.safetensors`: the trained values
 * - `metrics.jsonl`: one line a step and an epoch
 * - `checkpoint.safetensors`: state of the last checkpoint, optimizer included
 * - `lock`: there while a process writes
 *
 * Each file is written whole or not at all, and the folder appears with its first files in it.
 */
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import {
  access,
  constants,
  open,
  readFile,
  readdir,
  rename,
  rm,
  truncate,
  writeFile,
} from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemError, writeAtomically } from '../formats/files.js';
import { makeWholeFolder, removeEmpty } from '../formats/folder.js';
import { readSafetensors, writeSafetensors } from '../formats/safetensors-node.js';
import type { MethodInfo } from '../peft/index.js';
import type { Tensors } from '../runtime/session.js';
import { inputError, usageError } from '../util/errors.js';
import type { Checkpoint, Metric } from './descend.js';
import { type AnyRunInfo, type RunInfo, parseRunInfo, parseTask } from './run-info.js';

export const files = {
  info: 'run.json',
  support: 'support.safetensors',
  adapter: 'adapter.safetensors',
  metrics: 'metrics.jsonl',
  checkpoint: 'checkpoint.safetensors',
  lock: 'lock',
} as const;

/** The run folders that this process writes to. */
const held = new Set<string>();

/** A run folder that this process holds the lock of. */
export class RunFolder<I extends AnyRunInfo = RunInfo> {
  private metrics: FileHandle | undefined;
  private pending: Promise<unknown> = Promise.resolve();
  private closed = false;

  /** @param made the topmost folder that had to be made on the way to `path` */
  private constructor(
    readonly path: string,
    public info: I,
    private readonly made?: string,
  ) {
    held.add(resolve(path));
  }

  /**
   * Makes the folder with its first files, in one rename.
   * @throws ScionError where the folder exists with content, or cannot be written
   */
  static async create<I extends AnyRunInfo>(path: string, info: I, support: Tensors): Promise<RunFolder<I>> {
    const made = await makeRunFolder(path, info, support, async (draft) => {
      await writeFile(join(draft, files.lock), String(process.pid));
    });
    return new RunFolder(path, info, made);
  }

  /** Opens an unfinished run for going on with it; cleans up what a killed process left behind. */
  static async reopen<I extends AnyRunInfo>(path: string, read: (path: string) => Promise<I>): Promise<RunFolder<I>> {
    await read(path);
    await access(path, constants.W_OK).catch((cause: unknown) => {
      throw systemError(path, 'write to the run folder', cause);
    });
    await takeLock(path);
    for (const name of await readdir(path))
      if (/^\.scion-.*\.tmp$/.test(name)) await rm(join(path, name), { force: true });
    // read again: whoever held the lock may have finished the run meanwhile
    return new RunFolder(path, await read(path));
  }

  async writeInfo(changes: Partial<I>): Promise<void> {
    this.info = { ...this.info, ...changes };
    await writeAtomically(join(this.path, files.info), [new TextEncoder().encode(serialise(this.info))]);
  }

  /** Adds a line to the metrics; errors surface at the next `flush`. */
  log(metric: Metric): void {
    this.pending = this.pending.then(async () => {
      this.metrics ??= await open(join(this.path, files.metrics), 'a');
      await this.metrics.appendFile(`${JSON.stringify(metric)}\n`);
    });
    // reported by flush, which always follows; without this Node would end the process first
    this.pending.catch(() => undefined);
  }

  async flush(): Promise<void> {
    try {
      await this.pending;
    } catch (cause) {
      throw systemError(join(this.path, files.metrics), 'write it', cause);
    }
  }

  /** Saves a checkpoint after the metrics that lead to it. */
  async saveCheckpoint({ tensors, ...rest }: Checkpoint): Promise<void> {
    await this.flush();
    await writeSafetensors(join(this.path, files.checkpoint), tensors, { checkpoint: JSON.stringify(rest) });
  }

  /**
   * The last checkpoint, with the metrics cut back to it; undefined where none was written yet.
   */
  async loadCheckpoint(): Promise<Checkpoint | undefined> {
    const path = join(this.path, files.checkpoint);
    if (!existsSync(path)) {
      await this.cutMetrics(0);
      return undefined;
    }
    const { metadata, tensors } = await readSafetensors(path);
    try {
      const rest = JSON.parse(String(metadata.checkpoint)) as Omit<Checkpoint, 'tensors'>;
      await this.cutMetrics(rest.step);
      return { ...rest, tensors: Object.fromEntries(tensors) };
    } catch (cause) {
      if (!(cause instanceof SyntaxError)) throw cause;
      throw inputError(path, 'is no checkpoint of Scion; delete it to start this run again', { cause });
    }
  }

  /** Drops the lines after a step, and a last line that was not written to its end. */
  private async cutMetrics(step: number): Promise<void> {
    const path = join(this.path, files.metrics);
    const text = await readFile(path, 'utf8').catch(() => '');
    let keep = 0;
    for (let start = 0; ;) {
      const end = text.indexOf('\n', start);
      if (end < 0) break;
      const line = parseLine(text.slice(start, end));
      if (!line || line.step > step) break;
      start = keep = end + 1;
    }
    await truncate(path, Buffer.byteLength(text.slice(0, keep))).catch(async () => writeFile(path, ''));
  }

  async writeSupport(tensors: Tensors): Promise<void> {
    await writeSafetensors(join(this.path, files.support), tensors);
  }

  async writeAdapter(values: Tensors): Promise<void> {
    await writeAdapter(this.path, values);
  }

  /** Gives the lock back. */
  async close(): Promise<void> {
    if (this.closed) return; // the lock may be another's by now
    this.closed = true;
    await this.pending.catch(() => undefined);
    await this.metrics?.close();
    await rm(join(this.path, files.lock), { force: true });
    held.delete(resolve(this.path));
  }

  /** Removes the whole folder: nothing of a run that failed before its first step stays behind. */
  async discard(): Promise<void> {
    await this.close();
    await rm(this.path, { recursive: true, force: true });
    await removeEmpty(dirname(resolve(this.path)), this.made);
  }
}

/**
 * Makes the folder of a run with its first files, in one rename.
 * @param more writes further files into it before it appears
 * @returns the topmost folder that had to be made on the way to `path`
 */
async function makeRunFolder(
  path: string, info: AnyRunInfo, support: Tensors, more: (draft: string) => Promise<void>,
): Promise<string | undefined> {
  return makeWholeFolder(path, { what: 'the run folder', occupied }, async (draft) => {
    await writeSafetensors(join(draft, files.support), support);
    await writeFile(join(draft, files.metrics), '');
    await more(draft);
    await writeFile(join(draft, files.info), serialise(info));
  });
}

/** Writes a finished run into a new folder, which appears whole. @throws ScionError where the folder has content */
export async function writeFinishedRun(path: string, info: RunInfo, support: Tensors, values: Tensors): Promise<void> {
  await makeRunFolder(path, info, support, (draft) => writeAdapter(draft, values));
}

const writeAdapter = (folder: string, values: Tensors): Promise<void> =>
  writeSafetensors(join(folder, files.adapter), values, { format: 'scion-peft' });

function parseLine(line: string): { step: number } | undefined {
  try {
    return JSON.parse(line) as { step: number };
  } catch {
    return undefined;
  }
}

function serialise(info: AnyRunInfo): string {
  return `${JSON.stringify(info, undefined, 2)}\n`;
}

function occupied(path: string): Error {
  return usageError(
    '--out',
    `${path} exists already; choose another folder, remove it, or go on with \`scion resume ${path}\``,
  );
}

/** Throws where the folder of a new run is taken; checked before anything long starts. */
export async function checkFree(path: string): Promise<void> {
  const content = await readdir(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return [];
    if (cause.code === 'ENOTDIR') throw occupied(path);
    throw systemError(path, 'look into it', cause);
  });
  if (content.length > 0) throw occupied(path);
  // the nearest folder that exists must take a new one
  let parent = dirname(resolve(path));
  while (!existsSync(parent)) parent = dirname(parent);
  await access(parent, constants.W_OK).catch((cause: unknown) => {
    throw systemError(path, `make the run folder in ${parent}`, cause);
  });
}

/** Reads `run.json`. @throws ScionError where there is none, or a newer Scion has written it */
export const readRunInfo = (path: string): Promise<RunInfo> => readInfo(path, parseRunInfo);

/** The task of a run: undefined for classes of pictures. @throws ScionError where there is no run */
export const taskOf = (path: string): Promise<unknown> => readInfo(path, parseTask);

/** The same for runs of any kind. */
export async function readInfo<I>(path: string, parse: (text: string, file: string) => I): Promise<I> {
  const file = join(path, files.info);
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') {
      throw inputError(
        path,
        `is no run folder (it has no ${files.info}); give a folder that \`scion train --out\` made`,
      );
    }
    throw systemError(file, 'read it', cause);
  });
  return parse(text, file);
}

/** Takes the lock of an existing folder; a lock whose process is gone is void. */
async function takeLock(path: string): Promise<void> {
  const lock = join(path, files.lock);
  for (let attempt = 0; attempt < 5; attempt++) {
    try {
      await writeFile(lock, String(process.pid), { flag: 'wx' });
      return;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw systemError(lock, 'write it', cause);
    }
    const owner = await readFile(lock, 'utf8').catch(() => '');
    if (owner === '' && attempt < 3) {
      await sleep(20); // it is being written, or has just been given back
      continue;
    }
    if (alive(Number(owner), path)) {
      throw usageError(
        path,
        `process ${owner} is writing to this run; wait for it or stop it (if it is no scion, remove ${lock})`,
      );
    }
    // moved aside and looked at: another process that found the same void lock may have put its own there
    const aside = join(path, `.lock-${randomUUID()}.tmp`);
    if (
      !(await rename(lock, aside).then(
        () => true,
        () => false,
      ))
    )
      continue;
    if ((await readFile(aside, 'utf8')) === owner) await rm(aside, { force: true });
    else await rename(aside, lock);
  }
  throw usageError(path, 'another process has just taken this run; wait for it or stop it');
}

/** A lock with this process's own number is void unless it holds one: in a container every run may have the same. */
function alive(pid: number, path: string): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  if (pid === process.pid) return held.has(resolve(path));
  try {
    process.kill(pid, 0);
    return true;
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** The hyper-parameters of a finished run. @throws ScionError of kind `input` where they are none of its method */
export function storedConfig(path: string, { result }: AnyRunInfo, { config }: MethodInfo): Record<string, unknown> {
  const parsed = config.safeParse(result!.config);
  if (parsed.success) return parsed.data;
  const [problem] = parsed.error.issues;
  throw inputError(join(path, files.info), `result.config.${problem!.path.join('.')}: ${problem!.message}; the run folder is `
    + 'damaged, train again');
}
