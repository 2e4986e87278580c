/** Whole files on disk (Node): reading with a size known beforehand, and writing so that no half file is ever seen. */
import { createHash, randomUUID } from 'node:crypto';
import { appendFile, open, readFile, rename, rm, stat, truncate } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { inputError, ioError, ScionError } from '../util/errors.js';

/** What the system's refusals mean to the user. */
const reasons: Record<string, string> = {
  ENOENT: 'there is no such file or folder; check the path',
  ENOTDIR: 'a part of the path is a file, expected a folder; check the path',
  EISDIR: 'is a folder, expected a file; choose another name',
  EACCES: 'permission denied; change the permissions or choose another path',
  EPERM: 'permission denied; change the permissions or choose another path',
  EROFS: 'the file system is read-only; choose another path',
  ENOSPC: 'the disk is full; free some space or choose another path',
  EDQUOT: 'the disk quota is used up; free some space or choose another path',
  EFBIG: 'the file would be larger than the system allows; choose another path',
  ENAMETOOLONG: 'the name is too long; choose a shorter one',
  ELOOP: 'the links lead in a circle; choose another path',
};

/** The system's refusal as an error that names the path; a ScionError stays what it is. */
export function systemError(path: string, action: string, cause: unknown): ScionError {
  if (cause instanceof ScionError) return cause;
  const code = (cause as NodeJS.ErrnoException | undefined)?.code ?? 'unknown error';
  return ioError(path, `cannot ${action}: ${reasons[code] ?? `the system reports ${code}; check the path`}`, { cause });
}

/** At most this much per system call, which would otherwise stop at 2 GiB. */
const chunkBytes = 2 ** 30;

/**
 * Opens a regular file, hands it with its size in bytes to `use`, and closes it.
 * @throws ScionError: `io` where the system refuses, `input` where the path is no regular file
 */
export async function withFile<T>(path: string, use: (file: FileHandle, bytes: number) => Promise<T>): Promise<T> {
  try {
    // asked first, since opening a named pipe would wait for a writer
    const found = await stat(path);
    if (!found.isFile()) {
      const kind = found.isDirectory() ? 'a folder' : 'a device or pipe';
      throw inputError(path, `is ${kind}, expected a file; check the path`);
    }
    const file = await open(path, 'r');
    try {
      return await use(file, (await file.stat()).size);
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw systemError(path, 'read it', cause);
  }
}

/** The `length` bytes from `offset`; fails if the file ends before. */
export async function readAt(file: FileHandle, offset: number, length: number, path: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const { bytesRead } = await file.read(bytes, done, Math.min(length - done, chunkBytes), offset + done);
    if (bytesRead === 0) {
      throw inputError(path, `ends after ${offset + done} bytes, expected ${offset + length}: cut short; get it again`);
    }
    done += bytesRead;
  }
  return bytes;
}

/** All bytes of a file, which may have at most `maxBytes`. */
export async function readBytes(path: string, maxBytes = Infinity): Promise<Uint8Array> {
  return withFile(path, (file, bytes) => {
    if (bytes > maxBytes) throw inputError(path, `has ${bytes} bytes, expected at most ${maxBytes}; check the path`);
    return readAt(file, 0, bytes, path);
  });
}

/**
 * The bytes of a range of a file, which must have them all.
 * @throws ScionError: `io` where the system refuses, `input` for a file that ends before
 */
export async function readRange(
  { path, offset, byteLength }: { path: string; offset: number; byteLength: number },
): Promise<Uint8Array> {
  return withFile(path, (file, bytes) => {
    // before memory is taken for what may not be there
    if (offset + byteLength > bytes) {
      throw inputError(path, `has ${bytes} bytes, expected ${offset + byteLength}: cut short; get it again`);
    }
    return readAt(file, offset, byteLength, path);
  });
}

/** The SHA-256 of a file in hexadecimal, without holding the file in memory. */
export async function sha256(path: string): Promise<string> {
  return withFile(path, async (file) => {
    const hash = createHash('sha256');
    for await (const chunk of file.createReadStream({ autoClose: false })) hash.update(chunk as Uint8Array);
    return hash.digest('hex');
  });
}

/**
 * Writes a file all or nothing: into a temporary file beside it, flushed to the disk, then renamed. On failure the
 * temporary file is removed and a file that was at `path` stays as it was.
 * @throws ScionError of kind `io` that names the path
 */
export async function writeAtomically(
  path: string, parts: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const temporary = join(dirname(path), `.scion-${randomUUID()}.tmp`);
  try {
    const file = await open(temporary, 'wx');
    try {
      for await (const part of parts) await writeAll(file, part);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined); // the first failure is the one to report
    throw systemError(path, 'write it', cause);
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    const { bytesWritten } = await file.write(bytes, done, Math.min(bytes.byteLength - done, chunkBytes));
    done += bytesWritten;
  }
}

/** Appends a line to a file, which is made where it is missing. */
export async function appendLine(path: string, line: string): Promise<void> {
  try {
    await appendFile(path, `${line}\n`);
  } catch (cause) {
    throw systemError(path, 'write it', cause);
  }
}

/**
 * The lines of a file that `appendLine` wrote; none where there is no file. A last line that was cut off while it was
 * written is removed from the file.
 */
export async function readLines(path: string): Promise<string[]> {
  try {
    const text = await readFile(path, 'utf8').catch((cause: unknown) => {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return '';
      throw cause;
    });
    const whole = text.slice(0, text.lastIndexOf('\n') + 1);
    if (whole !== text) await truncate(path, Buffer.byteLength(whole));
    return whole.split('\n').slice(0, -1);
  } catch (cause) {
    throw systemError(path, 'read it', cause);
  }
}
