/** Class names to the texts that describe them. */
import * as z from 'zod';
import { readBytes } from '../formats/files.js';
import { parseStrictJson } from '../formats/json.js';
import { readableName } from '../util/class-name.js';
import { inputError, ScionError, unknownName, usageError } from '../util/errors.js';
import type { Issue } from '../util/errors.js';

/** Templates by name; `{}` stands for the class. */
export const templateSets = {
  photo: ['a photo of a {}.'],
  /** The bare name: what the built-in picto was shown most. */
  name: ['{}'],
  /** The seven that OpenAI's CLIP notebook chose among eighty ("Prompt engineering for ImageNet"). */
  ensemble: [
    'itap of a {}.',
    'a bad photo of the {}.',
    'a origami {}.',
    'a photo of the large {}.',
    'a {} in a video game.',
    'art of the {}.',
    'a photo of the small {}.',
  ],
} as const satisfies Record<string, readonly string[]>;

/** Texts by class, as the file spells the classes. */
export type Descriptions = ReadonlyMap<string, readonly string[]>;

export interface PromptOptions {
  /** Default: `templateSets.photo`, or none where descriptions are given. */
  readonly templates?: readonly string[];
  /** Further texts for every class, used as they are. */
  readonly descriptions?: Descriptions | undefined;
  /** The file of the descriptions, for messages. */
  readonly where?: string;
}

/**
 * The prompts of each class: its name in every template, then its descriptions. Underscores in names become spaces.
 * @returns one list per class, in the order of `classNames`
 * @throws ScionError: `usage` for a template without `{}`, `input` for classes that the descriptions lack (all of them)
 */
export function makePrompts(
  classNames: readonly string[], { descriptions, templates, where = 'descriptions' }: PromptOptions = {},
): string[][] {
  const used = templates ?? (descriptions ? [] : templateSets.photo);
  for (const template of used) {
    if (!template.includes('{}')) {
      throw usageError('--template', `${JSON.stringify(template)} has no {} for the class name; `
        + `write it like ${JSON.stringify(templateSets.photo[0])}`);
    }
  }
  const texts = descriptions && byClass(classNames, descriptions, where);
  return classNames.map((name, k) => [
    ...used.map((template) => template.replaceAll('{}', () => readableName(name))),
    ...texts?.[k] ?? [],
  ]);
}

/** Names that differ only in case, underscores or the encoding of accents are the same class. */
function canonical(name: string): string {
  return readableName(name).normalize('NFC').toLowerCase();
}

const longestMessage = 400;

function byClass(classNames: readonly string[], descriptions: Descriptions, where: string): (readonly string[])[] {
  const found = new Map([...descriptions].map(([name, texts]) => [canonical(name), texts]));
  const missing: Issue[] = [];
  const texts = classNames.map((name) => {
    const own = found.get(canonical(name));
    if (!own) {
      const { message } = unknownName('', 'class', name, [...descriptions.keys()]);
      const listed = message.replace(/^unknown class/, 'has no text for the class');
      const cut = listed.length > longestMessage ? `${listed.slice(0, longestMessage)}…` : listed;
      missing.push({ path: where, message: cut });
    }
    return own ?? [];
  });
  if (missing.length > 0) throw new ScionError('input', missing);
  return texts;
}

const text = z.string().refine((t) => t.trim() !== '', 'is empty, expected a text');
const texts = z.array(text).min(1, 'expected at least one text');
const schema = z.record(z.string(), z.union([text.transform((t) => [t]), texts], 'expected a list of texts'));
const fix = 'expected {"class": ["a text about it", …], …}; mend the file in an editor';

/**
 * Reads a JSON file of descriptions, `{"class": ["text", …]}`.
 * @throws ScionError: `input` for another content or a class given twice, `io` where the system refuses
 */
export async function readDescriptions(path: string): Promise<Descriptions> {
  const checked = schema.safeParse(parseStrictJson(await readBytes(path, 100_000_000), path, 'content', fix));
  if (!checked.success) {
    throw new ScionError('input', checked.error.issues.map((i) => (
      { path: [path, ...i.path].join(': '), message: `${i.message}; ${fix}` })));
  }
  const entries = Object.entries(checked.data);
  const seen = new Map<string, string>();
  for (const [name] of entries) {
    const other = seen.get(canonical(name));
    if (other !== undefined) {
      throw inputError(path, `${JSON.stringify(other)} and ${JSON.stringify(name)} are the same class; keep one`);
    }
    seen.set(canonical(name), name);
  }
  return new Map(entries);
}
