/**
 * Features kept on the disk, found again by the content they were computed from. A folder holds the rows of one kind
 * (one backbone, one way of preprocessing); in it lie chunks, files that are written once and appear whole, by a
 * rename. So any number of processes may read and add at once, and one that is killed leaves nothing half written.
 *
 * A chunk: `SCIONFC1`, d and n as 32-bit numbers, n keys of 32 bytes, n rows of d float32 numbers, and the SHA-256 of
 * all of it. A chunk that is cut short or altered is removed and its rows are computed again.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readAt, readBytes, withFile, writeAtomically } from '../formats/files.js';
import { ScionError } from '../util/errors.js';

export interface FeatureCache {
  /** Hands over the rows that are there, each key once. One chunk is in memory at a time. */
  find(wanted: ReadonlySet<string>, take: (key: string, row: Float32Array) => void): Promise<void>;
  /** Keeps a copy of a row. Waits where the disk is slower than the caller. */
  add(key: string, row: Float32Array): Promise<void>;
  /** Writes what has been added since. */
  flush(): Promise<void>;
}

export interface CacheOptions {
  /** Told once where the cache cannot be written; the work goes on without it. */
  onWarning?: ((warning: string) => void) | undefined;
  /** Rows of a chunk. Default 512. */
  chunkRows?: number;
  /** Rows are written after this many seconds, even if they make no full chunk. Default 5. */
  seconds?: number;
}

const magic = new TextEncoder().encode('SCIONFC1');
const [headBytes, keyBytes] = [magic.length + 8, 32];
/** A draft older than this belongs to a process that was killed. */
const draftHours = 24;

/** The key of bytes that stand for what a row is computed from: a SHA-256 in hexadecimal. */
export function cacheKey(...parts: (string | number | boolean)[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/** Opens the folder for rows of `dim` numbers; it is made when the first chunk is written. */
export function openFeatureCache(folder: string, dim: number, options: CacheOptions = {}): FeatureCache {
  const { onWarning, chunkRows = 512, seconds = 5 } = options;
  let pending: { key: string; row: Float32Array }[] = [];
  let last = performance.now();
  let writing: Promise<void> = Promise.resolve();
  let broken = false;

  const write = async (rows: typeof pending): Promise<void> => {
    if (broken) return;
    try {
      await mkdir(folder, { recursive: true });
      // the name is that of the content: the same rows, added twice, are one file
      const bytes = encode(rows, dim);
      const name = Buffer.from(bytes.subarray(-keyBytes)).toString('hex');
      await writeAtomically(join(folder, `${name}.features`), [bytes]);
    } catch (error) {
      broken = true;
      onWarning?.(`features are not kept for the next time: ${(error as Error).message}`);
    }
  };
  const flush = async (): Promise<void> => {
    await writing; // one chunk at a time: what waits stays bounded
    const rows = pending;
    pending = [];
    last = performance.now();
    if (rows.length > 0) writing = write(rows);
  };
  return {
    async find(wanted, take) {
      const left = new Set(wanted);
      for (const name of await chunks(folder)) {
        if (left.size === 0) return;
        await readChunk(join(folder, name), dim, left, take);
      }
    },
    async add(key, row) {
      pending.push({ key, row: row.slice() });
      if (pending.length >= chunkRows || performance.now() - last > 1000 * seconds) await flush();
    },
    async flush() {
      await flush();
      await writing;
    },
  };
}

/** The chunks of a folder; drafts of processes that were killed long ago are removed. */
async function chunks(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => [] as string[]);
  for (const name of names.filter((n) => n.endsWith('.tmp'))) {
    const age = await stat(join(folder, name)).then(
      (s) => Date.now() - s.mtimeMs,
      () => 0,
    );
    if (age > draftHours * 3_600_000) await rm(join(folder, name), { force: true }).catch(() => undefined);
  }
  return names.filter((n) => n.endsWith('.features')).sort();
}

function encode(rows: readonly { key: string; row: Float32Array }[], dim: number): Uint8Array {
  const content = new Uint8Array(headBytes + rows.length * (keyBytes + 4 * dim));
  content.set(magic);
  new DataView(content.buffer).setUint32(magic.length, dim, true);
  new DataView(content.buffer).setUint32(magic.length + 4, rows.length, true);
  rows.forEach(({ key, row }, i) => {
    content.set(Buffer.from(key, 'hex'), headBytes + i * keyBytes);
    content.set(new Uint8Array(row.buffer, row.byteOffset, 4 * dim), headBytes + rows.length * keyBytes + i * 4 * dim);
  });
  const out = new Uint8Array(content.length + keyBytes);
  out.set(content);
  out.set(createHash('sha256').update(content).digest(), content.length);
  return out;
}

/** Takes what is wanted from one chunk. Only a chunk that holds any of it is read to its end and checked. */
async function readChunk(
  path: string,
  dim: number,
  wanted: Set<string>,
  take: (key: string, row: Float32Array) => void,
): Promise<void> {
  const keys = await withFile(path, async (file, size) => {
    if (size < headBytes) return undefined;
    const head = await readAt(file, 0, headBytes, path);
    const [width, count] = [0, 4].map((at) => new DataView(head.buffer).getUint32(magic.length + at, true)) as [
      number,
      number,
    ];
    const whole =
      magic.every((byte, i) => head[i] === byte) &&
      width === dim &&
      size === headBytes + count * (keyBytes + 4 * dim) + keyBytes;
    return whole ? hexKeys(await readAt(file, headBytes, count * keyBytes, path)) : undefined;
  }).catch(gone);
  if (keys === 'gone' || keys?.every((key) => !wanted.has(key))) return;
  const bytes = keys && (await readBytes(path).catch(gone));
  if (bytes === 'gone') return;
  const sound =
    bytes && createHash('sha256').update(bytes.subarray(0, -keyBytes)).digest().equals(bytes.subarray(-keyBytes));
  if (!sound) {
    await rm(path, { force: true }).catch(() => undefined);
    return;
  }
  keys.forEach((key, i) => {
    if (!wanted.delete(key)) return;
    const from = headBytes + keys.length * keyBytes + i * 4 * dim;
    take(key, new Float32Array(bytes.slice(from, from + 4 * dim).buffer));
  });
}

/** What cannot be read, or has just been removed by another process, is not there. */
function gone(error: unknown): 'gone' {
  if (error instanceof ScionError) return 'gone';
  throw error;
}

function hexKeys(bytes: Uint8Array): string[] {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / keyBytes }, (_, i) =>
    all.toString('hex', i * keyBytes, (i + 1) * keyBytes),
  );
}
