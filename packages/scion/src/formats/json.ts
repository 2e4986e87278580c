/** JSON from files that may be damaged or hostile: strict where `JSON.parse` is lenient; errors name the file. */
import { inputError } from '../util/errors.js';

/** A value in a few words for a message; never long, whatever the file holds. */
export function brief(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (Array.isArray(value)) {
    const short = value.length <= 8 && value.every((x) => typeof x === 'number');
    return short ? `[${value.join(', ')}]` : `a list of ${value.length}`;
  }
  if (isObject(value)) return 'an object';
  if (typeof value === 'number') return String(value); // not JSON, which has no Infinity
  return value === undefined ? 'nothing' : JSON.stringify(value);
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * The value that UTF-8 JSON stands for. Refuses bytes that are not UTF-8 and keys given twice (`JSON.parse` would keep
 * the last one and drop the other unseen).
 * @param where the file, for messages
 * @param what what the JSON is to the file: `header`
 * @param fix what the user can do about it
 * @throws ScionError of kind `input`
 */
export function parseStrictJson(bytes: Uint8Array, where: string, what: string, fix: string): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw inputError(where, `the ${what} is not UTF-8 text, which JSON has to be; ${fix}`, { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.replace(/\s+/g, ' ').slice(0, 120) : 'unreadable';
    throw inputError(where, `the ${what} is not valid JSON (${reason}); ${fix}`, { cause });
  }
  const twice = repeatedKey(text);
  if (twice !== undefined) {
    throw inputError(where, `the ${what} has the key ${brief(twice)} twice, once expected; ${fix}`);
  }
  return value;
}

/** The first key that one object of valid JSON holds twice. */
function repeatedKey(json: string): string | undefined {
  const open: (Set<string> | undefined)[] = []; // undefined for a list
  let keyNext = false;
  for (let i = 0; i < json.length; i++) {
    const c = json[i];
    if (c === '{' || c === '[') open.push(c === '{' ? new Set() : undefined);
    else if (c === '}' || c === ']') open.pop();
    if (c === '{' || c === ',') keyNext = true;
    else if (c === ':') keyNext = false;
    else if (c === '"') {
      const start = i++;
      while (json[i] !== '"') i += json[i] === '\\' ? 2 : 1;
      const keys = open.at(-1);
      if (!keys || !keyNext) continue;
      // compared unescaped, since "a" and "\u0061" are the same key
      const key = JSON.parse(json.slice(start, i + 1)) as string;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}
