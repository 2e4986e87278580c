/** Labelled pictures on disk: which files belong to which class and split. No picture is opened here. */
import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { sha256, systemError } from '../formats/files.js';
import { inputError } from '../util/errors.js';
import { readClassFolders } from './dataset-folders.js';
import { readCoopSplit, readCsvManifest, readJsonLines } from './dataset-manifest.js';
import { splitNames } from './dataset-parts.js';
import type { DatasetOptions, ImageDataset, SplitName } from './dataset-parts.js';

export { splitNames } from './dataset-parts.js';
export type { DatasetOptions, ImageDataset, LabelledImage, SplitName } from './dataset-parts.js';

type Read = (path: string, options: DatasetOptions) => Promise<ImageDataset>;
const readers: Readonly<Record<string, Read>> = {
  '.csv': readCsvManifest, '.jsonl': readJsonLines, '.ndjson': readJsonLines, '.json': readCoopSplit,
};

/**
 * Reads a folder with a subfolder per class (below `train`, `val` and `test`, or without them), a CSV or JSONL manifest
 * (path, label, and maybe split) or a CoOp split (`{"train": [[path, label, class name], …], …}`).
 * @throws ScionError: `input` with everything that is wrong, `io` where the system refuses
 */
export async function readDataset(path: string, options: DatasetOptions = {}): Promise<ImageDataset> {
  const found = await stat(path).catch((cause: unknown) => {
    throw systemError(path, 'read it', cause);
  });
  const read = found.isDirectory() ? readClassFolders : readers[extname(path).toLowerCase()];
  if (!read) {
    throw inputError(path, 'is no data set, expected a folder with a folder per class, or a .csv, .jsonl or .json '
      + 'file that lists pictures; give one of these');
  }
  const dataset = await read(path, options);
  if (options.findDuplicates === false) return dataset;
  return { ...dataset, warnings: [...dataset.warnings, ...await findDuplicates(dataset)] };
}

const shown = 3;

/** A warning if pictures of one split are, byte for byte, in another one too: training would see what is tested. */
export async function findDuplicates({ splits }: Pick<ImageDataset, 'splits'>): Promise<string[]> {
  const bySize = new Map<number, { split: SplitName; path: string }[]>();
  for (const split of splitNames) {
    for (const { path } of splits[split] ?? []) {
      const { size } = await stat(path).catch((cause: unknown) => {
        throw systemError(path, 'read it', cause);
      });
      const same = bySize.get(size);
      if (same) same.push({ split, path });
      else bySize.set(size, [{ split, path }]);
    }
  }
  const byPair = new Map<string, string[]>();
  for (const files of bySize.values()) {
    if (files.every(({ split }) => split === files[0]!.split)) continue;
    const first = new Map<string, { split: SplitName; path: string }>();
    for (const file of files) {
      const hash = await sha256(file.path);
      const other = first.get(hash);
      if (!other) first.set(hash, file);
      else if (other.split !== file.split) {
        const pair = `${other.split} and ${file.split}`;
        byPair.set(pair, [...byPair.get(pair) ?? [], `${JSON.stringify(other.path)} = ${JSON.stringify(file.path)}`]);
      }
    }
  }
  return [...byPair].map(([pair, found]) => `${found.length} picture${found.length === 1 ? ' is' : 's are'} in both `
    + `${pair}, so results will look better than they are: ${found.slice(0, shown).join(', ')}`
    + `${found.length > shown ? ', …' : ''}; remove them from one split`);
}
