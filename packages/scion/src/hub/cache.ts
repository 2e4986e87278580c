/**
 * The cache that Python's huggingface_hub and `@huggingface/hub` share: `models--org--name/` with `blobs/` by etag,
 * `refs/` from branch to commit, and `snapshots/<commit>/` with links to the blobs. Every name below it is made of what
 * was checked before: nothing leads out.
 */
import { copyFile, mkdir, readFile, readlink, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';
import { dirname, join, relative } from 'node:path';
import { systemError, writeAtomically } from '../formats/files.js';
import { assert } from '../util/errors.js';
import { isCommit, isRevision, parseModelId } from './model-id.js';

/** What the cache holds of one model. */
export interface CachedModel {
  readonly folder: string;
  snapshot(commit: string): string;
  blob(etag: string): string;
  /** Where processes agree who downloads a blob. */
  lock(etag: string): string;
  /** The commit that a branch or tag stood for when it was last asked for. */
  commitOf(revision: string): Promise<string | undefined>;
  remember(revision: string, commit: string): Promise<void>;
  /** Whether a snapshot is known to have no file of this name. */
  lacks(commit: string, name: string): Promise<boolean>;
  rememberLack(commit: string, name: string): Promise<void>;
  /** Puts a blob into a snapshot. */
  link(commit: string, name: string, etag: string): Promise<void>;
}

export function cachedModel(cache: string, id: string): CachedModel {
  assert(parseModelId(id)?.id === id, `${id} is no name of a model`);
  const name = `models--${id.replace('/', '--')}`;
  const folder = join(cache, name);
  const inside = (group: string, ...names: string[]): string => {
    assert(names.every((n) => /^[\w+-][\w.+/-]*$/.test(n) && !n.split('/').includes('..')), `bad name ${names.join()}`);
    return join(folder, group, ...names);
  };
  const snapshot = (commit: string): string => inside('snapshots', commit);
  const blob = (etag: string): string => inside('blobs', etag);
  return {
    folder,
    snapshot,
    blob,
    lock: (etag) => join(cache, '.locks', name, `${etag}.scion-lock`),
    async commitOf(revision) {
      if (isCommit(revision)) return revision;
      assert(isRevision(revision), `${revision} is no revision`);
      const held = await readFile(inside('refs', ...revision.split('/')), 'utf8').catch(() => '');
      return isCommit(held.trim()) ? held.trim() : undefined;
    },
    async remember(revision, commit) {
      if (isCommit(revision) || (await this.commitOf(revision)) === commit) return;
      const path = inside('refs', ...revision.split('/'));
      await makeFolder(dirname(path));
      await writeAtomically(path, [new TextEncoder().encode(commit)]);
    },
    lacks: (commit, file) => exists(inside('.no_exist', commit, file)),
    async rememberLack(commit, file) {
      const path = inside('.no_exist', commit, file);
      await makeFolder(dirname(path));
      await writeFile(path, '', { flag: 'a' });
    },
    async link(commit, file, etag) {
      const [path, target] = [join(snapshot(commit), checkedName(file)), blob(etag)];
      await makeFolder(dirname(path));
      await link(path, target);
    },
  };
}

export const exists = (path: string): Promise<boolean> => stat(path).then(() => true, () => false);

export async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true }).catch((cause: unknown) => {
    throw systemError(path, 'make the folder (HF_HUB_CACHE or HF_HOME names another place)', cause);
  });
}

function checkedName(file: string): string {
  assert(/^[\w-][\w.-]*$/.test(file), `${file} is no name of a file`);
  return file;
}

/** A relative link, so that the cache can be moved; a copy where the system has no links. Appears whole. */
async function link(path: string, target: string): Promise<void> {
  const to = relative(dirname(path), target);
  if ((await readlink(path).catch(() => undefined)) === to) return;
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    await symlink(to, temporary).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'EPERM' && cause.code !== 'ENOSYS') throw cause;
      return copyFile(target, temporary);
    });
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw systemError(path, 'write it', cause);
  }
}
