/** Lists of pictures in a file: CSV, JSON lines, and the split files of CoOp. */
import { realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as z from 'zod';
import { readBytes, systemError } from '../formats/files.js';
import { brief, parseStrictJson } from '../formats/json.js';
import { inputError } from '../util/errors.js';
import { parseCsv } from './dataset-csv.js';
import { assemble, Issues, resolveInside, splitNames, staysInside } from './dataset-parts.js';
import type { DatasetOptions, ImageDataset, NamedImage, SplitName } from './dataset-parts.js';

const maxBytes = 500_000_000;
const mend = 'mend it in an editor';

/** One row of a file, with the place it stands at, for messages. */
interface Row extends NamedImage {
  readonly at: string;
}

const splits: Readonly<Record<string, SplitName>> = { train: 'train', val: 'val', validation: 'val', test: 'test' };

/** Columns `path` and `label`, in any order, and maybe `split`, named in the first line. */
export async function readCsvManifest(path: string, options: DatasetOptions): Promise<ImageDataset> {
  const [header, ...lines] = parseCsv(await readText(path), path);
  const columns = header?.fields.map((name) => name.trim().toLowerCase()) ?? [];
  const column = (name: string): number => columns.indexOf(name);
  const [file, label, split] = [column('path'), column('label'), column('split')];
  if (file < 0 || label < 0) {
    const found = columns.length > 0 ? columns.map((c) => JSON.stringify(c)).join(', ') : 'nothing';
    throw inputError(`${path}: line 1`, `names ${found}, expected the columns path, label and maybe split; ${mend}`);
  }
  const ignored = columns.filter((_, i) => ![file, label, split].includes(i));
  const warnings = ignored.length > 0 ? [`${path}: the columns ${ignored.join(', ')} are not used`] : [];
  const issues = new Issues();
  const rows = lines.flatMap(({ line, fields }) => {
    const value = { path: fields[file], label: fields[label], split: fields[split] || undefined };
    return row(`${path}: line ${line}`, value, issues);
  });
  return finish(path, rows, issues, warnings, options);
}

/** A JSON object on each line: `{"path": …, "label": …}` and maybe `"split"`. */
export async function readJsonLines(path: string, options: DatasetOptions): Promise<ImageDataset> {
  const issues = new Issues();
  const lines = (await readText(path)).replace(/^\ufeff/, '').split(/\r?\n/);
  const rows = lines.flatMap((text, i) => {
    const at = `${path}: line ${i + 1}`;
    if (text.trim() === '') return [];
    try {
      return row(at, parseStrictJson(Buffer.from(text), at, 'line', mend), issues);
    } catch (error) {
      issues.addError(error);
      return [];
    }
  });
  return finish(path, rows, issues, [], options);
}

const filled = z.string('expected a text').min(1, 'is empty, expected a text');
const rowSchema = z.object({
  path: filled,
  label: z.union([filled, z.int().transform(String)], 'expected the name of a class'),
  split: z.enum(Object.keys(splits), 'expected train, val or test').optional(),
});

function row(at: string, value: unknown, issues: Issues): Row[] {
  const checked = rowSchema.safeParse(value);
  if (!checked.success) {
    for (const { path, message } of checked.error.issues) issues.add([at, ...path].join(': '), `${message}; ${mend}`);
    return [];
  }
  const { path, label, split = 'train' } = checked.data;
  return [{ at, path, className: label.normalize('NFC'), split: splits[split]! }];
}

const coopRows = z.array(z.tuple([filled, z.int().min(0), filled]), 'expected a list of [path, label, class name]');
const coopGroups = z.record(filled, z.array(z.int().min(0)), 'expected lists of row numbers by name of group');
const coopSchema = z.object({
  train: coopRows.optional(), val: coopRows.optional(), test: coopRows.optional(),
  groups: z.object({ test: coopGroups.optional() }).optional(),
})
  .refine((x) => x.train ?? x.val ?? x.test, 'has none of train, val and test');

/**
 * `{"train": [[path, label, class name], …], "val": …, "test": …}`, where every label has one name and one only. Beside
 * them, `"groups": {"test": {"seen": [row numbers …], …}}` names groups of test rows, which others ignore.
 */
export async function readCoopSplit(path: string, options: DatasetOptions): Promise<ImageDataset> {
  const checked = coopSchema.safeParse(parseStrictJson(await readBytes(path, maxBytes), path, 'content', mend));
  const issues = new Issues();
  if (!checked.success) {
    for (const { path: key, message } of checked.error.issues) {
      const form = key[0] === 'groups' ? '{"test": {"name": [row numbers …], …}}'
        : '{"train": [[path, label, class name], …], …}';
      issues.add([path, ...key].join(': '), `${message}, expected ${form}; ${mend}`);
    }
    issues.throwIfAny(path);
  }
  const names: string[] = [];
  const labels = new Map<string, number>();
  const rows: Row[] = [];
  for (const split of splitNames) {
    checked.data?.[split]?.forEach(([file, label, name], i) => {
      const at = `${path}: ${split}: ${i}`;
      const className = name.normalize('NFC');
      const shown = JSON.stringify(name);
      const known = names[label] ??= className;
      const other = labels.get(className) ?? label;
      labels.set(className, other);
      if (known !== className) {
        const before = JSON.stringify(known);
        issues.add(at, `label ${label} is ${shown} here and ${before} before, expected one class; ${mend}`);
      } else if (other !== label) {
        issues.add(at, `the class ${shown} has label ${label} here and ${other} before, expected one label; ${mend}`);
      }
      rows.push({ at, path: file, className, split });
    });
  }
  const gap = Array.from(names).indexOf(undefined as unknown as string);
  if (gap >= 0) issues.add(path, `no picture has label ${gap}, expected labels from 0 without a gap; ${mend}`);
  const groups = checked.data?.groups?.test;
  checkRowGroups(path, groups ?? {}, checked.data?.test?.length ?? 0, issues);
  const dataset = await finish(path, rows, issues, [], options, names);
  return groups ? { ...dataset, groups } : dataset;
}

/** Every row number of a group must be one of the test rows, and in one group alone. */
function checkRowGroups(
  path: string, groups: Readonly<Record<string, readonly number[]>>, rows: number, issues: Issues,
): void {
  const owner = new Map<number, string>();
  for (const [name, numbers] of Object.entries(groups)) {
    const at = `${path}: groups: test: ${name}`;
    if (numbers.length === 0) issues.add(at, `has no row, expected at least one; leave the group out; ${mend}`);
    for (const row of numbers) {
      const before = owner.get(row);
      if (row >= rows) issues.add(at, `names row ${row}, expected 0 to ${rows - 1} for ${rows} test rows; ${mend}`);
      else if (before !== undefined) issues.add(at, `names row ${row}, which is in ${brief(before)}, expected one group; ${mend}`);
      owner.set(row, name);
    }
  }
}

async function readText(path: string): Promise<string> {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(await readBytes(path, maxBytes));
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw inputError(path, 'is not UTF-8 text; save it as UTF-8', { cause });
  }
}

/** How many files are looked up at once. */
const lookups = 32;

/** Finds the files, and reports everything that is wrong. */
async function finish(
  path: string, rows: readonly Row[], issues: Issues, warnings: string[], options: DatasetOptions,
  order?: readonly string[],
): Promise<ImageDataset> {
  const inside = rows.filter(({ at, path: file }) => {
    const stays = staysInside(file);
    if (!stays) issues.add(at, `${JSON.stringify(file)} leads out of the folder, expected a path in it; move the file`);
    return stays;
  });
  if (rows.length === 0) issues.add(path, 'lists no picture, expected at least one; add some');
  const folder = await imageFolder(path, inside[0]?.path, options);
  const real = await realpath(folder).catch((cause: unknown) => {
    throw systemError(folder, 'read it', cause);
  });
  for (let i = 0; i < inside.length; i += lookups) {
    const chunk = inside.slice(i, i + lookups);
    const found = await Promise.allSettled(
      chunk.map((r) => resolveInside(real, r.path, `${r.at}: ${join(folder, r.path)}`)));
    for (const result of found) if (result.status === 'rejected') issues.addError(result.reason);
  }
  issues.throwIfAny(path);
  return assemble(inside.map((r) => ({ ...r, path: join(folder, r.path) })), warnings, order);
}

/** Split files of CoOp lie beside the folder of the pictures, which most data sets call `images`. */
async function imageFolder(manifest: string, first: string | undefined, options: DatasetOptions): Promise<string> {
  if (options.imageFolder !== undefined) return options.imageFolder;
  const own = dirname(manifest);
  const images = join(own, 'images');
  const exists = (path: string): Promise<boolean> => stat(path).then(() => true, () => false);
  if (first === undefined || await exists(join(own, first))) return own;
  return await exists(join(images, first)) ? images : own;
}
