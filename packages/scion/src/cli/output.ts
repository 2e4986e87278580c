/** What the command says: results on stdout, everything else on stderr. */
import { access, constants, mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ScionError, type SourceOptions, ioError } from '../index.js';

/** Results: text, or with `--json` one JSON value. */
export function print(json: boolean, value: unknown, text: () => string): void {
  const out = json ? `${escaped(JSON.stringify(value, undefined, 2))}\n` : text();
  process.stdout.write(out.endsWith('\n') ? out : `${out}\n`);
}

export function note(message: string): void {
  process.stderr.write(`${escaped(message)}\n`);
}

/** Makes the folder that results go into, before the work that leads to them. */
export async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
    await access(path, constants.W_OK);
  } catch (cause) {
    throw ioError(
      path,
      `cannot make or write to the folder (${(cause as NodeJS.ErrnoException).code}); choose another`,
      { cause },
    );
  }
}

/** A file that results will go into: its folder is made, and a folder in its place is refused, before any work. */
export async function checkTarget(file: string): Promise<void> {
  await makeFolder(dirname(file));
  if ((await stat(file).catch(() => undefined))?.isDirectory()) {
    throw ioError(file, 'is a folder, expected the name of a file to write; choose another name');
  }
}

/** Messages of errors that a user can act on; anything else is a defect and shows where it happened. */
export function report(error: unknown): number {
  if (error instanceof ScionError) {
    const most = 20;
    for (const { path, message } of error.issues.slice(0, most)) note(`error: ${path ? `${path}: ` : ''}${message}`);
    if (error.issues.length > most) note(`error: and ${error.issues.length - most} more`);
    return error.exitCode;
  }
  note(`error: ${error instanceof Error ? error.message : String(error)}`);
  if (process.env.SCION_DEBUG && error instanceof Error) note(error.stack ?? '');
  else note('This is a defect of Scion. Run again with SCION_DEBUG=1 and report what it prints.');
  return 1;
}

/** Rows of words under headings, columns aligned; numbers to the right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const numeric = head.map((_, i) => rows.every((r) => /^[-–\d.,%± KM]*$/.test(r[i] ?? '')));
  const widths = head.map((h, i) => Math.max(h.length, ...rows.map((r) => (r[i] ?? '').length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((c, i) => (numeric[i] ? c.padStart(widths[i]!) : c.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd();
  return [line(head), line(widths.map((w) => '─'.repeat(w))), ...rows.map(line)].join('\n');
}

export const percent = (x: number): string => `${(100 * x).toFixed(2)} %`;

/** The calibration error of what is reported, and that before calibration. */
export const calibrationErrors = (ece: number, before: number | undefined): string =>
  `calibration error ${percent(ece)}` +
  (before === undefined || before === ece ? '' : ` (${percent(before)} uncalibrated)`);

const visible = (c: string): string => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** A file name or class name from outside, with characters that steer a terminal made visible. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}|\p{Bidi_Control}/gu, visible);
}

/** The same for text of several lines. JSON stays the same JSON, since these characters occur only in its strings. */
function escaped(text: string): string {
  return text.replace(/(?!\n)\p{Cc}|\p{Bidi_Control}/gu, visible);
}

/** A bar on a terminal, a line now and then elsewhere. */
export class Progress {
  private started = performance.now();
  private open = false;
  private last = 0;
  private readonly live = process.stderr.isTTY === true;

  constructor(private readonly enabled: boolean) {}

  /** `done` of `total`, and what is going on. */
  update(done: number, total: number, what: string): void {
    const now = performance.now();
    if (!this.enabled || (done < total && now - this.last < (this.live ? 100 : 5000))) return;
    this.last = now;
    const share = total ? Math.min(1, done / total) : 0;
    this.open = done < total;
    const left = share > 0 ? ((now - this.started) / 1000) * (1 / share - 1) : 0;
    const filled = Math.round(share * 24);
    const line =
      `${'█'.repeat(filled)}${'░'.repeat(24 - filled)} ${(100 * share).toFixed(0).padStart(3)} %  ${what}` +
      (done === 0 ? '' : done < total ? `  ${duration(left)} left` : `  ${duration((now - this.started) / 1000)}`);
    process.stderr.write(this.live ? `\r\x1b[K${line}${done >= total ? '\n' : ''}` : `${line}\n`);
  }

  /** A new piece of work, with a clock of its own. */
  restart(): void {
    this.started = performance.now();
    this.last = 0;
  }

  /** Ends a bar that did not reach its end. */
  end(): void {
    if (this.live && this.enabled && this.open) process.stderr.write('\n');
    this.open = false;
  }

  /** Clears the bar, so that a message can be written. */
  pause(): void {
    if (this.live && this.enabled) process.stderr.write('\r\x1b[K');
  }
}

/** Shows how far pictures have got, warnings, and what is left out. */
export function watchSource(progress: Progress): Required<Pick<SourceOptions, 'onEncode' | 'onWarning' | 'onBad'>> {
  let at = '';
  const say = (message: string): void => {
    progress.pause();
    note(message);
  };
  return {
    onEncode: (done, total, what) => {
      if (what !== at) progress.restart();
      at = what;
      progress.update(done, total, what);
    },
    onWarning: (warning) => say(`warning: ${warning}`),
    onBad: (error) => say(`left out: ${error.message}`),
  };
}

function duration(seconds: number): string {
  const s = Math.round(seconds);
  return s < 60
    ? `${s} s`
    : s < 3600
      ? `${Math.floor(s / 60)} min ${s % 60} s`
      : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/** Aborts on Ctrl-C and SIGTERM; a second one ends the process at once. */
export function interruptible(): AbortSignal {
  const controller = new AbortController();
  const stop = (signal: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(1);
    note(`${signal}: stopping after this step; once more to stop at once`);
    controller.abort();
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  return controller.signal;
}
