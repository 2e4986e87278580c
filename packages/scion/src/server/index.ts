/** `scion serve`: finished runs behind HTTP. Pictures come as raw bodies or in a form; answers are JSON. */
import { type RunSet, ioError, openRuns } from '../index.js';
import { application } from './application.js';
import { type ServeOptions, type Settings, serveDefaults } from './settings.js';

export { type ServeOptions, serveDefaults } from './settings.js';

export interface Server {
  /** Such as `http://127.0.0.1:8080`. */
  readonly url: string;
  readonly runs: RunSet['runs'];
  /** Refuses new requests, answers those under way, then frees the models. */
  close(): Promise<void>;
}

/**
 * Serves runs by the names they are given.
 * @throws ScionError with all runs that cannot be loaded, or where the address cannot be listened on
 */
export async function serve(paths: Readonly<Record<string, string>>, options: ServeOptions = {}): Promise<Server> {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const settings: Settings = { ...serveDefaults, ...given };
  const runs = await openRuns(paths, options);
  const app = application(runs, settings);
  const { host, port } = settings;
  try {
    const url = await app.listen({ host, port });
    return { url, runs: runs.runs, close: () => app.close() };
  } catch (cause) {
    await app.close();
    const { code } = cause as NodeJS.ErrnoException;
    if (code === undefined) throw cause;
    throw ioError('--port', `cannot listen on ${host}:${port} (${reasons[code] ?? code}); choose another`, { cause });
  }
}

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another program does already', EACCES: 'permission denied', EADDRNOTAVAIL: 'no such address here',
  ENOTFOUND: 'no such host',
};
