/** Parquet files with a picture in each row, as Hugging Face's datasets lay them out. */
import { inputError } from '../util/errors.js';
import { isObject } from '../formats/json.js';
import type { DataFolder } from './annotated-folder.js';
import type { Splits } from './annotated-manifest.js';
import { splitNames } from './dataset-parts.js';
import type { Issues, SplitName } from './dataset-parts.js';
import type { ImageRef } from './image-ref.js';
import { openParquet } from './parquet.js';

/** A row without its picture. */
export interface TableRow {
  readonly split: SplitName;
  /** For messages. */
  readonly at: string;
  readonly image: ImageRef;
  /** The id of its picture, where there is a column of it. */
  readonly imageId: string | undefined;
  /** A value by the first of these columns that the table has; null counts as absent. */
  readonly value: (...columns: string[]) => unknown;
}

const imageColumns = ['image', 'img', 'jpg', 'images'];
const imageIds = ['image_id', 'imageId', 'cocoid', 'img_id', 'imgid', 'filename', 'file_name'];
/** Karpathy's names, which some tables have in a column `split`. */
const namedSplits: Readonly<Record<string, SplitName>> = {
  train: 'train', restval: 'train', val: 'val', validation: 'val', test: 'test',
};

/**
 * Hands over all rows of all files. Rows of one split with the same id of a picture share it.
 * @param needed one of these columns must be there
 */
export async function readTables(
  folder: DataFolder, splits: Splits, needed: readonly string[], issues: Issues, take: (row: TableRow) => void,
): Promise<void> {
  for (const split of splitNames) {
    const images = new Map<string, ImageRef>();
    for (const file of splits[split]?.files ?? []) await readTable(folder.full(file), split, images);
    if (splits[split] && !splits[split].files) {
      issues.add(`${folder.path}: ${split}`, 'names no Parquet files, which are needed; add "files:" to the manifest');
    }
  }

  async function readTable(path: string, split: SplitName, images: Map<string, ImageRef>): Promise<void> {
    const table = await openParquet(path);
    const names = table.columns.map(({ name }) => name);
    const picture = table.columns.find(({ name, bytes }) => bytes && imageColumns.includes(name));
    const missing = !picture ? `no column of pictures (${imageColumns.join(', ')}, of bytes or {bytes, path})`
      : needed.some((name) => names.includes(name)) ? undefined : `none of the columns ${needed.join(', ')}`;
    if (missing !== undefined || !picture) {
      throw inputError(path, `has ${missing}; it has: ${names.slice(0, 20).join(', ')}; rename its columns`);
    }
    const others = table.columns.filter(({ name, bytes }) => name !== picture.name && !bytes).map(({ name }) => name);
    const idColumn = imageIds.find((name) => others.includes(name));
    for (const group of table.groups) {
      const rows = await table.read(others, group);
      rows.forEach((row, i) => {
        const at = `${path}: row ${group.start + i}`;
        const named = typeof row.split === 'string' ? namedSplits[row.split] : split;
        if (!named) return issues.add(at, `is of the split ${JSON.stringify(row.split)}, expected train, val or test; `
          + 'rename it');
        const id = idColumn === undefined ? undefined : asText(row[idColumn]);
        let image = id === undefined ? undefined : images.get(id);
        if (!image) image = { path, cell: { column: picture.name, row: group.start + i } };
        if (id !== undefined) images.set(id, image);
        const value = (...columns: string[]): unknown => {
          const column = columns.find((c) => row[c] !== undefined && row[c] !== null);
          return column === undefined ? undefined : row[column];
        };
        take({ split: named, at, image, imageId: id, value });
      });
    }
  }
}

/** A text or number as text. */
export function asText(value: unknown): string | undefined {
  if (typeof value === 'string') return value === '' ? undefined : value;
  return typeof value === 'number' || typeof value === 'bigint' ? String(value) : undefined;
}

/** The texts of a value: one, a list, or objects that have them under a key. Undefined where it is something else. */
export function asTexts(value: unknown, ...keys: string[]): string[] | undefined {
  if (typeof value === 'string') return [value];
  if (Array.isArray(value)) {
    const all = value.map((one: unknown) => asTexts(one, ...keys));
    return all.every((one) => one !== undefined) ? all.flat() : undefined;
  }
  if (!isObject(value)) return undefined;
  const key = keys.find((k) => value[k] !== undefined && value[k] !== null);
  return key === undefined ? undefined : asTexts(value[key]);
}
