/** The files of a data folder, listed once: what the data name is looked up here, so that nothing outside is read. */
import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, join, posix } from 'node:path';
import { systemError } from '../formats/files.js';
import { litter } from './dataset-folders.js';
import { type Issues, resolveInside, staysInside } from './dataset-parts.js';
import type { ImageRef } from './image-ref.js';

export class DataFolder {
  /** Paths below the folder, with slashes, sorted. */
  readonly files: readonly string[];
  private readonly known: ReadonlySet<string>;
  private readonly byName = new Map<string, string[]>();
  private readonly images = new Map<string, ImageRef>();

  private constructor(readonly path: string, files: string[]) {
    this.files = files.sort();
    this.known = new Set(files);
    for (const file of this.files) {
      const name = posix.basename(file);
      const same = this.byName.get(name);
      if (same) same.push(file);
      else this.byName.set(name, [file]);
    }
  }

  /** Lists a folder and all below it. Links are followed where they lead to a file in it. */
  static async open(path: string): Promise<DataFolder> {
    const real = await realpath(path).catch((cause: unknown) => {
      throw systemError(path, 'read it', cause);
    });
    const files: string[] = [];
    const walk = async (folder: string): Promise<void> => {
      const entries = await readdir(join(real, folder), { withFileTypes: true }).catch((cause: unknown) => {
        throw systemError(join(path, folder), 'read it', cause);
      });
      for (const entry of entries) {
        if (entry.name.startsWith('.') || litter.has(entry.name.toLowerCase())) continue;
        const at = posix.join(folder, entry.name);
        if (entry.isDirectory()) await walk(at);
        else if (entry.isFile() || (entry.isSymbolicLink() && await leadsInside(real, at))) files.push(at);
      }
    };
    await walk('');
    return new DataFolder(path, files);
  }

  /** Files whose name (without folders) matches. */
  named(pattern: RegExp): string[] {
    return this.files.filter((file) => pattern.test(basename(file)));
  }

  full(file: string): string {
    return join(this.path, file);
  }

  /**
   * The picture with one of these file names, of which the first that is there counts. Of several files of that name
   * it is the one in a folder of the given name, else the first.
   * @param below a folder that it must lie in; default the whole folder
   */
  find(names: readonly string[], folder: string | undefined, below = ''): ImageRef | undefined {
    const inside = below === '' || below === '.' ? '' : `${posix.normalize(below).replace(/\/$/, '')}/`;
    for (const name of names) {
      const found = this.byName.get(name)?.filter((file) => file.startsWith(inside));
      if (!found?.length) continue;
      return this.image(found.find((file) => file.split('/').at(-2) === folder) ?? found[0]!);
    }
    return undefined;
  }

  /** The picture at a path, or undefined where there is none; a path that leads out of the folder is an issue. */
  at(file: string, below: string, where: string, issues: Issues): ImageRef | undefined {
    if (!staysInside(file)) {
      issues.add(where, `${JSON.stringify(file)} leads out of the folder, expected a path in it; move the file`);
      return undefined;
    }
    const path = posix.join(below, file.replaceAll('\\', '/'));
    return this.known.has(path) ? this.image(path) : undefined;
  }

  private image(file: string): ImageRef {
    let image = this.images.get(file);
    if (!image) this.images.set(file, image = { path: this.full(file) });
    return image;
  }
}

async function leadsInside(real: string, path: string): Promise<boolean> {
  try {
    await resolveInside(real, path, path);
    return (await stat(join(real, path))).isFile();
  } catch {
    return false; // whatever names it is told that it is not there
  }
}
