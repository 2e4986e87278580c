/** Values from outside against a zod schema, with complaints that name the value. */
import type { z } from 'zod';
import { type Issue, unknownName } from '../util/errors.js';

/** Parses with zod and turns its complaints into issues that name the value. */
export function parse<T extends z.ZodType>(
  schema: T,
  input: unknown,
  prefix: string,
  issues: Issue[],
): z.output<T> | undefined {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  for (const problem of result.error.issues) {
    const path = [prefix, ...problem.path.map(String)].filter(Boolean).join('.');
    if (problem.code === 'unrecognized_keys') {
      const known = knownKeys(schema, problem.path);
      for (const key of problem.keys) {
        const [issue] = unknownName([path, key].filter(Boolean).join('.'), 'key', key, known).issues;
        issues.push(issue!);
      }
    } else {
      const value = problem.path.reduce<unknown>(
        (v, key) => (v as Record<PropertyKey, unknown> | undefined)?.[key],
        input,
      );
      const expected = problem.message
        .replace(/^(?:[^:]*: )?(?:expected )?/, 'expected ')
        .replace(/, received .*$/, '');
      issues.push({
        path,
        message: value === undefined ? `missing, ${expected}` : `${JSON.stringify(value)}: ${expected}`,
      });
    }
  }
  return undefined;
}

function knownKeys(schema: z.ZodType, path: PropertyKey[]): string[] {
  let at: unknown = schema;
  for (const key of path) at = (unwrap(at) as { shape?: Record<PropertyKey, unknown> }).shape?.[key];
  return Object.keys((unwrap(at) as { shape?: object }).shape ?? {});
}

/** What is within optional, default and the like. */
export function unwrap(schema: unknown): unknown {
  let at = schema as { unwrap?: () => unknown } | undefined;
  while (at && typeof at.unwrap === 'function') at = at.unwrap() as typeof at;
  return at ?? {};
}

/** The input without keys that mean something in recipes of another task, which become issues: their values' one by one. */
export function withoutForeign(input: unknown, foreign: readonly string[], message: (key: string) => string, issues: Issue[]): unknown {
  if (typeof input !== 'object' || input === null) return input;
  return Object.fromEntries(Object.entries(input).filter(([key, value]: [string, unknown]) => {
    if (!foreign.includes(key)) return true;
    const parts = typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.keys(value) : [];
    for (const path of parts.length > 0 ? parts.map((part) => `${key}.${part}`) : [key]) issues.push({ path, message: message(key) });
    return false;
  }));
}
