/** Captions in JSON and text files: Karpathy's, COCO's and Flickr's. */
import { posix } from 'node:path';
import * as z from 'zod';
import { readBytes } from '../formats/files.js';
import { inputError } from '../util/errors.js';
import type { DataFolder } from './annotated-folder.js';
import type { SplitFiles, Splits } from './annotated-manifest.js';
import { parseCsv } from './dataset-csv.js';
import { splitNames } from './dataset-parts.js';
import type { Issues, SplitName } from './dataset-parts.js';
import type { ImageRef } from './image-ref.js';
import { cocoNames, inList, missingImage, readRecords } from './questions-json.js';

/** By the id of the picture. */
export type CaptionMap = Map<string, { image: ImageRef; at: string; captions: string[] }>;
export type Captions = Partial<Record<SplitName, CaptionMap>>;

const flickrCaptions = /^(Flickr8k\.token\.txt|results_20130124\.token|captions\.txt|results\.csv)$/;
const flickrLists: Readonly<Record<SplitName, RegExp>> = {
  train: /^(Flickr_?8k\.trainImages|train)\.txt$/i, val: /^(Flickr_?8k\.devImages|val)\.txt$/i,
  test: /^(Flickr_?8k\.testImages|test)\.txt$/i,
};

/** Karpathy's file comes first, since it says what the splits are. */
export function findCaptionFiles(folder: DataFolder): { format: string; splits: Splits } | undefined {
  const [karpathy, second] = folder.named(/^dataset(_(coco|flickr8k|flickr30k))?\.json$/);
  if (second !== undefined) {
    throw inputError(folder.path, `has splits twice, in ${karpathy} and ${second}; `
      + 'remove one, or name the files in a manifest');
  }
  if (karpathy !== undefined) return { format: 'karpathy', splits: { train: { captions: karpathy } } };
  const coco: Partial<Record<SplitName, SplitFiles>> = {};
  for (const split of ['train', 'val'] as const) {
    const [captions] = folder.named(new RegExp(`^captions_${split}20(14|17)\\.json$`));
    if (captions !== undefined) coco[split] = { captions };
  }
  if (Object.keys(coco).length > 0) return { format: 'coco', splits: coco };
  const [captions] = folder.named(flickrCaptions);
  if (captions === undefined) return undefined;
  const lists = splitNames.flatMap((split) => {
    const [list] = folder.named(flickrLists[split]);
    return list === undefined ? [] : [[split, { captions, list }] as const];
  });
  return { format: 'flickr', splits: lists.length > 0 ? Object.fromEntries(lists) : { train: { captions } } };
}

const id = z.union([z.string().min(1), z.number()], 'expected an id').transform(String);
const text = z.string('expected a text');
const parts: Readonly<Record<string, SplitName>> = { train: 'train', restval: 'train', val: 'val', test: 'test' };
const karpathyImage = z.object({
  filename: text.min(1), filepath: text.optional(), cocoid: id.optional(), imgid: id.optional(),
  split: z.enum(Object.keys(parts), 'expected train, restval, val or test'),
  sentences: z.array(z.object({ raw: text }), 'expected a list of {"raw": …}'),
});

/** `{"images": [{filename, filepath, split, sentences: [{raw}]}]}`: one file has all splits. */
export async function readKarpathy(
  folder: DataFolder, splits: Splits, issues: Issues, { restval }: { restval: boolean },
): Promise<Captions> {
  const all: Captions = {};
  const named = splitNames.flatMap((split) => splits[split] ?? []);
  for (const captions of new Set(named.map((files) => files.captions))) {
    if (captions === undefined) {
      issues.add(folder.path, 'names no captions, which are needed; add "captions:" to the manifest');
      continue;
    }
    const images = named.find((files) => files.captions === captions)?.images;
    await readRecords(folder.full(captions), karpathyImage, inList('images'), issues,
      ({ filename, filepath = '', split, cocoid, imgid, sentences }, at) => {
        if (split === 'restval' && !restval) return;
        const image = folder.at(posix.join(images ?? '', filepath, filename), '', at, issues)
          ?? folder.find([posix.basename(filename)], filepath === '' ? undefined : filepath, images);
        if (!image) return issues.add(at, missingImage(filename, cocoid ?? filename, folder, images));
        const own = all[parts[split]!] ??= new Map();
        own.set(cocoid ?? imgid ?? filename, { image, at, captions: sentences.map(({ raw }) => raw) });
      });
  }
  return all;
}

const cocoImage = z.object({ id, file_name: text.min(1) });
const cocoCaption = z.object({ image_id: id, caption: text });

/** `{"images": [{id, file_name}], "annotations": [{image_id, caption}]}`, a file for each split. */
export async function readCoco(folder: DataFolder, splits: Splits, issues: Issues): Promise<Captions> {
  const all: Captions = {};
  for (const [split, { captions, images }] of entries(folder, splits, issues)) {
    const path = folder.full(captions);
    const names = new Map<string, string>();
    await readRecords(path, cocoImage, inList('images'), issues, (image) => names.set(image.id, image.file_name));
    const subset = /(train|val|test)20\d\d/.exec(posix.basename(captions))?.[0];
    const own: CaptionMap = new Map();
    all[split] = own;
    const missing = new Set<string>();
    await readRecords(path, cocoCaption, inList('annotations'), issues, ({ image_id, caption }, at) => {
      const known = own.get(image_id);
      if (known) return void known.captions.push(caption);
      if (missing.has(image_id)) return;
      const name = names.get(image_id);
      const files = [...(name === undefined ? [] : [posix.basename(name)]), ...cocoNames(image_id, subset)];
      const image = folder.find(files, subset, images);
      if (image) return void own.set(image_id, { image, at, captions: [caption] });
      missing.add(image_id);
      issues.add(at, missingImage(files[0]!, image_id, folder, images));
    });
  }
  return all;
}

const maxTextBytes = 500_000_000;

/**
 * Lines of `name.jpg#0<tab>caption` (Flickr8k.token.txt, results_20130124.token), of `name.jpg,caption` below a header
 * (captions.txt), or of `name.jpg| 0| caption` (results.csv); lists have a name of a picture per line.
 */
export async function readFlickr(folder: DataFolder, splits: Splits, issues: Issues): Promise<Captions> {
  const all: Captions = {};
  const files = new Map<string, Map<string, { at: string; captions: string[] }>>();
  for (const [split, { captions, list, images }] of entries(folder, splits, issues)) {
    const path = folder.full(captions);
    let read = files.get(captions);
    if (!read) files.set(captions, read = flickrLines(path, await readText(path), issues));
    const listed = list === undefined ? [...read.keys()]
      : (await readText(folder.full(list))).split(/\r?\n/).map((line) => line.trim()).filter((line) => line !== '');
    const own: CaptionMap = new Map();
    all[split] = own;
    for (const entry of listed) {
      const name = read.has(entry) ? entry : `${entry}.jpg`; // lists of Flickr30k have numbers alone
      const found = read.get(name);
      const at = found?.at ?? `${folder.full(list!)}: ${entry}`;
      const image = folder.find([posix.basename(name)], undefined, images);
      if (!found) issues.add(at, `has no caption in ${folder.full(captions)}; add some or take it from the list`);
      else if (!image) issues.add(at, missingImage(name, name, folder, images));
      else own.set(name, { image, at, captions: found.captions });
    }
  }
  return all;
}

function flickrLines(path: string, content: string, issues: Issues): Map<string, { at: string; captions: string[] }> {
  const found = new Map<string, { at: string; captions: string[] }>();
  const add = (name: string | undefined, caption: string | undefined, line: number): void => {
    const at = `${path}: line ${line}`;
    if (!name || caption === undefined) return issues.add(at, 'is no picture with a caption, expected such as "1.jpg#0<tab>A dog"; '
      + 'mend it');
    const known = found.get(name);
    if (known) known.captions.push(caption);
    else found.set(name, { at, captions: [caption] });
  };
  const first = content.slice(0, content.indexOf('\n'));
  if (/^image(_name)?\s*,/i.test(first)) {
    for (const { line, fields } of parseCsv(content, path).slice(1)) add(fields[0], fields.slice(1).join(','), line);
    return found;
  }
  const piped = /^image_name\s*\|/i.test(first);
  content.split(/\r?\n/).forEach((line, i) => {
    if (line.trim() === '' || (piped && i === 0)) return;
    const parts = piped ? /^([^|]+?)\s*\|[^|]*\|(.*)$/.exec(line) : /^([^\t]+?)(?:#\d+)?\t(.*)$/.exec(line);
    add(parts?.[1], parts?.[2], i + 1);
  });
  return found;
}

function entries(folder: DataFolder, splits: Splits, issues: Issues): [SplitName, SplitFiles & { captions: string }][] {
  return splitNames.flatMap((split) => {
    const files = splits[split];
    if (!files) return [];
    const { captions } = files;
    if (captions !== undefined) return [[split, { ...files, captions }]];
    issues.add(`${folder.path}: ${split}`, 'names no captions, which are needed; add "captions:" to the manifest');
    return [];
  });
}

async function readText(path: string): Promise<string> {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(await readBytes(path, maxTextBytes));
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw inputError(path, 'is not UTF-8 text; save it as UTF-8', { cause });
  }
}
