/** The drawings of PictoWorld: those of Picto-11, by kind, style and split. */
import { packedTask } from '../suites.js';
import { usageError, unknownName } from '../../util/errors.js';
import { type Kind, isHeldOutPair, kinds } from './kinds.js';

export interface Drawing {
  /** `style/name.svg`, as in Picto-11. */
  readonly path: string;
  /** The icon set. */
  readonly style: string;
  readonly svg: string;
  /** Of the text's colour alone: it can be given any colour. */
  readonly plain: boolean;
}

/** The drawings of a kind. Held-out styles are those that PictoCLIP has never seen. */
export interface KindDrawings {
  readonly kind: Kind;
  readonly seen: readonly Drawing[];
  readonly heldOut: readonly Drawing[];
}

const paint = /\b(?:fill|stroke|color|stop-color|flood-color)\s*[=:]\s*["']?\s*([^"';\s>]+)/g;

/** Whether every paint of a drawing is the colour of text. */
export function isPlain(svg: string): boolean {
  const paints = [...svg.matchAll(paint)].map((m) => m[1]!.toLowerCase()).filter((p) => p !== 'none');
  return paints.length > 0 && paints.every((p) => p === 'currentcolor');
}

const fewestKinds = 8;

/**
 * The drawings of the kinds that are wanted.
 * @param wanted names of kinds; all where not given
 * @param styles the icon sets of training and validation; all seen ones where not given
 * @throws ScionError of kind `usage` for unknown names, and for fewer than 8 kinds
 */
export async function readDrawings(wanted?: readonly string[], styles?: readonly string[]): Promise<KindDrawings[]> {
  const names = kinds.map((k) => k.name);
  for (const name of wanted ?? []) if (!names.includes(name)) throw unknownName('kinds', 'kind', name, names);
  const chosen = kinds.filter((k) => wanted?.includes(k.name) ?? true);
  const tasks = [...new Set(chosen.map((k) => k.source.split('/')[0]!))];
  const packed = new Map(await Promise.all(tasks.map(async (task) => [task, await packedTask('picto-11', task)] as const)));
  const all = chosen.map((kind) => {
    const [task, className] = kind.source.split('/') as [string, string];
    const { split, pictures } = packed.get(task)!;
    // classes of interface icons take synonyms in too: a bell is no notification
    const words = [className, kind.name].map((name) => name.replace(' ', '-'));
    const of = (part: 'train' | 'test'): Drawing[] => split[part]
      .filter(([path, , name]) => name === className && words.some((w) => path.split('/')[1]!.includes(w)))
      .map(([path]) => ({ path, style: path.split('/')[0]!, svg: pictures[path]!, plain: isPlain(pictures[path]!) }));
    return { kind, seen: of('train'), heldOut: of('test') };
  });
  const known = [...new Set(all.flatMap((k) => k.seen.map((d) => d.style)))].sort();
  for (const style of styles ?? []) if (!known.includes(style)) throw unknownName('styles', 'style of training', style, known);
  const usable = all.map((k) => ({ ...k, seen: k.seen.filter((d) => styles?.includes(d.style) ?? true) }))
    .filter((k) => k.seen.length > 0);
  if (usable.length < fewestKinds) {
    throw usageError(usable.length < all.length ? 'styles' : 'kinds', `${usable.length} kinds have drawings, expected ${fewestKinds} or more; name more`);
  }
  if (!usable.some((a) => usable.some((b) => isHeldOutPair(a.kind, b.kind)))) {
    throw usageError('kinds', 'no two of these kinds are kept for test scenes; name more');
  }
  return usable;
}
