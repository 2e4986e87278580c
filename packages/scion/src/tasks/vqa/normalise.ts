/**
 * How the evaluation of VQA makes answers comparable (Antol et al., "VQA: Visual question answering", ICCV 2015;
 * github.com/GT-Vision-Lab/VQA, vqaEvaluation/vqaEval.py). Its results are what published figures rest on, so its
 * quirks are kept: see `processPunctuation`.
 */
import { contractions } from './contractions.js';

const punctuation = [
  ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!',
];
const numbers: ReadonlyMap<string, string> = new Map(
  ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'].map((word, n) => [word, `${n}`]));
/** What stands for a word beside its contraction: digits, and nothing said is none. */
const words: ReadonlyMap<string, string> = new Map([...numbers, ['none', '0']]);
const articles = new Set(['a', 'an', 'the']);
/** The evaluation hands `re.UNICODE`, which is 32, to `sub` where the number of replacements is expected. */
const mostPeriods = 32;
/** White space as Python's `str.split` and `str.strip` know it. */
const space = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const spaces = new RegExp(`[${space}]+`);
const outerSpaces = new RegExp(`^[${space}]+|[${space}]+$`, 'g');

/** An answer in the form in which answers are compared: `"The two-dogs."` and `"2 dogs"` are the same. */
export function normaliseAnswer(answer: string): string {
  return processDigitArticle(processPunctuation(trimAnswer(answer)));
}

/** What the evaluation does to every answer, also where it compares them as they were written. */
export function trimAnswer(answer: string): string {
  return answer.replace(/[\n\t]/g, ' ').replace(outerSpaces, '');
}

/**
 * Each sign becomes a space, or nothing where the text has this sign beside a space anywhere, or a comma between digits
 * anywhere. Periods before a digit stay; of the others the first 32 are removed. Colons, apostrophes, quotation marks
 * of other kinds and signs of other scripts stay.
 */
function processPunctuation(text: string): string {
  const commaInNumber = /\d,\d/.test(text);
  let out = text;
  for (const sign of punctuation) {
    const beside = text.includes(`${sign} `) || text.includes(` ${sign}`);
    out = out.replaceAll(sign, beside || commaInNumber ? '' : ' ');
  }
  let removed = 0;
  return out.replace(/\.(?!\d)/g, (period) => (removed++ < mostPeriods ? '' : period));
}

/** Lower case, single spaces, numbers up to ten as digits, no articles, contractions with their apostrophe. */
function processDigitArticle(text: string): string {
  return text.toLowerCase().split(spaces)
    .map((word) => words.get(word) ?? word)
    .filter((word) => word !== '' && !articles.has(word))
    .map((word) => contractions.get(word) ?? word)
    .join(' ');
}
