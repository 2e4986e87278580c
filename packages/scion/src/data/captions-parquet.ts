/** Captions in Parquet files: a column `image`, and one of captions; rows of the same picture are put together. */
import type { DataFolder } from './annotated-folder.js';
import type { Splits } from './annotated-manifest.js';
import type { Captions } from './captions-files.js';
import type { Issues } from './dataset-parts.js';
import { asTexts, readTables } from './parquet-tables.js';

const columns = ['captions', 'caption', 'sentences_raw', 'sentences', 'text', 'answer'];

/** A caption is a text, or `{raw: …}` as Karpathy has it; a row has one or a list. */
export async function readCaptionTables(folder: DataFolder, splits: Splits, issues: Issues): Promise<Captions> {
  const all: Captions = {};
  await readTables(folder, splits, columns, issues, ({ split, at, image, imageId, value }) => {
    const captions = asTexts(value(...columns), 'raw', 'caption');
    if (!captions) return issues.add(at, 'its captions are no texts, expected a text, a list of texts or {raw: text}');
    const own = all[split] ??= new Map();
    const id = imageId ?? String(own.size);
    const known = own.get(id);
    if (known) known.captions.push(...captions);
    else own.set(id, { image, at, captions });
  });
  return all;
}
