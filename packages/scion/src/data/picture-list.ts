/** Pictures named one by one, or by the folder that they lie in. */
import { readdir, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { systemError } from '../formats/files.js';
import { type Issue, ScionError } from '../util/errors.js';
import { extensions, litter } from './dataset-folders.js';

/**
 * The files of a list of files and folders; a folder stands for all pictures in and below it, sorted. A file that is
 * named itself may end as it likes.
 * @throws ScionError with everything that is not there, and every folder without pictures
 */
export async function listPictures(paths: readonly string[]): Promise<string[]> {
  const issues: Issue[] = [];
  const found: string[] = [];
  for (const path of paths) {
    try {
      found.push(...((await stat(path)).isDirectory() ? await below(path) : [path]));
    } catch (error) {
      issues.push(...systemError(path, 'read it', error).issues);
    }
  }
  if (issues.length > 0) throw new ScionError('input', issues);
  return found;
}

async function below(folder: string): Promise<string[]> {
  const hidden = (name: string): boolean => name.startsWith('.') || litter.has(name.toLowerCase());
  const found: string[] = [];
  const walk = async (at: string): Promise<void> => {
    const entries = (await readdir(at, { withFileTypes: true })).filter(({ name }) => !hidden(name));
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (entry.isDirectory()) await walk(join(at, entry.name));
      else if (extensions.has(extname(entry.name).toLowerCase())) found.push(join(at, entry.name));
    }
  };
  await walk(folder);
  if (found.length > 0) return found;
  const message = 'has no pictures in or below it, expected files that end in .jpg, .png and the like; check the path';
  throw new ScionError('input', [{ path: folder, message }]);
}
