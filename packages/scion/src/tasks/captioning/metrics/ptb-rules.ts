/**
 * The tokens of the Penn Treebank as rules: regular expressions of what is one token, in the order in which they are
 * preferred. Found by observing Stanford's PTBTokenizer 3.4.1 on texts of every kind, not from its source.
 */
import { abbreviations, abbreviationsBeforeNumbers, capitalAbbreviations } from './ptb-abbreviations.js';

/** What a rule finds: the token is the first group, and what follows it only has to be there. */
export interface TokenRule {
  readonly pattern: RegExp;
  /** The token as it is written; without it, as it stands. */
  readonly written?: (token: string) => string;
}

// marks that belong to a word, of the scripts whose marks Stanford's lexer knows
const marks = '\\u0300-\\u036f\\u0483-\\u0487\\u0591-\\u05c7\\u0615-\\u065e\\u0670-\\u06ed\\u0711-\\u07f3\\u0900-\\u0903' +
  '\\u093c-\\u0955\\u0962\\u0963\\u0981-\\u0a4d\\u0a81-\\u0acd\\u0b82-\\u0bcd\\u0c01-\\u0c03\\u0c3e-\\u0c56\\u0d3e-\\u0d48' +
  '\\u0d4b-\\u0d4d\\u0e31-\\u0e4e\\u0eb1-\\u0ecd';
// beyond the basic plane nothing is known to the lexer
const basic = '(?![\\u{10000}-\\u{10ffff}])';
const letter = `(?:${basic}[\\p{L}\\u00ad]|(?=\\p{M})[${marks}])`;
const digit = `(?:${basic}\\p{Nd})`;
const alnum = `(?:${letter}|${digit})`;
const apostrophe = "(?:['\\u2019\\u0092]|&apos;)";
const number = `(?:${digit}*(?:[.:,\\u066b\\u066c]${digit}+)+|${digit}+)`;
const oneOf = (words: string): string => `(?:${words.trim().split(/\s+/).join('|')})`;
const anyCase = (text: string): string => text.replace(/[a-z]/g, (c) => `[${c}${c.toUpperCase()}]`);
const acronym = '(?:[A-Za-z](?:\\.[A-Za-z])+)';
const clitic = `${apostrophe}(?:[smdSMD]|[rRvV][eE]|[lL][lL])(?!${alnum})`;
const domain = `(?:[A-Za-z0-9-]+\\.)+${oneOf('com net org edu gov uk de fr')}`;

const rule = (source: string, written?: TokenRule['written'], follows = ''): TokenRule => ({
  pattern: new RegExp(`(${source})${follows}`, 'yu'), ...(written && { written }),
});
const as = (text: string): TokenRule['written'] => () => text;

const brackets: Readonly<Record<string, string>> = {
  '(': '-LRB-', ')': '-RRB-', '[': '-LSB-', ']': '-RSB-', '{': '-LCB-', '}': '-RCB-',
};
const parentheses = (token: string): string => token.replace(/[()]/g, (c) => brackets[c]!);
const straight = (token: string): string => token.replace(/[\u2019\u0092]|&apos;/g, "'").replace(/\u2018/g, '`');
const fractions: Readonly<Record<string, string>> = { '¼': '1/4', '½': '1/2', '¾': '3/4', '⅓': '1/3', '⅔': '2/3' };
const currencies: Readonly<Record<string, string>> = { '¢': 'cents', '£': '#', '¤': '$', '₠': '$', '€': '$', '\u0080': '$' };

/** Earlier rules win among those that find equally much. */
export const tokenRules: readonly TokenRule[] = [
  // tags and references of HTML
  rule('&nbsp;', as('')),
  rule('<(?!https?:)/?[A-Za-z!?][^<>\\r\\n]*>', (tag) => tag.replaceAll(' ', '\u00a0')),
  rule('&quot;', as("''")), rule('&amp;', as('&')), rule('&lt;', as('<')), rule('&gt;', as('>')),
  rule('&#\\d+;|&[aeiouAEIOU](?:acute|grave|uml);'),

  // words of two tokens
  ...['can not', 'gon na', 'got ta', 'gim me', 'lem me', 'wan na'].map((two) => {
    const [first, second] = two.split(' ') as [string, string];
    return rule(anyCase(first), undefined, `(?=${anyCase(second)}(?!${alnum}|${clitic}))(?<lookahead>${anyCase(second)})`);
  }),
  rule("'[tT]", undefined, `(?<lookahead>${anyCase('is')}|${anyCase('was')})`),
  rule(`[yY]${apostrophe}`, straight, `(?<lookahead>${anyCase('all')}|${anyCase('know')}|${anyCase('ever')})`),
  rule(`[jJ]${apostrophe}`, straight, `(?<lookahead>(?!${clitic.slice(apostrophe.length)})${letter}{2,}(?!${alnum}))`),
  rule(`${letter}*?(?![nN])${letter}`, undefined, `(?<lookahead>[nN](?:${apostrophe}|[\`\\u2018])[tT])`),
  rule(`[nN](?:${apostrophe}|[\`\\u2018])[tT]`, straight),
  rule(clitic, straight),

  // addresses
  rule('https?://[^\\s"<>|()]*[^\\s"<>|().,;:!?\'-]'),
  rule(`(?:www\\.(?:[A-Za-z0-9-]+\\.)+[A-Za-z]{2,4}|${domain})(?:/[^\\s"<>|()]*[^\\s"<>|().,;:!?'-])?(?![A-Za-z0-9])`),
  rule('[A-Za-z0-9][^\\s"<>|(){}@,;:\\\\/#]*@(?:[A-Za-z0-9_-]+\\.)*[A-Za-z0-9_-]+'),
  rule(`<[A-Za-z0-9._-]+@(?:[A-Za-z0-9-]+\\.)+[A-Za-z]+>`),
  rule('[@][A-Za-z_][A-Za-z_0-9]*'),
  rule(`#${letter}+`),

  // words with apostrophes
  rule(`${apostrophe}[eE][mM]|${apostrophe}[nN](?:${apostrophe}|(?=\\s|$))|${apostrophe}[tT]il(?:l)?|${apostrophe}[cC]ause|${apostrophe}\\d\\ds?(?![\\d'",.])`),
  rule(`(?:${anyCase("c'mon")}|[cC]'est|[cC]ap'n|[nN]at'l|[sS]'mores|[lL]i'l|[eE]v'ry|[nN]or'easter|[mM]a'am|[oO]l')`.replaceAll("'", apostrophe), straight),
  rule(`[dDoOlLnN]${apostrophe}(?!${clitic.slice(apostrophe.length)})${letter}${alnum}+|[dDnN]${apostrophe}[tT]`, straight),
  rule(`[A-Za-z]*[aeiouAEIOU]${apostrophe}[aeiouAEIOU][A-Za-z]*`, straight),

  // numbers
  rule(`\\d{1,4}[-/]\\d{1,2}[-/]\\d{2,4}`),
  rule('(?:\\d{1,4}[- \\u00a0])?\\d{1,4}\\\\?/\\d{1,4}', (text) => text.replaceAll(' ', '\u00a0')),
  rule('[¼½¾⅓⅔]', (sign) => fractions[sign]!),
  rule(`[-+]?${number}`),
  rule(`\\d+(?:${oneOf('st nd rd th')})`),
  rule('(?:\\(\\d{2,3}\\)[ \\u00a0]?|(?:\\+?\\d{1,3}[ \\u00a0])?\\d{2,3}[- \\u00a0])\\d{3,4}[- \\u00a0]\\d{3,5}',
    (text) => parentheses(text).replaceAll(' ', '\u00a0')),

  // words
  rule(`${letter}${alnum}*(?:[.!?]${letter}${alnum}*)*`, (word) => word.replaceAll('\u00ad', '')),
  rule(`\\d+\\.\\d+(?:-${alnum}+)+|${alnum}+(?:[-_\\u2010\\u2011]${alnum}+)*`, (word) => word.replaceAll('\u00ad', '')),
  rule(`(?:[dDoOlL]${apostrophe})?${alnum}+(?:[-_](?:[dDoOlL]${apostrophe})?${alnum}+)+`, straight),
  rule('[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}'),
  rule('[A-Z]+(?:(?:&|&amp;)[A-Z]+)+', (name) => name.replaceAll('&amp;', '&')),
  rule(`${acronym}\\.(?:-${alnum}+)+|${acronym}\\.|(?:${alnum}+-)+${acronym}\\.`),
  rule('[A-Za-z]\\.'),
  rule('[pP][hH]\\.[dD]\\.'),
  rule('[cC]\\+\\+|[cCfF]#'),
  rule(`(?:${anyCase(oneOf(abbreviations))}|${oneOf(capitalAbbreviations)}|${oneOf(capitalAbbreviations.toUpperCase())})\\.`),
  rule(`${anyCase(oneOf(abbreviationsBeforeNumbers))}\\.`, undefined, '(?<lookahead>[ \\u00a0]?\\d)'),

  // currencies and signs
  rule('(?:[A-Z]{1,3})?\\$'),
  rule('[¢£¤₠€\\u0080]', (sign) => currencies[sign]!),
  rule(`[<>]?[:;=][-o*']?(?:[(){@|\\[\\]]|[\\\\DPdpO](?!${alnum}))`, parentheses),
  rule("[-^x=~<>']_[-^x=~<>']|\\([-^x=~<>']_[-^x=~<>']?\\)", parentheses),
  rule('[!?]+'),
  rule('\\.{3,5}|…|(?:\\.[ \\u00a0]){2,4}\\.', as('...')),
  rule('-{5,}'), rule('-{2,4}|[\\u2013-\\u2015\\u0096\\u0097]|&(?:mdash|ndash|MD);', as('--')),
  rule("''|[\\u201d\\u00bb\\u0094]", as("''")), rule('``|[\\u201c\\u00ab\\u0093]', as('``')), rule('"', as("''")),
  rule('[\\u2018\\u201b\\u2039\\u0091]', as('`')), rule('[\\u2019\\u203a\\u0092]|&apos;', as("'")),
  rule('[()\\[\\]{}]', (bracket) => brackets[bracket]!),
  rule('\\*+|\\\\\\*'), rule('#+'), rule('_+'), rule('<<|>>'),
  rule('[\\u0021-\\u007e]'),
  // other signs, but not those outside of the basic plane, which Stanford's lexer drops, nor those younger than it
  rule('(?![\\u{10000}-\\u{10ffff}\\u0f00-\\u0fff\\u2010-\\u2012\\u20a1-\\u20a3\\u20a5-\\u20ab\\u20ad-\\u20c0\\u2e00-\\u2fff\\u3003-\\u3011\\u3013-\\u3037\\u303d\\u303e\\u3190-\\u33ff\\ufe10-\\ufe6b])(?:[\\p{P}\\p{S}]|[\\u00b2\\u00b3\\u00b9\\u2070-\\u2089\\u2155-\\u215e\\u2460-\\u24ff\\u2776-\\u2793])'),
];
