/** Where the hub is, where its cache lies and who asks: the environment variables of Python's huggingface_hub. */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { systemError } from '../formats/files.js';
import { usageError } from '../util/errors.js';

export interface HubSettings {
  /** `HF_ENDPOINT`, without a slash at its end. */
  readonly endpoint: string;
  /** `HF_HUB_CACHE`, else `hub` in `HF_HOME`; absolute. */
  readonly cache: string;
  /** `HF_TOKEN`, else the content of the file `token` in `HF_HOME`. */
  readonly token?: string;
  /** `HF_HUB_OFFLINE`: nothing is asked over the network. */
  readonly offline: boolean;
  /** `HF_HUB_DOWNLOAD_TIMEOUT`: milliseconds without a byte after which a connection is given up. */
  readonly timeout: number;
  /** Milliseconds before the first further attempt, doubled for each one after it. */
  readonly pause: number;
}

/**
 * The settings that the environment gives.
 * @throws ScionError of kind `usage`: a value that cannot be meant, with the variable's name
 */
export async function hubSettings(env: NodeJS.ProcessEnv = process.env): Promise<HubSettings> {
  const path = (value: string): string => resolve(expanded(value, env));
  const home = env.HF_HOME ? path(env.HF_HOME)
    : join(env.XDG_CACHE_HOME ? path(env.XDG_CACHE_HOME) : join(homedir(), '.cache'), 'huggingface');
  const cache = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE;
  const token = await tokenOf(env, env.HF_TOKEN_PATH ? path(env.HF_TOKEN_PATH) : join(home, 'token'));
  return {
    endpoint: endpointOf(env.HF_ENDPOINT),
    cache: cache ? path(cache) : join(home, 'hub'),
    ...(token === undefined ? {} : { token }),
    offline: isTrue(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE),
    timeout: 1000 * secondsOf(env.HF_HUB_DOWNLOAD_TIMEOUT),
    pause: 1000,
  };
}

const isTrue = (value: string | undefined): boolean => /^(1|on|yes|true)$/i.test(value ?? '');

/** `~`, `$NAME` and `${NAME}` as a shell has them; names that are not set stay as they are. */
function expanded(path: string, env: NodeJS.ProcessEnv): string {
  return path
    .replace(/^~(?=[\\/]|$)/, homedir())
    .replace(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced?: string, bare?: string) => env[(braced ?? bare)!] ?? whole);
}

function endpointOf(value: string | undefined): string {
  if (!value) return 'https://huggingface.co';
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url?.protocol !== 'https:' && url?.protocol !== 'http:') {
    throw usageError('HF_ENDPOINT', `${JSON.stringify(value)}: expected an address such as https://huggingface.co`);
  }
  return value.replace(/\/+$/, '');
}

function secondsOf(value: string | undefined): number {
  if (!value) return 10;
  const seconds = Number(value);
  if (seconds > 0 && seconds <= 86_400) return seconds;
  throw usageError('HF_HUB_DOWNLOAD_TIMEOUT', `${JSON.stringify(value)}: expected seconds above 0, at most a day`);
}

async function tokenOf(env: NodeJS.ProcessEnv, file: string): Promise<string | undefined> {
  if (isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return undefined;
  const [where, text] = env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN
    ? ['HF_TOKEN', env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN]
    : [file, await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') return undefined;
      throw systemError(file, 'read it', cause);
    })];
  const token = text?.trim();
  if (!token) return undefined;
  // it goes into a header; what it holds is not shown
  if (/^[\x21-\x7e]{1,4096}$/.test(token)) return token;
  throw usageError(where, 'is no access token, expected one word such as hf_…; copy it again from your settings page');
}
