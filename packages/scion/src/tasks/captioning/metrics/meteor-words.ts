/** Letters as METEOR 1.5 knows them, for a character class. */
const letters = 'A-Za-z\\u00c0-\\u00d6\\u00d8-\\u00f6\\u00f8-\\u017e\\u0400-\\u0527\\u1d00-\\u1d7f\\ua640-\\ua66e\\ua67e-\\ua697';
const spaces = /[ \t\n\r\f\u2000-\u200a\u202f\u205f\u3000\u00a0]+/;
const pattern = (source: string): RegExp => new RegExp(source, 'g');

/**
 * METEOR 1.5's normalisation of English (`-norm`) in its order. A rule of three parts looks at the signs around a sign
 * and consumes them, so that of `a'b'c` the second apostrophe is not seen by the rule that has seen the first.
 */
const rules: readonly (readonly [RegExp, string])[] = [
  // signs are words
  [pattern(`([^0-9${letters}\\t\\n\\v\\f\\r .'\`,\\-\\u2018\\u2019])`), ' $1 '],
  // so are several dots, written otherwise until the dots of abbreviations are done
  [/(?<=\.)\.|\.(?=\.)/g, '\ue000'],
  [/\ue000+/g, ' $& '],
  // commas but those between digits
  [/([^0-9]),([^0-9])/g, '$1 , $2'],
  [/([0-9]),([^0-9])/g, '$1 , $2'],
  [/([^0-9]),([0-9])/g, '$1 , $2'],
  // quotes and dashes, and hyphens apart
  [/[`\u2018\u2019]/g, "'"],
  [/[\u201c\u201d]|''/g, ' " '],
  [/\u2013|--/g, '-'],
  [pattern(`([0-9${letters}.])-([0-9${letters}])`), '$1 $2'],
  // apostrophes: alone, or with what follows
  [pattern(`([^${letters}])'([^${letters}])`), "$1 ' $2"],
  [pattern(`([^${letters}0-9])'([${letters}])`), "$1 ' $2"],
  [pattern(`([${letters}])'([^${letters}])`), "$1 ' $2"],
  [pattern(`([${letters}])'([${letters}])`), "$1 '$2"],
  [/([0-9])'(s)/g, "$1 '$2"],
];

/** Words of METEOR's list of abbreviations that are written small, and keep their dot. */
const abbreviations = new Set(['v', 'vs', 'rev']);

/** The words that METEOR compares, of tokens in small letters. */
export function meteorWords(tokens: readonly string[]): string[] {
  const separated = rules.reduce((text, [sign, written]) => text.replace(sign, written), ` ${tokens.join(' ')} `);
  const words = separated.split(/[ \t\n\r\f]+/).filter((word) => word);
  return words.map((word, i) => dotted(word, words[i + 1])).join(' ').replaceAll('\ue000', '.')
    .split(spaces).filter((word) => word);
}

/** A last dot: lost with the others in abbreviations (`u.s.`), kept before a small letter or a number, else a word. */
function dotted(word: string, next: string | undefined): string {
  if (word.length < 2 || !word.endsWith('.')) return word;
  const before = word.slice(0, -1);
  if (before.includes('.') && pattern(`[${letters}]`).test(before)) return word.replaceAll('.', '');
  if (abbreviations.has(before) || (next && /^[a-z]/.test(next))) return word;
  return before === 'pp' && next && /^[0-9]/.test(next) ? word : `${before} .`;
}
