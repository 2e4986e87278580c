/** `scion serve`: finished runs behind HTTP. */
import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { type Issue, ScionError } from '../../index.js';
import { serve, serveDefaults } from '../../server/index.js';
import { note, print } from '../output.js';

interface Options {
  host: string;
  port: string;
  model?: string;
  threads?: string;
  concurrency: string;
  maxBody: string;
  maxPixels: string;
  timeout: string;
  json?: boolean;
}

const bounds = {
  port: { least: 0, most: 65_535 },
  threads: { least: 1, most: 1024 },
  concurrency: { least: 1, most: 10_000 },
  maxBody: { least: 1, most: 512 },
  maxPixels: { least: 1, most: 1000 },
  timeout: { least: 1, most: 3600 },
} as const;
const flag = (name: string): string => `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;

export function addServe(program: Command): void {
  program
    .command('serve <runs...>')
    .summary('runs behind HTTP: POST /classify with a picture')
    .description(
      'Serves runs, each by the name of its folder or as name=folder. Runs on the same backbone share it. ' +
        'POST /classify takes a picture as body or in a form, with ?run=name&top=3&reject=0.95; ' +
        'GET /health, /runs and /metrics say how it goes.',
    )
    .option('--host <address>', 'the address to listen on', serveDefaults.host)
    .option('--port <n>', 'the port to listen on; 0 takes any free one', String(serveDefaults.port))
    .option('--model <name|path>', 'the backbone, where it is not where it was in training')
    .option('--threads <n>', 'threads of the backbone (all cores where not given)')
    .option('--concurrency <n>', 'requests worked on at once; more get 503', String(serveDefaults.concurrency))
    .option('--max-body <MiB>', 'largest body', String(serveDefaults.maxBodyBytes / 2 ** 20))
    .option('--max-pixels <millions>', 'most pixels of a picture', String(serveDefaults.maxPixels / 1e6))
    .option('--timeout <seconds>', 'for a body to arrive, and for the work on it', String(serveDefaults.timeout))
    .option('--json', 'print the address as JSON')
    .action(async (runs: string[], options: Options) => {
      const issues: Issue[] = [];
      const number = (key: keyof typeof bounds): number | undefined => {
        const text = options[key];
        if (text === undefined) return undefined;
        const [value, { least, most }] = [Number(text), bounds[key]];
        if (text.trim() !== '' && Number.isInteger(value) && value >= least && value <= most) return value;
        issues.push({ path: flag(key), message: `${text}: expected a whole number from ${least} to ${most}` });
        return undefined;
      };
      const [port, threads, concurrency, timeout] =
        [number('port'), number('threads'), number('concurrency'), number('timeout')];
      const [maxBody, maxPixels] = [number('maxBody'), number('maxPixels')];
      const paths = named(runs, issues);
      if (issues.length > 0) throw new ScionError('usage', issues);
      const stopped = new Promise<string>((done) => {
        for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => done(signal));
      });
      const server = await serve(paths, {
        host: options.host, port, model: options.model, threads, concurrency, timeout,
        maxBodyBytes: maxBody && maxBody * 2 ** 20,
        maxPixels: maxPixels && maxPixels * 1e6,
        onWarning: (warning) => note(`warning: ${warning}`),
        onDefect: (error) => note(`error: ${error instanceof Error ? error.stack ?? error.message : String(error)}`),
      });
      print(options.json === true, { url: server.url, runs: [...server.runs.keys()] }, () =>
        `${server.url} serves ${[...server.runs.keys()].join(', ')}`);
      const signal = await stopped;
      note(`${signal}: answering what is under way; once more to stop at once`);
      for (const again of ['SIGINT', 'SIGTERM'] as const) process.once(again, () => process.exit(1));
      await server.close();
    });
}

/** Folders by the names that requests will use. */
function named(runs: readonly string[], issues: Issue[]): Record<string, string> {
  const paths: Record<string, string> = {};
  for (const given of runs) {
    const [, own, path] = /^([\w.-]+)=(.+)$/.exec(given) ?? [undefined, undefined, given];
    const name = own ?? basename(resolve(path));
    if (Object.hasOwn(paths, name)) {
      const message = `two runs are called ${name}; name one with name=folder, such as ${name}-2=${path}`;
      issues.push({ path: given, message });
    }
    paths[name] = path!;
  }
  return paths;
}
