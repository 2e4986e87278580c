/** Where features and digests are kept between runs. */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

/** `$SCION_CACHE`, else `scion` in `$XDG_CACHE_HOME` or in `~/.cache`; absolute. May be deleted at any time. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  if (env.SCION_CACHE) return resolve(env.SCION_CACHE);
  return join(env.XDG_CACHE_HOME ? resolve(env.XDG_CACHE_HOME) : join(homedir(), '.cache'), 'scion');
}
