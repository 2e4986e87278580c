/** Pictures with captions: Karpathy's splits, COCO's annotation files, Flickr8k and Flickr30k, and Parquet files. */
import { stat } from 'node:fs/promises';
import { systemError } from '../formats/files.js';
import { annotatedData } from './annotated-manifest.js';
import { type CaptionMap, findCaptionFiles, readCoco, readFlickr, readKarpathy } from './captions-files.js';
import { readCaptionTables } from './captions-parquet.js';
import { Issues, splitNames } from './dataset-parts.js';
import type { SplitName } from './dataset-parts.js';
import type { ImageRef } from './image-ref.js';

export interface CaptionExample {
  /** As its data set numbers the picture, else its file name. */
  readonly id: string;
  readonly image: ImageRef;
  /** At least one, without spaces around them. */
  readonly captions: readonly string[];
}

export type CaptionSplits = Readonly<Partial<Record<SplitName, readonly CaptionExample[]>>> & {
  /** What the user should know but need not mend. */
  readonly warnings: readonly string[];
};

export interface CaptionOptions {
  /** Whether Karpathy's `restval`, the part of COCO's val that is neither val nor test, is trained on. Default true. */
  readonly restval?: boolean;
}

/** A caption with more words or characters is none: most often a file that was read in the wrong way. */
const mostWords = 1000;
const mostCharacters = 10_000;

/**
 * Reads a folder in a known layout or with Parquet files, or a manifest (.yaml, .yml or .json) that names files.
 * docs/data-vqa-captions.md has the layouts.
 * @throws ScionError: `input` with everything that is wrong, `io` where the system refuses
 */
export async function readCaptions(data: string, { restval = true }: CaptionOptions = {}): Promise<CaptionSplits> {
  const isFolder = await stat(data).then((found) => found.isDirectory(), (cause: unknown) => {
    throw systemError(data, 'read it', cause);
  });
  const { folder, format, splits } = await annotatedData(
    data, isFolder, ['karpathy', 'coco', 'flickr', 'parquet'], findCaptionFiles);
  const issues = new Issues();
  const readers = { karpathy: readKarpathy, coco: readCoco, flickr: readFlickr, parquet: readCaptionTables };
  const found = await readers[format as keyof typeof readers](folder, splits, issues, { restval });
  const warnings: string[] = [];
  const sets = splitNames.flatMap((split) => (found[split] ? [[split, checked(found[split])] as const] : []));
  issues.throwIfAny(data);
  for (const [split, own] of sets) {
    if (own.length === 0) issues.add(data, `has no captions of ${split}, expected at least one; leave the split out`);
  }
  issues.throwIfAny(data);
  return { ...Object.fromEntries(sets), warnings };

  function checked(examples: CaptionMap): CaptionExample[] {
    let empty = 0;
    const kept = [...examples].flatMap(([id, { image, at, captions }]): CaptionExample[] => {
      const texts = captions.map((caption) => caption.trim()).filter((caption) => caption !== '');
      empty += captions.length - texts.length;
      if (texts.length === 0) issues.add(at, 'has no caption that is not empty, expected one; add one or leave it out');
      for (const text of texts) {
        const words = text.split(/\s+/).length;
        if (words > mostWords) issues.add(at, `a caption has ${words} words, expected at most ${mostWords}; `
          + 'shorten it');
        else if (text.length > mostCharacters) {
          issues.add(at, `a caption has ${text.length} characters, expected at most ${mostCharacters}; shorten it`);
        }
      }
      return texts.length > 0 ? [{ id, image, captions: texts }] : [];
    });
    if (empty > 0) warnings.push(`${empty} empty captions are left out`);
    return kept;
  }
}
