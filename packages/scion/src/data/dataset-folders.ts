/** A folder per class, maybe below folders named after the splits. */
import { readdir, realpath, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { systemError } from '../formats/files.js';
import { assemble, Issues, resolveInside, splitNames } from './dataset-parts.js';
import type { DatasetOptions, ImageDataset, NamedImage, SplitName } from './dataset-parts.js';

/** How the names of pictures end. */
export const extensions = new Set(['.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.avif', '.gif', '.svg']);
/** What systems leave in folders, beside everything that begins with a dot. */
export const litter = new Set(['thumbs.db', 'desktop.ini', '__macosx']);

interface Entries {
  readonly folders: readonly string[];
  readonly files: readonly string[];
}

/**
 * Class names are those of the folders, sorted. A folder within a class folder is refused, since it is most often a
 * level too many: taking its pictures would give them a wrong class.
 */
export async function readClassFolders(path: string, _options: DatasetOptions): Promise<ImageDataset> {
  const walk = new Walk(path, await realpath(path).catch((cause: unknown) => {
    throw systemError(path, 'read it', cause);
  }));
  const top = await walk.list('');
  const layers = await splitFolders(walk, top);
  for (const { folder, split, entries } of layers) await walk.classes(folder, split, entries);
  const { issues, images } = walk;
  if (images.length === 0) {
    issues.add(path, 'has no pictures, expected a folder per class with pictures, such as cat/1.jpg and dog/2.jpg');
  }
  issues.throwIfAny(path);
  return assemble(images, walk.warnings());
}

interface Layer {
  readonly folder: string;
  readonly split: SplitName;
  readonly entries: Entries;
}

/**
 * The folders that hold the class folders. `train`, `val` and `test` are splits where there is nothing else and each
 * has folders in it; otherwise they are classes, as a train among vehicles.
 */
async function splitFolders(walk: Walk, top: Entries): Promise<readonly Layer[]> {
  const whole: readonly Layer[] = [{ folder: '', split: 'train', entries: top }];
  const names = splitNames.filter((split) => top.folders.includes(split));
  if (names.length === 0 || names.length < top.folders.length) return whole;
  const layers: Layer[] = [];
  for (const split of names) layers.push({ folder: split, split, entries: await walk.list(split) });
  if (!layers.every(({ entries }) => entries.folders.length > 0 || entries.files.length === 0)) return whole;
  walk.stray += top.files.length;
  return layers;
}

class Walk {
  readonly issues = new Issues();
  readonly images: NamedImage[] = [];
  /** Files beside the class folders. */
  stray = 0;
  /** How many files have each extension that is not a picture's. */
  private readonly skipped = new Map<string, number>();

  /** @param real `path` without links */
  constructor(private readonly path: string, private readonly real: string) {}

  /** The visible folders and files, sorted by name. Links count as what they lead to, if that lies within the data. */
  async list(folder: string): Promise<Entries> {
    const shown = join(this.path, folder);
    const found = await readdir(join(this.real, folder), { withFileTypes: true }).catch((cause: unknown) => {
      throw systemError(shown, 'read it', cause);
    });
    const entries = { folders: [] as string[], files: [] as string[] };
    for (const entry of found) {
      if (entry.name.startsWith('.') || litter.has(entry.name.toLowerCase())) continue;
      const kind = entry.isSymbolicLink() ? await this.follow(join(folder, entry.name)) : kindOf(entry);
      if (kind) entries[kind].push(entry.name);
    }
    return { folders: entries.folders.sort(), files: entries.files.sort() };
  }

  private async follow(path: string): Promise<keyof Entries | undefined> {
    try {
      await resolveInside(this.real, path, join(this.path, path));
      const target = await stat(join(this.real, path));
      return kindOf(target);
    } catch (error) {
      this.issues.addError(error);
      return undefined;
    }
  }

  async classes(folder: string, split: SplitName, entries: Entries): Promise<void> {
    this.stray += entries.files.length;
    if (folder !== '' && entries.folders.length === 0) {
      this.issues.add(join(this.path, folder), 'is empty, expected a folder per class; fill or remove it');
    }
    for (const name of entries.folders) await this.class(join(folder, name), name.normalize('NFC'), split);
  }

  private async class(folder: string, className: string, split: SplitName): Promise<void> {
    const { folders, files } = await this.list(folder);
    const shown = join(this.path, folder);
    for (const nested of folders) {
      this.issues.add(join(shown, nested), `is a folder within the class ${JSON.stringify(className)}, expected only `
        + 'pictures; move its pictures one level up, or give the folder that holds the class folders');
    }
    const pictures = files.filter((name) => {
      const extension = extname(name).toLowerCase();
      if (extensions.has(extension)) return true;
      this.skipped.set(extension, (this.skipped.get(extension) ?? 0) + 1);
      return false;
    });
    if (pictures.length === 0 && folders.length === 0) {
      const others = files.length > 0 ? ` (${files.length} other files)` : '';
      this.issues.add(shown, `this class has no pictures${others}, expected at least one; add some or remove it`);
    }
    for (const name of pictures) this.images.push({ path: join(shown, name), className, split });
  }

  warnings(): string[] {
    const out: string[] = [];
    if (this.stray > 0) out.push(`${this.stray} files lie beside the class folders and are left out`);
    if (this.skipped.size > 0) {
      const counts = [...this.skipped].sort().map(([extension, n]) => `${n} ${extension || 'without extension'}`);
      const total = [...this.skipped.values()].reduce((a, b) => a + b, 0);
      out.push(`${total} files are left out, since their names do not end as a picture's: ${counts.join(', ')}`);
    }
    return out;
  }
}

function kindOf(entry: { isDirectory(): boolean; isFile(): boolean }): keyof Entries | undefined {
  return entry.isDirectory() ? 'folders' : entry.isFile() ? 'files' : undefined;
}
