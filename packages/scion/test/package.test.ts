/** The published package: what is in it, and that it works where it is installed. */
import { cp, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { repository, succeed } from './command.js';

interface Packed { filename: string; size: number; unpackedSize: number; files: { path: string; mode: number; size: number }[] }

const source = join(repository, 'packages/scion');
const features = 'features.safetensors';
let folder: string;
let packed: Packed;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-package-'));
  const json = await succeed('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], source);
  [packed] = JSON.parse(json) as [Packed];
  await writeFile(join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  await succeed('npm', [
    'install', `./${packed.filename}`, '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund',
  ], folder);
  await cp(join(repository, 'fixtures/features/pictograms.safetensors'), join(folder, features));
}, 300_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

const installed = (args: readonly string[]): Promise<string> =>
  succeed(process.execPath, ['node_modules/scion-peft/dist/cli/main.js', ...args], folder);

test('holds what is needed and nothing else', () => {
  const modes = new Map(packed.files.map(({ path, mode }) => [path, mode]));
  expect([...modes.keys()]).toEqual(expect.arrayContaining([
    'LICENSE', 'README.md', 'package.json', 'dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js',
    'dist/runtime/worker.js',
  ]));
  const expected = /^(LICENSE|README\.md|package\.json|dist\/[\w/-]+\.(js|d\.ts)|(models|datasets)\/[\w-]+\/[\w.-]+)$/;
  expect([...modes.keys()].filter((p) => !expected.test(p))).toEqual([]);
  expect([...modes.keys()].filter((p) => /test/.test(p))).toEqual([]);
  expect(modes.get('dist/cli/main.js')! & 0o111).toBe(0o111);
  const code = packed.files.filter(({ path }) => path.startsWith('dist/')).reduce((sum, { size }) => sum + size, 0);
  expect(code).toBeLessThan(2_200_000);
  // the built-in models (11, 8 and 8 MB) and Picto-11 (7 MB)
  expect(packed.unpackedSize - code).toBeLessThan(36_000_000);
});

test('the command trains, evaluates and predicts', async () => {
  const words = ['train', '--features', features, '--shots', '4', '--epochs', '20', '--out', 'run', '--json'];
  const trained = JSON.parse(await installed(words)) as { accuracy: number };
  expect(trained.accuracy).toBeGreaterThan(0.75);
  const evaluated = JSON.parse(await installed(['eval', 'run', '--json'])) as { accuracy: number; rows: number };
  expect(evaluated).toMatchObject({ accuracy: trained.accuracy, rows: 471 });
  const predicted = await installed(['predict', 'run', '--features', features, '--json']);
  const { predictions } = JSON.parse(predicted) as { predictions: unknown[] };
  expect(predictions).toHaveLength(471);
  // npm links the command under its name
  expect(await succeed('npx', ['--no-install', 'scion', '--version'], folder)).toMatch(/^\d+\.\d+\.\d+\s*$/);
}, 120_000);

test('the library trains, loads and predicts', async () => {
  await writeFile(join(folder, 'use.mjs'), `
    import { ScionError, loadRun, readFeatureFile, train } from 'scion-peft';
    const trained = await train({ features: '${features}', method: 'tip-adapter', shots: 4, out: 'library' });
    const { accuracy } = trained.info.result.test;
    await trained.close();
    const run = await loadRun('library');
    const { test } = await readFeatureFile('${features}', { test: true });
    const predictions = await run.predict(test.features, { top: 1 });
    const right = predictions.filter(({ classes }, row) => classes[0].index === test.labels[row]).length;
    await run.close();
    const refused = await loadRun('nothing').catch((error) => error instanceof ScionError);
    console.log(JSON.stringify({ accuracy, counted: right / test.labels.length, refused }));
  `);
  const said = await succeed(process.execPath, ['use.mjs'], folder);
  const result = JSON.parse(said) as { accuracy: number; counted: number; refused: boolean };
  expect(result.accuracy).toBeGreaterThan(0.75);
  expect(result.counted).toBe(result.accuracy);
  expect(result.refused).toBe(true);
}, 120_000);

test('pictures, with the built-in model of the installed package, which is said to be for pictograms', async () => {
  const fixture = join(repository, 'fixtures/clip/pictures');
  const data = join(fixture, 'data');
  await installed(['train', '--data', data, '--method', 'zero-shot', '--shots', '1', '--out', 'pictures']);
  const info = JSON.parse(await readFile(join(folder, 'pictures/run.json'), 'utf8')) as {
    warnings: string[]; pictures: { model: { name: string } } };
  expect(info.pictures.model.name).toBe('picto');
  expect(info.warnings.join()).toMatch(/is the built-in picto, for pictograms.*for photographs name another/);
  const said = await installed(['predict', 'pictures', join(data, 'test'), '--json']);
  const { predictions } = JSON.parse(said) as { predictions: unknown[] };
  expect(predictions).toHaveLength(3);

  await writeFile(join(folder, 'serve.mjs'), `
    import { serve } from 'scion-peft/server';
    const server = await serve({ pictures: 'pictures' }, { port: 0 });
    const response = await fetch(server.url + '/health');
    console.log(JSON.stringify(await response.json()));
    await server.close();
  `);
  expect(JSON.parse(await succeed(process.execPath, ['serve.mjs'], folder))).toMatchObject({ runs: ['pictures'] });
  await installed(['export', 'pictures', 'exported', '--to', 'onnx']);
  expect(await readdir(join(folder, 'exported'))).toContain('model.onnx');
}, 120_000);

test('the types are enough for a strict consumer', async () => {
  await writeFile(join(folder, 'consumer.ts'), `
    import { type Prediction, type Run, ScionError, exportRun, float32, loadRun, methodNames, train } from 'scion-peft';
    import { type Server, serve } from 'scion-peft/server';
    export async function first(path: string): Promise<Prediction | undefined> {
      const run: Run = await loadRun(path);
      const [prediction] = await run.predict(float32([1, 2], [1, 2]), { top: 1 });
      return prediction;
    }
    export const names: string[] = methodNames();
    export const fromPictures = train({ data: 'x', model: 'picto', views: 2, templates: ['a {}'], out: 'y' });
    export const started = train({ features: 'x', method: 'taskres', shots: 'all', training: { lr: 1e-3 }, out: 'y' });
    // @ts-expect-error: the methods' configuration is a record
    export const wrong = train({ features: 'x', config: 3, out: 'y' });
    export const server: Promise<Server> = serve({ a: 'x' }, { port: 0, onDefect: (error: unknown) => console.log(error) });
    export const exported = exportRun('x', 'y', { to: 'onnx', dtypes: ['fp16'] }).then(({ files }) => files.join());
    export const isOurs = (e: unknown): boolean => e instanceof ScionError && e.exitCode === 2;
  `);
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({
    compilerOptions: {
      strict: true, exactOptionalPropertyTypes: true, target: 'ES2022',
      module: 'NodeNext', moduleResolution: 'NodeNext',
      noEmit: true, skipLibCheck: false,
      types: ['node'], typeRoots: [join(repository, 'node_modules/@types')],
    },
    files: ['consumer.ts'],
  }));
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  await expect(succeed(process.execPath, [tsc, '-p', '.'], folder)).resolves.toBe('');
}, 120_000);

test('the readme of the package names the command and the library', async () => {
  const text = await readFile(join(folder, 'node_modules/scion-peft/README.md'), 'utf8');
  expect(text).toContain('scion compare');
  expect(text).toContain("from 'scion-peft'");
});
