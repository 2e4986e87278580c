/** One file of the hub into the cache: goes on where it was broken off, and is checked before it takes its name. */
import { createHash } from 'node:crypto';
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemError, withFile } from '../formats/files.js';
import { ScionError } from '../util/errors.js';
import { type CachedModel, makeFolder } from './cache.js';
import { withLock } from './lock.js';
import { type Answer, type HubConnection, Unreachable, pause, reasonOf, request, stopIf } from './request.js';

/** A file as the hub lists it. */
export interface HubFile {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** SHA-256 of the content for large files (LFS), else the SHA-1 that git gives it; hexadecimal. */
  readonly etag: string;
}

/** Attempts in a row that bring nothing. */
const patience = 5;

/**
 * Sees to it that the blob of a file is in the cache. Of several processes one downloads, the others wait for it.
 * @param onBytes told how many bytes are there, from 0 on, also of what was there before
 * @throws ScionError: `io` where hub or disk fail, or what comes is not what the hub lists; `interrupted`
 */
export async function downloadBlob(
  connection: HubConnection, model: CachedModel, url: string, file: HubFile, onBytes: (bytes: number) => void,
): Promise<void> {
  const path = model.blob(file.etag);
  const isThere = (): Promise<boolean> => stat(path).then((s) => s.size === file.size, () => false);
  if (await isThere()) return onBytes(file.size);
  await makeFolder(dirname(path));
  const onWait = (): void => connection.onWarning?.(
    `${connection.id}: another process is downloading ${file.name}; waiting for it`);
  await withLock(model.lock(file.etag), async () => {
    if (await isThere()) return onBytes(file.size);
    // a name of its own, since the locks of Python's huggingface_hub are of a kind that Node does not have
    const part = `${path}.scion.incomplete`;
    for (let attempt = 1; ; attempt++) {
      await fill(connection, url, file, part, onBytes);
      if ((await digestOf(part, file)) === file.etag) break;
      // what was left of an earlier download may be to blame: once more from the start
      await rm(part, { force: true });
      if (attempt > 1) {
        throw new Unreachable(connection, `sends another content of ${file.name} than it lists (its checksum is not ` +
          `${file.etag.slice(0, 12)}…), twice; nothing is kept; try again later, or without a proxy between`);
      }
      connection.onWarning?.(
        `${connection.id}: ${file.name} has another checksum than the hub lists; downloading it again`);
    }
    await rename(part, path).catch((cause: unknown) => {
      throw systemError(path, 'write it', cause);
    });
  }, { signal: connection.signal, onWait }).catch((error: unknown) => {
    stopIf(connection.signal);
    throw error;
  });
}

/** Brings the file at `part` to its full size. */
async function fill(
  connection: HubConnection, url: string, file: HubFile, part: string, onBytes: (bytes: number) => void,
): Promise<void> {
  const handle = await open(part, 'a').then(async (made) => {
    await made.close();
    return open(part, 'r+');
  }).catch((cause: unknown) => {
    throw systemError(part, 'write it', cause);
  });
  try {
    let done = (await handle.stat()).size;
    if (done > file.size) await handle.truncate(done = 0);
    onBytes(done);
    for (let vain = 1; done < file.size; ) {
      const before = done;
      const failure = await append(connection, url, file, handle, done, (bytes) => onBytes(done = bytes));
      if (failure === undefined) continue;
      vain = done > before ? 1 : vain + 1;
      if (vain > patience) {
        throw new Unreachable(connection, `breaks off ${file.name} after ${done} of ${file.size} bytes (${failure}); ` +
          'the same command goes on from there');
      }
      await pause(connection, vain, `${file.name} broke off (${failure})`);
    }
    await handle.sync();
  } catch (cause) {
    throw systemError(part, 'write it', cause);
  } finally {
    await handle.close();
  }
}

/** Writes what the hub sends from `start` on; gives the reason where that ends before the file does. */
async function append(
  connection: HubConnection, url: string, file: HubFile, handle: FileHandle, start: number,
  onBytes: (bytes: number) => void,
): Promise<string | undefined> {
  // lengths are those of the file itself, not of something packed
  const headers = { 'accept-encoding': 'identity', ...(start > 0 ? { range: `bytes=${start}-` } : {}) };
  const answer: Answer = await request(connection, url, headers, true);
  try {
    let at = startOf(answer.response, start);
    const length = answer.response.headers.get('content-length');
    if (length !== null && at + Number(length) !== file.size) {
      throw new Unreachable(connection, `sends ${at + Number(length)} bytes of ${file.name}, it lists ${file.size}; ` +
        'try again later');
    }
    if (at < start) await handle.truncate(at);
    onBytes(at);
    try {
      for await (const bytes of answer.read()) {
        if (at + bytes.length > file.size) {
          throw new Unreachable(connection, `sends more of ${file.name} than the ${file.size} bytes it lists`);
        }
        await writeAt(handle, bytes, at);
        onBytes(at += bytes.length);
      }
    } catch (cause) {
      stopIf(connection.signal);
      // what the disk refuses is no failure of the connection
      if (cause instanceof ScionError || (cause as NodeJS.ErrnoException).syscall === 'write') throw cause;
      return reasonOf(cause);
    }
    return at < file.size ? 'the connection ended' : undefined;
  } finally {
    await answer.close();
  }
}

/** Where what comes begins: a server may send the whole file instead of the rest. */
function startOf({ status, headers }: Response, asked: number): number {
  const [, first] = /^bytes (\d+)-/.exec(headers.get('content-range') ?? '') ?? [];
  return status === 206 && Number(first) === asked ? asked : 0;
}

async function writeAt(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}

/** The digest of a file's content as git or LFS names it. */
async function digestOf(path: string, { etag }: HubFile): Promise<string> {
  return withFile(path, async (file, bytes) => {
    const hash = etag.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${bytes}\0`);
    for await (const chunk of file.createReadStream({ autoClose: false, start: 0 })) hash.update(chunk as Uint8Array);
    return hash.digest('hex');
  });
}
