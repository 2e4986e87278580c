/** Runs programs as users do, for the tests of the package as a whole. */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const repository = fileURLToPath(new URL('../../../', import.meta.url));
export const scion = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

export interface Result { code: number; stdout: string; stderr: string }

/** The environment without what `npm test` adds to it, which would lead an inner npm to this repository. */
const environment = Object.fromEntries(Object.entries(process.env)
  .filter(([name]) => !/^(npm_(package|lifecycle|config_local_prefix|config_workspace)|VITEST|NODE_ENV)/.test(name)));

/** Runs a program to its end. */
export function run(file: string, args: readonly string[], cwd: string): Promise<Result> {
  return new Promise((resolve) => {
    execFile(file, args, { cwd, env: environment, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      resolve({ code: error ? (typeof error.code === 'number' ? error.code : 1) : 0, stdout, stderr });
    });
  });
}

/** Runs a program that must succeed. @throws with all that it said otherwise */
export async function succeed(file: string, args: readonly string[], cwd: string): Promise<string> {
  const { code, stdout, stderr } = await run(file, args, cwd);
  if (code !== 0) throw new Error(`${file} ${args.join(' ')}: exit code ${code}\n${stdout}\n${stderr}`);
  return stdout;
}

/** Starts a server and waits for the address that it prints. */
export async function serve(
  args: readonly string[], cwd: string,
): Promise<{ child: ChildProcessWithoutNullStreams; url: string }> {
  const child = spawn(process.execPath, args, { cwd, env: environment });
  let said = '';
  const url = await new Promise<string>((resolve, reject) => {
    const read = (chunk: Buffer): void => {
      said += chunk.toString();
      const [address] = /http:\S+/.exec(said) ?? [];
      if (address !== undefined) resolve(address);
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    child.on('exit', (code) => reject(new Error(`the server ended with ${code}: ${said}`)));
  });
  return { child, url };
}
