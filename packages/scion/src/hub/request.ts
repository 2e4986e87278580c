/** Requests to the hub: with the token for the hub alone, redirects, waits and further attempts; refusals in words. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorKind, ScionError, stopIf as stopWith } from '../util/errors.js';
import type { HubSettings } from './settings.js';

/** Who asks for what: for messages, and to stop. */
export interface HubConnection {
  readonly settings: HubSettings;
  /** The flag or key that the model was given by. */
  readonly where: string;
  /** `org/name` */
  readonly id: string;
  readonly revision: string;
  readonly signal?: AbortSignal | undefined;
  readonly onWarning?: ((warning: string) => void) | undefined;
}

/** The hub cannot be reached, or does not answer as it should; what is in the cache may still serve. */
export class Unreachable extends ScionError {
  constructor(connection: HubConnection, reason: string, options?: ErrorOptions & { before?: string }) {
    const { where, id, settings: { endpoint } } = connection;
    super('io', [{ path: where, message: `${id}: ${options?.before ?? ''}the hub ${endpoint} ${reason}` }], options);
  }
}

const attempts = 5;
const redirects = 10;
const passing = new Set([408, 429, 500, 502, 503, 504]);
/** Seconds that are waited at most where the hub asks to. */
const longestWait = 300;
/** Lists and descriptions are small; more is no such thing. */
const longestBody = 50_000_000;

/** An answer whose body has to be read with `read`, which gives up on a silent connection. */
export interface Answer {
  readonly response: Response;
  /** The parts of the body. @throws whatever ended the connection before its time */
  read(): AsyncGenerator<Uint8Array, void>;
  close(): Promise<void>;
}

/** Something passing: worth another attempt after `wait` milliseconds, or as many as the caller finds right. */
class Passing extends Error {
  constructor(message: string, readonly wait: number | undefined, readonly fatal: ScionError) {
    super(message, { cause: fatal.cause });
  }
}

/**
 * Asks with GET; waits and asks again after what passes.
 * @param patient whether a hub that is not there at all is asked again too
 * @throws ScionError: `usage` for a model or revision that is not there, `io` for everything else
 */
export async function request(
  connection: HubConnection, url: string, headers: Record<string, string> = {}, patient = false,
): Promise<Answer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await ask(connection, url, headers, patient);
    } catch (error) {
      if (!(error instanceof Passing)) throw error;
      if (attempt >= attempts) throw error.fatal;
      await pause(connection, attempt, error.message, error.wait);
    }
  }
}

/** Waits before another attempt and says so where it takes long. */
export async function pause(
  { settings, id, signal, onWarning }: HubConnection, attempt: number, why: string, asked?: number,
): Promise<void> {
  const wait = asked ?? settings.pause * 2 ** (attempt - 1) * (0.75 + Math.random() / 2);
  if (wait >= 1000) onWarning?.(`${id}: ${why}; asking again in ${Math.ceil(wait / 1000)} s`);
  await sleep(wait, undefined, signal ? { signal } : {}).catch(() => undefined);
  stopIf(signal);
}

export const stopIf = (signal: AbortSignal | undefined): void =>
  stopWith(signal, 'stopped; the same command goes on from what is downloaded');

/** The function that `@huggingface/hub` takes for `fetch`: answers are read whole, again where they break off. */
export function wholeFetch(connection: HubConnection): typeof fetch {
  return async (input, init) => {
    const url = input instanceof Request ? input.url : String(input);
    const headers = Object.fromEntries(new Headers(init?.headers));
    for (let attempt = 1; ; attempt++) {
      const answer = await request(connection, url, headers);
      try {
        return await whole(connection, answer);
      } catch (cause) {
        stopIf(connection.signal);
        if (cause instanceof ScionError) throw cause;
        const why = `broke off its answer (${reasonOf(cause)})`;
        if (attempt >= attempts) throw new Unreachable(connection, `${why}; try again later`, { cause });
        await pause(connection, attempt, `the hub ${why}`);
      } finally {
        await answer.close();
      }
    }
  };
}

async function whole(connection: HubConnection, answer: Answer): Promise<Response> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of answer.read()) {
    length += part.length;
    if (length > longestBody) throw new Unreachable(connection, `answers with more than ${longestBody} bytes`);
    parts.push(part);
  }
  // decoded by now, and the length was that of what was sent
  const headers = new Headers(answer.response.headers);
  for (const name of ['content-encoding', 'content-length']) headers.delete(name);
  return new Response(Buffer.concat(parts), { status: answer.response.status, headers });
}

async function ask(
  connection: HubConnection, from: string, headers: Record<string, string>, patient: boolean,
): Promise<Answer> {
  const { settings: { endpoint, token, timeout }, signal } = connection;
  let url = new URL(from);
  for (let hop = 0; hop <= redirects; hop++) {
    stopIf(signal);
    const silence = new AbortController();
    const stop = (): void => silence.abort(signal?.reason);
    signal?.addEventListener('abort', stop);
    let timer: NodeJS.Timeout | undefined;
    const wake = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(new Error(`nothing for ${timeout / 1000} s`)), timeout);
    };
    const close = async (): Promise<void> => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
      silence.abort();
      await response?.body?.cancel().catch(() => undefined);
    };
    let response: Response | undefined;
    wake();
    try {
      // the token is for the hub, wherever it sends us
      const known = token !== undefined && url.origin === new URL(endpoint).origin;
      response = await fetch(url, {
        headers: {
          'user-agent': 'scion-peft', ...headers, ...(known ? { authorization: `Bearer ${token}` } : {}),
        },
        redirect: 'manual', signal: silence.signal,
      });
    } catch (cause) {
      const reason = reasonOf(silence.signal.aborted ? silence.signal.reason : cause);
      await close();
      stopIf(signal);
      const fatal = new Unreachable(connection, `cannot be reached (${reason}); check the network, or HF_ENDPOINT; ` +
        'HF_HUB_OFFLINE=1 takes what is in the cache', { cause, before: 'no folder or file here, and ' });
      const absent = /ENOTFOUND|ECONNREFUSED|ENETUNREACH|EHOSTUNREACH/.test(reason);
      throw absent && !patient ? fatal : new Passing(`cannot be reached (${reason})`, undefined, fatal);
    }
    const { status } = response;
    const location = [301, 302, 303, 307, 308].includes(status) ? response.headers.get('location') : null;
    if (location === null) {
      if (response.ok) return { response, read: () => body(response, wake), close };
      const error = await refusal(connection, url, response, () => body(response, wake));
      await close();
      throw error;
    }
    await close();
    const next = URL.canParse(location, url.href) ? new URL(location, url) : undefined;
    const safe = next?.protocol === 'https:' || (next?.protocol === 'http:' && url.protocol === 'http:');
    if (!next || !safe) throw new Unreachable(connection, `leads to ${JSON.stringify(location.slice(0, 80))}: refused`);
    url = next;
  }
  throw new Unreachable(connection, `leads from one address to the next (${redirects} times); try again later`);
}

async function* body(response: Response, wake: () => void): AsyncGenerator<Uint8Array, void> {
  if (!response.body) return;
  for await (const part of response.body) {
    wake();
    yield part as Uint8Array;
  }
}

/** The system's word for why a request failed: fetch itself says no more than "fetch failed". */
export function reasonOf(cause: unknown): string {
  const inner = (cause as { cause?: { code?: string; message?: string } } | undefined)?.cause;
  return inner?.code ?? inner?.message ?? (cause instanceof Error ? cause.message : String(cause));
}

/** What the hub refuses, by its code or else by the status. */
async function refusal(
  connection: HubConnection, url: URL, response: Response, read: () => AsyncGenerator<Uint8Array>,
): Promise<ScionError | Passing> {
  const { settings: { endpoint, token }, where, id, revision } = connection;
  const { status, headers } = response;
  const code = headers.get('x-error-code') ?? '';
  const error = (kind: ErrorKind, message: string): ScionError =>
    new ScionError(kind, [{ path: where, message: `${id}: ${message}` }]);
  const own = url.origin === new URL(endpoint).origin;
  if (passing.has(status)) {
    const wait = waitOf(headers);
    const said = status === 429 ? 'the hub asks to wait (429, too many requests)' : `the hub answers with ${status}`;
    const hint = status === 429 && token === undefined ? '; with HF_TOKEN more requests are allowed' : '';
    const fatal = new Unreachable(connection, `answers with ${status}` +
      (wait === undefined ? '; try again later' : `, to be asked again in ${Math.ceil(wait)} s`) + hint);
    return wait !== undefined && wait > longestWait ? fatal
      : new Passing(said, wait === undefined ? undefined : 1000 * wait, fatal);
  }
  if (code === 'RevisionNotFound') {
    return error('usage',
      `has no revision ${JSON.stringify(revision)}; see ${endpoint}/${id}/tree/main for its branches`);
  }
  if (code === 'GatedRepo' || (own && status === 403)) {
    return error('io', `is handed out to those who accept its terms; do so at ${endpoint}/${id}` +
      (token === undefined ? ', and give an access token in HF_TOKEN'
        : ' with the account of the token, or use another'));
  }
  if (own && code !== 'EntryNotFound' && (code === 'RepoNotFound' || status === 401 || status === 404)) {
    const why = status === 401 && token !== undefined
      ? 'the hub refuses the access token (HF_TOKEN, or the file token in HF_HOME); make a new one, or take it away'
      : `no folder or file here, and the hub ${endpoint} has no such model` +
        (token === undefined ? ', or it is private: then give an access token in HF_TOKEN' : ' that this token may see') +
        '; check the name (scion models lists some)';
    return error(status === 401 && token !== undefined ? 'io' : 'usage', why);
  }
  let text = '';
  try {
    for await (const part of read()) if ((text += Buffer.from(part).toString('latin1')).length > 500) break;
  } catch { /* the status says enough */ }
  const said = (headers.get('x-error-message') ?? text).replace(/\s+/g, ' ').trim().slice(0, 200);
  return new Unreachable(connection, `answers with ${status}${said ? ` (${JSON.stringify(said)})` : ''} ` +
    `for ${url.origin}${url.pathname}; try again later`);
}

/** Seconds by Retry-After (seconds or a date), or by the hub's own RateLimit header. */
function waitOf(headers: Headers): number | undefined {
  const after = headers.get('retry-after');
  const seconds = after !== null && /^\d+(\.\d+)?$/.test(after.trim()) ? Number(after)
    : after !== null && !Number.isNaN(Date.parse(after)) ? (Date.parse(after) - Date.now()) / 1000
      : Number(/\bt=(\d+)/.exec(headers.get('ratelimit') ?? '')?.[1] ?? NaN);
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}
