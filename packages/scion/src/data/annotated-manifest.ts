/** Which files of a data folder hold which split: found by their official names, or named in a manifest. */
import { dirname, extname, posix } from 'node:path';
import { parse as parseYaml } from 'yaml';
import * as z from 'zod';
import { readBytes } from '../formats/files.js';
import { parseStrictJson } from '../formats/json.js';
import { inputError, ScionError } from '../util/errors.js';
import { DataFolder } from './annotated-folder.js';
import { Issues, splitNames, staysInside } from './dataset-parts.js';
import type { SplitName } from './dataset-parts.js';

/** The files of one split; paths are below the data folder, with slashes. */
export interface SplitFiles {
  readonly questions?: string;
  readonly annotations?: string;
  readonly captions?: string;
  /** A text file with the names of the pictures of the split. */
  readonly list?: string;
  /** Parquet files. */
  readonly files?: readonly string[];
  /** The folder that the pictures lie in. Default: anywhere in the data folder. */
  readonly images?: string;
}

export type Splits = Readonly<Partial<Record<SplitName, SplitFiles>>>;

export interface AnnotatedData {
  readonly folder: DataFolder;
  readonly format: string;
  readonly splits: Splits;
}

const maxManifestBytes = 2 ** 20;
const path = z.string('expected a path').min(1, 'is empty, expected a path');
const splitSchema = z.strictObject({
  questions: path.optional(), annotations: path.optional(), captions: path.optional(), list: path.optional(),
  files: z.union([path.transform((x) => [x]), z.array(path).min(1)], 'expected a path or a list of paths').optional(),
  images: path.optional(),
});

/** @param find what an official layout in a folder is, if it is one @param data a folder or manifest */
export async function annotatedData(
  data: string, isFolder: boolean, formats: readonly string[],
  find: (folder: DataFolder) => { format: string; splits: Splits } | undefined,
): Promise<AnnotatedData> {
  if (!isFolder) return readManifest(data, formats);
  const folder = await DataFolder.open(data);
  const found = find(folder) ?? parquetSplits(folder);
  if (!found || Object.keys(found.splits).length === 0) {
    throw inputError(data, 'has no files with the names of a known data set (docs/data-vqa-captions.md lists them) and no '
      + 'Parquet file; name the files in a manifest (.yaml)');
  }
  return { folder, ...found };
}

const splitOfName: readonly (readonly [RegExp, SplitName])[] = [
  [/^train/i, 'train'], [/^(val|validation|dev)/i, 'val'], [/^test/i, 'test'],
];

/** Parquet files as the hub names them: `train-00000-of-00002.parquet`, or `0000.parquet` in a folder of that name. */
function parquetSplits(folder: DataFolder): { format: string; splits: Splits } | undefined {
  const splits: Partial<Record<SplitName, { files: string[] }>> = {};
  for (const file of folder.named(/\.parquet$/i)) {
    const parts = file.split('/').reverse();
    const split = parts.map((part) => splitOfName.find(([pattern]) => pattern.test(part))?.[1]).find((s) => s) ?? 'train';
    (splits[split] ??= { files: [] }).files.push(file);
  }
  return Object.keys(splits).length > 0 ? { format: 'parquet', splits } : undefined;
}

async function readManifest(file: string, formats: readonly string[]): Promise<AnnotatedData> {
  const kind = extname(file).toLowerCase();
  if (!['.yaml', '.yml', '.json'].includes(kind)) {
    throw inputError(file, 'is no data set, expected a folder, or a manifest that ends in .yaml, .yml or .json');
  }
  const bytes = await readBytes(file, maxManifestBytes);
  const value = kind === '.json' ? parseStrictJson(bytes, file, 'manifest', 'mend it in an editor') : yaml(bytes, file);
  const schema = z.strictObject({
    format: z.enum(formats, `expected ${formats.join(', ')}`),
    train: splitSchema.optional(), val: splitSchema.optional(), test: splitSchema.optional(),
  }).refine((x) => x.train ?? x.val ?? x.test, 'has none of train, val and test');
  const checked = schema.safeParse(value);
  if (!checked.success) {
    throw new ScionError('input', checked.error.issues.map(({ path: at, message }) => ({
      path: [file, ...at].join(': '), message: `${message}; mend the manifest`,
    })));
  }
  const folder = await DataFolder.open(dirname(file));
  const issues = new Issues();
  const splits: Partial<Record<SplitName, SplitFiles>> = {};
  for (const split of splitNames) {
    const named = checked.data[split];
    if (!named) continue;
    const given = Object.entries(named).filter((entry): entry is [string, string | string[]] => entry[1] !== undefined);
    for (const [key, paths] of given) {
      for (const one of [paths].flat()) {
        const at = `${file}: ${split}: ${key}`;
        const there = normal(one);
        const exists = key === 'images'
          ? there === '.' || folder.files.some((f) => f.startsWith(`${there}/`)) : folder.files.includes(there);
        if (!staysInside(one)) issues.add(at, `${JSON.stringify(one)} leads out of the folder, expected a path in it; `
          + 'move the file');
        else if (!exists) issues.add(at, `there is no ${JSON.stringify(one)} in ${folder.path}; check the path`);
      }
    }
    splits[split] = Object.fromEntries(
      given.map(([key, paths]) => [key, typeof paths === 'string' ? normal(paths) : paths.map(normal)]));
  }
  issues.throwIfAny(file);
  return { folder, format: checked.data.format, splits };
}

/** As the folder lists it. */
const normal = (path: string): string => posix.normalize(path).replace(/\/$/, '');

function yaml(bytes: Uint8Array, file: string): unknown {
  try {
    return parseYaml(new TextDecoder('utf-8', { fatal: true }).decode(bytes), { maxAliasCount: 0 });
  } catch (cause) {
    throw inputError(file, `is no YAML: ${(cause as Error).message.split('\n')[0]}; mend it in an editor`, { cause });
  }
}
