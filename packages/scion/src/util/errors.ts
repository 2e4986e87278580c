/**
 * Errors that a user can act on. Every message names the value, what was expected and the fix; the command line
 * prints these messages alone and keeps stack traces for defects of Scion itself.
 */
import { closest, distance } from 'fastest-levenshtein';

/** `usage`: the caller's words are off (exit code 2). `input`: a file or its content is. `io`: the system refused. */
export type ErrorKind = 'usage' | 'input' | 'io' | 'interrupted';

/** One thing that is wrong, with the option, file or tensor it is about. */
export interface Issue {
  /** What the issue is about: `--shots`, `train.labels`, a file. */
  path: string;
  message: string;
}

/** A failure that the user can mend. Holds every issue found, since fixing them one run at a time is tedious. */
export class ScionError extends Error {
  override readonly name = 'ScionError';
  constructor(
    readonly kind: ErrorKind,
    readonly issues: readonly Issue[],
    options?: ErrorOptions,
  ) {
    super(issues.map((i) => (i.path ? `${i.path}: ${i.message}` : i.message)).join('\n'), options);
  }

  /** 2 for wrong usage, 1 for everything else. */
  get exitCode(): 1 | 2 {
    return this.kind === 'usage' ? 2 : 1;
  }
}

/** The flag or configuration value at `path` is wrong. */
export function usageError(path: string, message: string, options?: ErrorOptions): ScionError {
  return new ScionError('usage', [{ path, message }], options);
}

/** The content of a file, tensor or folder at `path` is wrong. */
export function inputError(path: string, message: string, options?: ErrorOptions): ScionError {
  return new ScionError('input', [{ path, message }], options);
}

/** The operating system refused something at `path`. */
export function ioError(path: string, message: string, options?: ErrorOptions): ScionError {
  return new ScionError('io', [{ path, message }], options);
}

/**
 * An unknown name, with the nearest known ones first: `unknown method "grap-adapter"; did you mean graph-adapter?
 * Known: …`.
 */
export function unknownName(path: string, what: string, name: string, known: readonly string[]): ScionError {
  return usageError(path, `unknown ${what} ${JSON.stringify(name)}; ${didYouMean(name, known)}known: ${known.join(', ')}`);
}

/** Up to five of the known names, the nearest first. */
export function nearest(name: string, known: readonly string[]): string[] {
  return [...known].sort((a, b) => distance(name, a) - distance(name, b)).slice(0, 5);
}

function didYouMean(name: string, known: readonly string[]): string {
  if (known.length === 0) return '';
  const best = closest(name, [...known]);
  return distance(name, best) <= Math.max(2, name.length / 2) ? `did you mean ${best}? ` : '';
}

/** @throws ScionError of kind `interrupted` once the signal has been given */
export function stopIf(signal: AbortSignal | undefined, message = 'stopped'): void {
  if (signal?.aborted) throw new ScionError('interrupted', [{ path: '', message }]);
}

/** A defect of Scion: a condition that its own code guarantees does not hold. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`defect in Scion: ${message}`);
}
