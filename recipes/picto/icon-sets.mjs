/**
 * The openly licensed icon sets of @iconify/json, in families that share drawings, and which of them are held out of
 * pretraining. Sets that this table leaves out: logos and brand marks, flags, programming languages, animations, and
 * licences that forbid commercial use (NC) or are meant for programs (GPL).
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/** SPDX identifiers that are taken. */
const licences = new Set([
  'Apache-2.0', 'BSD-3-Clause', 'CC-BY-3.0', 'CC-BY-4.0', 'CC-BY-SA-3.0', 'CC-BY-SA-4.0', 'CC0-1.0', 'ISC', 'MIT',
  'MPL-2.0', 'OFL-1.1', 'Unlicense',
]);
const leftOutCategories = new Set(['Logos', 'Programming']);
const leftOut = new Set([
  'brandico', 'circle-flags', 'cif', 'fa-brands', 'fa6-brands', 'flag', 'flagpack', 'geo', 'ginetex', 'line-md',
  'meteocons', 'svg-spinners', 'vs', 'websymbol', 'fontelico', 'picon',
]);

/** Emoji in one style each; sets of one family share drawings. */
export const emojiFamilies = {
  noto: ['noto'],
  'noto-v1': ['noto-v1'],
  emojione: ['emojione', 'emojione-monotone'],
  'emojione-v1': ['emojione-v1'],
  fxemoji: ['fxemoji'],
  'fluent-emoji': ['fluent-emoji', 'fluent-emoji-flat', 'fluent-emoji-high-contrast'],
  'streamline-emojis': ['streamline-emojis'],
  twemoji: ['twemoji'],
  openmoji: ['openmoji'],
};

/** Interface sets that share drawings, by the beginning of their names; any other set is a family of its own. */
const sharedDrawings = [
  ['fontawesome', /^(fa|fa-regular|fa-solid|fa6-.*|fa7-.*|la)$/],
  ['material', /^(ic|mdi|mdi-light|material-symbols|material-symbols-light|zmdi)$/],
  ['streamline', /^streamline(?!-emojis)/],
  ['icon-park', /^icon-park/],
  ['heroicons', /^heroicons/],
  ['boxicons', /^(bx|bxs|boxicons)$/],
  ['feather', /^(feather|lucide|lucide-lab|fe)$/],
  ['ionicons', /^(ion|famicons)$/],
  ['fluent', /^(fluent|fluent-color|fluent-mdl2)$/],
  ['map-icons', /^(maki|temaki|osmic|pinhead|roentgen)$/],
  ['unicons', /^ui[lmst]$/],
  ['pepicons', /^pepicons/],
  ['mono', /^(mi|mono-icons)$/],
  ['icons8', /^(icons8|wpf)$/],
  ['glyphs', /^glyphs/],
  ['whh', /^(whh|ls)$/],
];

/** A tenth of the interface families, chosen before anything was trained, for the variety of their drawing. */
export const heldOutFamilies = new Set([
  'twemoji', 'openmoji',
  'tabler', 'ph', 'icon-park', 'hugeicons', 'carbon', 'mingcute', 'game-icons', 'clarity', 'iconoir', 'dinkie-icons',
  'unicons', 'majesticons',
]);

const emojiFamilyOf = new Map(Object.entries(emojiFamilies).flatMap(([f, sets]) => sets.map((s) => [s, f])));

/** Words at the end (or, with a prefix table, the beginning) of a name that say how a thing is drawn, not what it is. */
const styleWords = new Set(('outline outlined solid line fill filled bold duotone light thin regular sharp rounded round '
  + 'twotone linear broken alt variant o duo color bulk stroke mini micro small large big xs sm lg xl baseline two tone '
  + 'poly glyph flat remix').split(' '));

/** @returns {{ prefix: string, family: string, emoji: boolean, heldOut: boolean, licence: object, author: object }[]} */
export function iconSets() {
  const collections = JSON.parse(readFileSync(require.resolve('@iconify/json/collections.json'), 'utf8'));
  return Object.entries(collections).flatMap(([prefix, info]) => {
    const emojiFamily = emojiFamilyOf.get(prefix);
    const open = licences.has(info.license.spdx);
    if (!open || leftOut.has(prefix) || (!emojiFamily && leftOutCategories.has(info.category))) return [];
    const family = emojiFamily ?? sharedDrawings.find(([, pattern]) => pattern.test(prefix))?.[0] ?? prefix;
    return [{
      prefix, family, name: info.name, emoji: emojiFamily !== undefined, heldOut: heldOutFamilies.has(family),
      licence: info.license, author: info.author,
    }];
  });
}

/**
 * The drawings of a set: `{ name, base, svg }`, where `base` is the name without words of style, as words. The SVG is
 * square: what is wider or taller gets equal margins.
 */
export function readIcons(prefix) {
  const set = JSON.parse(readFileSync(require.resolve(`@iconify/json/json/${prefix}.json`), 'utf8'));
  const prefixes = new Set(Object.keys(set.prefixes ?? {}).filter(Boolean).flatMap((p) => p.split('-')));
  const suffixes = new Set(Object.keys(set.suffixes ?? {}).filter(Boolean).flatMap((p) => p.split('-')));
  const style = (word, more) => styleWords.has(word) || more.has(word) || /^\d+(px)?$/.test(word);
  return Object.entries(set.icons).flatMap(([name, icon]) => {
    if (icon.hidden || /<animate|<set\b|<image|<script|<foreignObject/i.test(icon.body)) return [];
    const words = name.split(/[-_]/).filter(Boolean);
    while (words.length > 1 && style(words.at(-1), suffixes)) words.pop();
    while (words.length > 1 && prefixes.has(words[0])) words.shift();
    return [{ name, base: words.join(' '), svg: () => squareSvg(icon, set) }];
  });
}

function squareSvg(icon, set) {
  const [left, top] = [icon.left ?? set.left ?? 0, icon.top ?? set.top ?? 0];
  const [width, height] = [icon.width ?? set.width ?? 16, icon.height ?? set.height ?? 16];
  const side = Math.max(width, height);
  const box = [left - (side - width) / 2, top - (side - height) / 2, side, side].join(' ');
  const links = icon.body.includes('xlink:') ? ' xmlns:xlink="http://www.w3.org/1999/xlink"' : '';
  return `<svg xmlns="http://www.w3.org/2000/svg"${links} width="64" height="64" viewBox="${box}">${icon.body}</svg>`;
}
