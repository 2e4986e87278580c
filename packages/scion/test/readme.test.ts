/** Runs what the README, the recipes and the examples show, in a copy of what they need. */
import { cp, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { repository, run, scion, serve, succeed } from './command.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-readme-'));
  for (const name of ['fixtures', 'recipes', 'examples']) {
    await cp(join(repository, name), join(folder, name), {
      recursive: true, filter: (path) => !path.endsWith('node_modules'),
    });
  }
  // imports of scion-peft lead to the workspace
  await symlink(join(repository, 'node_modules'), join(folder, 'node_modules'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const readme = await readFile(join(repository, 'README.md'), 'utf8');
const workspace = await readFile(join(repository, 'package.json'), 'utf8');
const { scripts } = JSON.parse(workspace) as { scripts: Record<string, string> };

function blocks(language: string): string[] {
  return [...readme.matchAll(/^```(\S*)\n([\s\S]*?)^```$/gm)].flatMap(([, l, text]) => (l === language ? [text!] : []));
}

/** Single commands: comments dropped, `&&` and `npm run` taken apart, continued lines joined. */
function commands(text: string): string[] {
  return text.replace(/\\\n\s*/g, ' ').split('\n').map((line) => line.replace(/(^|\s)#.*$/, '').trim()).filter(Boolean)
    .flatMap((line) => line.split(' && ')).flatMap((command) => {
      const [, name, more] = /^npm run (?:--silent )?(\w+)(?: -- (.*))?$/.exec(command) ?? [];
      if (name === undefined) return [command];
      expect(scripts, command).toHaveProperty(name);
      return `${scripts[name]}${more === undefined ? '' : ` ${more}`}`.split(' && ');
    });
}

/** What is shown and not run here, with where it is tested. */
const elsewhere: [RegExp, string][] = [
  [/^npm ci$/, 'by everyone who runs the tests'],
  [/^npm run build( |$)/, 'the tests run on the build'],
  [/^npm test$/, 'this is it'],
  [/^npm run lint$|^eslint /, 'by .ci/run'],
  [/^(ONNXRUNTIME_NODE_INSTALL=skip )?npm install scion-peft$/, 'package.test.ts, with the packed file'],
  [/^alias scion="node \$PWD\/packages\/scion\/dist\/cli\/main\.js"$/, 'below'],
  [/^node examples\/server\.mjs |^curl /, 'below'],
];

/** Mean accuracies of the first table of `scion compare`, by method: groups of test rows have their own below. */
const means = (text: string): Record<string, number[]> => Object.fromEntries([...text.matchAll(/^(\S+) .*\d ± .*$/gm)]
  .reverse().map(([line, method]) => [method!, [...line.matchAll(/([\d.]+) ±/g)].map(([, mean]) => Number(mean))]));

/** The table shown is the one that comes out, within the point that processors may differ by. */
function expectTable(stdout: string): void {
  const [shown, printed] = [means(readme), means(stdout)];
  expect(Object.keys(printed)).toHaveLength(3);
  expect(Object.keys(shown)).toEqual(Object.keys(printed));
  for (const [method, row] of Object.entries(printed)) {
    row.forEach((mean, i) => expect(Math.abs(mean - shown[method]![i]!), `${method}: ${mean}`).toBeLessThan(1));
  }
}

describe('README', () => {
  const shown = blocks('sh').flatMap(commands);
  const [demo] = commands('npm run demo').slice(-1);
  const runnable = shown.filter((c) => !elsewhere.some(([pattern]) => pattern.test(c)));

  test('shows commands', () => {
    expect(runnable.filter((c) => /^scion (train|eval|predict|compare)/.test(c)).length).toBeGreaterThanOrEqual(4);
    expect(shown).toContain('npm test');
    expect(existsSync(scion)).toBe(true);
  });

  // in order, since the later ones use the runs of the earlier ones
  test.each(runnable)('%s', async (command) => {
    const words = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
    const script = words[0] === 'scion' ? scion : join(repository, words.splice(1, 1)[0]!);
    expect(['scion', 'node'], `no rule for "${command}"`).toContain(words[0]);
    expect(existsSync(script), script).toBe(true);
    const stdout = await succeed(process.execPath, [script, ...words.slice(1)], folder);
    expect(stdout.trim()).not.toBe('');
    if (command === demo) expectTable(stdout);
    const html = words[words.indexOf('--html') + 1];
    if (words.includes('--html')) expect(await readFile(join(folder, html!), 'utf8')).toContain('</html>');
  }, 240_000);

  test('links lead somewhere', () => {
    const links = [...readme.matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, to]) => to!);
    expect(links.length).toBeGreaterThan(3);
    expect(links.filter((to) => !existsSync(join(repository, to)))).toEqual([]);
  });

  test('the library snippet compiles and runs', async () => {
    const [snippet, ...more] = blocks('ts');
    expect(more).toEqual([]);
    const file = join(folder, 'snippet.mts');
    await writeFile(file, snippet!);
    const options: ts.CompilerOptions = {
      strict: true, noUncheckedIndexedAccess: true, module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022,
      moduleResolution: ts.ModuleResolutionKind.NodeNext, skipLibCheck: true, types: ['node'],
      typeRoots: [join(repository, 'node_modules/@types')],
    };
    const program = ts.createProgram([file], options);
    program.emit();
    const problems = ts.getPreEmitDiagnostics(program).map((d) => ts.flattenDiagnosticMessageText(d.messageText, '\n'));
    expect(problems).toEqual([]);
    expect(await succeed(process.execPath, [join(folder, 'snippet.mjs')], folder)).toMatch(/\d/);
  }, 120_000);
});

describe('recipes', async () => {
  const names = (await readdir(join(repository, 'recipes'))).filter((name) => name.endsWith('.yaml')).sort();

  test.each(names)('%s', async (name) => {
    const text = await readFile(join(folder, 'recipes', name), 'utf8');
    const comparison = /^methods:/m.test(text);
    const command = comparison ? 'compare' : 'train';
    const [, example] = new RegExp(`^# {3}scion (${command} --recipe recipes/${name} .*)$`, 'm').exec(text) ?? [];
    expect(example, 'the head shows how to run it').toBeDefined();
    // data that are made on the spot, where no command of the README has made them
    const [, data] = /^# {3}scion (world \S+ .*)$/m.exec(text) ?? [];
    if (data !== undefined && !existsSync(join(folder, data.split(/\s+/)[1]!))) {
      await succeed(process.execPath, [scion, ...data.split(/\s+/)], folder);
    }
    // the whole comparison takes long; one seed and one number of shots show that it runs
    const less = comparison ? ['--shots', '1', '--seeds', '1'] : [];
    const stdout = await succeed(process.execPath, [scion, ...example!.split(/\s+/), ...less, '--json'], folder);
    const result = JSON.parse(stdout) as { accuracy?: number; test?: { examples: number }; cells?: { accuracy: number }[] };
    if (/^task:/m.test(text)) { // so few scenes teach little: its test has been made
      expect(result.test!.examples).toBeGreaterThan(5);
      return;
    }
    const accuracies = result.cells?.map((c) => c.accuracy) ?? [result.accuracy];
    for (const accuracy of accuracies) expect(accuracy).toBeGreaterThan(0.5);
  }, 240_000);
});

interface Answer { predictions?: { label: string; classes: unknown[] }[]; error?: string }

describe('examples/server.mjs', () => {
  test('classifies, and says what is wrong with a request', async () => {
    await mkdir(join(folder, 'runs'), { recursive: true });
    const words = ['--features', 'fixtures/features/pictograms.safetensors', '--method', 'zero-shot', '--out', 'runs/served'];
    await succeed(process.execPath, [scion, 'train', ...words], folder);
    const { child, url } = await serve(['examples/server.mjs', 'runs/served', '0'], folder);
    try {
      const about = await (await fetch(url)).json() as { dim: number; classes: string[] };
      expect(about).toMatchObject({ dim: 64, method: 'zero-shot' });
      const post = async (body: string): Promise<{ status: number; value: Answer }> => {
        const response = await fetch(url, { method: 'POST', body });
        return { status: response.status, value: await response.json() as Answer };
      };
      const row = Array.from({ length: 64 }, (_, i) => Math.sin(i));
      const { status, value } = await post(JSON.stringify({ features: [row, row], top: 3 }));
      expect(status).toBe(200);
      expect(value.predictions).toHaveLength(2);
      expect(value.predictions![0]!.classes).toHaveLength(3);
      expect(about.classes).toContain(value.predictions![0]!.label);
      for (const [body, message] of [
        ['{', /no JSON/], ['null', /rows of 64 numbers/], ['{"features": [["a"]]}', /rows of 64 numbers/],
        ['{"features": [[1, 2]]}', /expected 64/], [JSON.stringify({ features: [row], top: 0 }), /top/],
      ] as const) {
        const refused = await post(body);
        expect(refused.status).toBe(400);
        expect(refused.value.error).toMatch(message);
      }
    } finally {
      const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
      child.kill('SIGTERM');
      expect(await ended).toBe(0);
    }
  }, 60_000);

  test('without a run it says so', async () => {
    const { code, stderr } = await run(process.execPath, ['examples/server.mjs', 'runs/nothing'], folder);
    expect(code).toBe(1);
    expect(stderr).toMatch(/is no run folder/);
  });
});
