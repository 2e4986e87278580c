/** Folders on disk (Node) that appear with all their files or not at all. */
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rename, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { ScionError } from '../util/errors.js';
import { systemError } from './files.js';

/** Codes with which the system says that something is in the way. */
const inTheWay = new Set(['ENOTEMPTY', 'EEXIST', 'ENOTDIR']);

/**
 * Makes a new folder: `fill` writes its files into a draft beside it, which then takes the folder's name. An empty
 * folder in its place is replaced. On failure nothing stays behind.
 * @param say what messages call the folder, and the error for one that has content
 * @returns the topmost folder that had to be made on the way to `path`
 */
export async function makeWholeFolder(
  path: string, say: { what: string; occupied: (path: string) => Error }, fill: (draft: string) => Promise<void>,
): Promise<string | undefined> {
  const parent = dirname(resolve(path));
  const draft = join(parent, `.${basename(path)}-${randomUUID()}.tmp`);
  let made: string | undefined;
  try {
    made = await makeFolders(parent);
    await mkdir(draft);
    await fill(draft);
    // an empty folder may be in the way, one with content must not be touched
    await rmdir(path).catch((cause: NodeJS.ErrnoException) => {
      if (inTheWay.has(cause.code ?? '')) throw cause;
    });
    await rename(draft, path);
    return made;
  } catch (cause) {
    await rm(draft, { recursive: true, force: true }).catch(() => undefined);
    await removeEmpty(parent, made);
    // the error names the folder that the user knows, not the draft
    const inDraft = cause instanceof ScionError && cause.issues[0]?.path.startsWith(draft);
    const reason = inDraft ? cause.cause : cause;
    const { code } = reason as NodeJS.ErrnoException;
    if (typeof code !== 'string') throw reason;
    if (inTheWay.has(code)) throw say.occupied(path);
    throw systemError(path, `make ${say.what}`, reason);
  }
}

/** Makes a folder and those above it; gives the topmost that was made. Node's own way never ends below /proc. */
async function makeFolders(path: string): Promise<string | undefined> {
  if (existsSync(path)) return undefined;
  const above = await makeFolders(dirname(path));
  await mkdir(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'EEXIST') throw cause;
  });
  return above ?? path;
}

/** Removes the folders from `path` up to `top`, as far as they are empty. */
export async function removeEmpty(path: string, top: string | undefined): Promise<void> {
  for (let at = path; top !== undefined && at.startsWith(top); at = dirname(at)) {
    if (
      !(await rmdir(at).then(
        () => true,
        () => false,
      ))
    )
      return;
  }
}
