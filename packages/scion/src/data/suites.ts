/**
 * Data sets that come with the package, unpacked into the cache at their first use: Picto-11, eleven tasks of pictures of
 * signs (recipes/picto makes them and says where the pictures come from).
 */
import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { brotliDecompress } from 'node:zlib';
import { systemError } from '../formats/files.js';
import { usageError, unknownName } from '../util/errors.js';
import { cacheFolder } from './cache-folder.js';

/** `datasets/` of the package: the same way up from `src` and from `dist`. */
const packaged = fileURLToPath(new URL('../../datasets/', import.meta.url));

export const suites: Readonly<Record<string, string>> = {
  'picto-11': 'eleven few-shot tasks of pictograms and icons',
};

/** Pictures by the path that `readDataset` takes; a task of a suite has a name. */
export interface PictureSet {
  readonly path: string;
  readonly name?: string;
}

/** What a packed task holds: a CoOp split (path, label, class), and the drawings that it lists. */
export interface PackedTask {
  pictures: Record<string, string>;
  split: Record<'train' | 'test', [path: string, label: number, className: string][]>;
}

/** Whether `data` is the name of a suite or of one of its tasks (`picto-11/animals`), rather than a path. */
export function isBuiltInData(data: string): boolean {
  return Object.hasOwn(suites, data.split('/')[0]!) && !existsSync(data);
}

/**
 * The data sets that a name or path stands for: every task of a suite, one task, or the path itself.
 * @throws ScionError: `usage` for a task that the suite has not, `io` where the cache cannot be written
 */
export async function pictureSets(data: string): Promise<PictureSet[]> {
  if (!isBuiltInData(data)) return [{ path: data }];
  const [suite, ...rest] = data.split('/') as [string, ...string[]];
  const folder = join(packaged, suite);
  const tasks = (await readdir(folder)).filter((f) => f.endsWith('.json.br')).map((f) => f.slice(0, -8)).sort();
  const wanted = rest.join('/');
  if (wanted !== '' && !tasks.includes(wanted)) throw unknownName('--data', `task of ${suite}`, wanted, tasks);
  const chosen = wanted === '' ? tasks : [wanted];
  return Promise.all(chosen.map(async (task) => ({
    name: `${suite}/${task}`, path: await unpacked(join(folder, `${task}.json.br`), `${suite}-${task}`),
  })));
}

/** The one data set that `data` stands for. @throws ScionError of kind `usage` for the name of a whole suite */
export async function pictureSet(data: string): Promise<string> {
  const sets = await pictureSets(data);
  if (sets.length === 1) return sets[0]!.path;
  throw usageError('--data', `${data} is ${sets.length} data sets, expected one; name ${sets.map((s) => s.name).join(', ')}`);
}

const decompress = promisify(brotliDecompress);

/** A task of a suite, from the package itself. */
export async function packedTask(suite: string, task: string): Promise<PackedTask> {
  return unpack(await readFile(join(packaged, suite, `${task}.json.br`)));
}

/** Who drew the pictures of a suite, and their licences, in Markdown. */
export function licencesOf(suite: string): Promise<string> {
  return readFile(join(packaged, suite, 'LICENSES.md'), 'utf8');
}

async function unpack(packed: Uint8Array): Promise<PackedTask> {
  return JSON.parse((await decompress(packed)).toString('utf8')) as PackedTask;
}

/** The split file of a task, below the cache. A folder with its digest appears whole or not at all. */
async function unpacked(file: string, name: string): Promise<string> {
  const packed = await readFile(file);
  const digest = createHash('sha256').update(packed).digest('hex').slice(0, 12);
  const folder = join(cacheFolder(), 'datasets', `${name}-${digest}`);
  const split = join(folder, 'split.json');
  if (existsSync(split)) return split;
  const task = await unpack(packed);
  const temporary = `${folder}.${randomUUID()}.tmp`;
  try {
    for (const sub of new Set(Object.keys(task.pictures).map(dirname))) await mkdir(join(temporary, sub), { recursive: true });
    for (const [path, svg] of Object.entries(task.pictures)) await writeFile(join(temporary, path), svg);
    await writeFile(join(temporary, 'split.json'), JSON.stringify(task.split));
    await rename(temporary, folder).catch((cause: unknown) => {
      if (!existsSync(split)) throw cause; // another process was first
    });
  } catch (cause) {
    throw systemError(folder, 'unpack it; the cache can be put elsewhere with SCION_CACHE', cause);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return split;
}
