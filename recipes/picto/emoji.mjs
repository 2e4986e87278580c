/** Unicode's emoji by name, with their keywords and subgroups, from emojibase-data. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

/** The name of a concept: lower case words. */
export const conceptName = (text) => text.toLowerCase().normalize('NFKD').replace(/[^a-z0-9]+/g, ' ').trim();

/** Flags and keycaps are letters and colours, skin tones are no things of their own. */
const leftOut = /^(country-flag|subdivision-flag|keycap|alphanum|skin-tone|hair-style)$/;

/**
 * @param {string} from the module whose packages are meant
 * @returns {Map<string, { name: string, tags: string[], subgroup: string }>} by concept name
 */
export function emojiConcepts(from = import.meta.url) {
  const require = createRequire(from);
  const read = (path) => JSON.parse(readFileSync(require.resolve(path), 'utf8'));
  const { subgroups } = read('emojibase-data/meta/groups.json');
  const all = read('emojibase-data/en/data.json').filter((e) => e.subgroup !== undefined);
  return new Map(all.flatMap((e) => {
    const subgroup = subgroups[e.subgroup];
    const name = conceptName(e.label);
    if (leftOut.test(subgroup) || !name) return [];
    return [[name, { name, tags: [...new Set((e.tags ?? []).map(conceptName))].filter(Boolean), subgroup }]];
  }));
}
