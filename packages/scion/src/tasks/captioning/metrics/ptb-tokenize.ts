import { tokenRules } from './ptb-rules.js';

/** What pycocoevalcap drops. Its list is compared after lower-casing, so `-lrb-` and its like stay, as there. */
const dropped = new Set([
  "''", "'", '``', '`', '-LRB-', '-RRB-', '-LCB-', '-RCB-', '.', '?', '!', ',', ':', '-', '--', '...', ';',
]);

/**
 * The words of a caption as pycocoevalcap's PTBTokenizer gives them: Stanford's PTBTokenizer 3.4.1 with
 * `-preserveLines -lowerCase`, without punctuation. A line break counts as a space. Signs that Stanford's lexer does not
 * know, among them all emoji beyond the basic plane, are left out. A token may hold a no-break space (`(415) 555-1234`).
 */
export function ptbTokenize(text: string): string[] {
  const tokens: string[] = [];
  for (let at = 0; at < text.length;) {
    const found = longest(text, at);
    if (found) {
      const token = found.token.toLowerCase();
      if (token && !dropped.has(token)) tokens.push(token);
    }
    at += found?.length ?? (text.codePointAt(at)! > 0xffff ? 2 : 1);
  }
  return tokens;
}

/** The token at a place by the rule that finds the most, what has to follow counted; the first of equals. */
function longest(text: string, at: number): { token: string; length: number } | undefined {
  let most = 0;
  let best: { token: string; length: number } | undefined;
  for (const { pattern, written } of tokenRules) {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (!match || match[0].length <= most) continue;
    const token = match[1]!;
    most = match[0].length;
    best = { token: written ? written(token) : token, length: token.length };
  }
  return best;
}
