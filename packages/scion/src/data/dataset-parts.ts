/** What the readers of data sets share: the result, collected issues, and paths that stay in their folder. */
import { realpath } from 'node:fs/promises';
import { isAbsolute, join, relative, sep } from 'node:path';
import { systemError } from '../formats/files.js';
import { inputError, ScionError } from '../util/errors.js';
import type { Issue } from '../util/errors.js';

export const splitNames = ['train', 'val', 'test'] as const;
export type SplitName = (typeof splitNames)[number];

export interface LabelledImage {
  /** The file, below the folder or manifest that was given. */
  readonly path: string;
  /** Position in `classNames`. */
  readonly label: number;
}

export interface ImageDataset {
  /** Sorted, or in the order of the labels where a file numbers its classes. */
  readonly classNames: readonly string[];
  /** Data without splits are all `train`. */
  readonly splits: Readonly<Partial<Record<SplitName, readonly LabelledImage[]>>>;
  /** Named groups of test pictures, by their places in `splits.test`; a picture is in one group at most. */
  readonly groups?: Readonly<Record<string, readonly number[]>>;
  /** What the user should know but need not mend. */
  readonly warnings: readonly string[];
}

export interface DatasetOptions {
  /** The folder that the paths of a CSV, JSON or JSONL file start from. Default: its own, or `images` in it. */
  readonly imageFolder?: string;
  /** Whether to look for the same picture in two splits (reads files of equal size). Default true. */
  readonly findDuplicates?: boolean;
}

const mostIssues = 20;

/** Everything that is wrong with a data set; a long list ends with the number of what is left out. */
export class Issues {
  private readonly found: Issue[] = [];
  private count = 0;

  add(path: string, message: string): void {
    if (this.count++ < mostIssues) this.found.push({ path, message });
  }

  /** Notes a ScionError; others are defects and thrown on. */
  addError(error: unknown): void {
    if (!(error instanceof ScionError)) throw error;
    for (const { path, message } of error.issues) this.add(path, message);
  }

  /** @param path the data set */
  throwIfAny(path: string): void {
    if (this.count === 0) return;
    const more = this.count - this.found.length;
    const rest = more > 0 ? [{ path, message: `and ${more} more of these` }] : [];
    throw new ScionError('input', [...this.found, ...rest]);
  }
}

/** Whether a path given in a file stays below its folder as it is written; links are followed later. */
export function staysInside(path: string): boolean {
  return !isAbsolute(path) && !/^[a-z]:/i.test(path) && !path.split(/[\\/]/).includes('..');
}

/**
 * Checks that the file or folder exists below `root` when links are followed.
 * @param root without links
 * @throws ScionError: `input` for a link that leads out, `io` if there is no such file
 */
export async function resolveInside(root: string, path: string, shown: string): Promise<void> {
  const real = await realpath(join(root, path)).catch((cause: unknown) => {
    throw systemError(shown, 'read it', cause);
  });
  const way = relative(root, real);
  if (isAbsolute(way) || way.split(sep)[0] === '..') {
    throw inputError(shown, 'is a link that leads out of the data folder; put a copy there instead');
  }
}

/** A picture before its class has a number. */
export interface NamedImage {
  readonly path: string;
  readonly className: string;
  readonly split: SplitName;
}

/** Numbers the classes in the given order, which defaults to that of their sorted names. */
export function assemble(
  images: readonly NamedImage[], warnings: string[], order?: readonly string[],
): ImageDataset {
  const classNames = order ?? [...new Set(images.map((image) => image.className))].sort();
  const labels = new Map(classNames.map((name, label) => [name, label]));
  const splits: Partial<Record<SplitName, LabelledImage[]>> = {};
  for (const { path, className, split } of images) (splits[split] ??= []).push({ path, label: labels.get(className)! });
  return { classNames, splits, warnings: [...warnings, ...untrained(classNames, splits)] };
}

/** Classes that are tested or validated but have nothing to be learned from. */
function untrained(classNames: readonly string[], splits: ImageDataset['splits']): string[] {
  if (!splits.train) return [];
  const taught = new Set(splits.train.map(({ label }) => label));
  return splitNames.filter((split) => split !== 'train').flatMap((split) => {
    const without = [...new Set(splits[split]?.map(({ label }) => label))].filter((label) => !taught.has(label));
    if (without.length === 0) return [];
    const names = without.slice(0, 5).map((label) => JSON.stringify(classNames[label]));
    return [`${without.length} of ${classNames.length} classes have pictures in ${split} but none in train: `
      + `${names.join(', ')}${without.length > 5 ? ', …' : ''}`];
  });
}
