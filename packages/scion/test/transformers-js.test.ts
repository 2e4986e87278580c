/** What `scion export --to transformers.js` writes is loaded by the real package, offline, and scores as `predict`. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { env, pipeline } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { exportRun, loadRun, train } from '../src/index.js';
import { getMethod, isBackboneMethod } from '../src/peft/index.js';
import { repository } from './command.js';
import { makeData, model, picture } from './support/pictures.js';

let folder: string;
let data: string;
/** As large as the models see them, so that neither side has to resize. */
let files: Record<keyof typeof backbones, string[]>;
const backbones = { clip: model, picto: 'picto', onnx: join(repository, 'fixtures/onnx/clip') } as const;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-transformers-'));
  env.allowRemoteModels = false;
  env.localModelPath = `${folder}/`;
  data = await makeData(join(folder, 'data'), { train: 3 });
  files = { clip: [], picto: [], onnx: [] };
  for (const [name, size] of [['clip', 16], ['picto', 64]] as const) {
    for (const colour of [0, 1, 2]) {
      const file = join(folder, `${name}-${colour}.png`);
      await writeFile(file, await picture(colour, 90 + colour, size));
      files[name].push(file);
    }
  }
  files.onnx = files.clip;
});
afterAll(() => rm(folder, { recursive: true }));

async function scores(run: string, paths: readonly string[]): Promise<Record<string, number>[]> {
  const loaded = await loadRun(run);
  try {
    return (await loaded.predictImages(paths)).map(({ classes }) =>
      Object.fromEntries(classes.map(({ label, probability }) => [label, probability])));
  } finally {
    await loaded.close();
  }
}

interface Scored { label: string; score: number }
const byLabel = (found: readonly Scored[]): Record<string, number> =>
  Object.fromEntries(found.map(({ label, score }) => [label, score]));

function expectClose(found: Record<string, number>, expected: Record<string, number>, tolerance: number): void {
  expect(Object.keys(found).sort()).toEqual(Object.keys(expected).sort());
  for (const [label, p] of Object.entries(expected)) expect(Math.abs(found[label]! - p)).toBeLessThan(tolerance);
}

type Classifier = (image: string, options?: object) => Promise<Scored[]>;
type ZeroShot = (image: string, labels: string[], options?: object) => Promise<Scored[]>;
const load = async <P>(task: 'image-classification' | 'zero-shot-image-classification', name: string):
Promise<P & { dispose(): Promise<void> }> => await pipeline(task, name) as never;

/** Methods inside the backbone need no whole training here. */
const brief = (method: string): object => (isBackboneMethod(getMethod(method)) ? { training: { epochs: 2 } } : {});

describe.each([
  ['graph-adapter', 'clip', ['fp32'], 1e-5], ['tip-adapter-f', 'picto', ['fp32'], 1e-4],
  ['taskres', 'picto', ['fp16'], 2e-2], ['linear-probe', 'picto', ['q8', 'fp32'], 0.1],
  ['taskres', 'onnx', ['fp32'], 1e-5], ['lora', 'clip', ['fp32'], 1e-4], ['prompt-tuning', 'clip', ['fp32', 'q8'], 1e-4],
] as const)('a run of %s on %s, weights %s', (method, backbone, dtypes, tolerance) => {
  test('is an image-classification model', async () => {
    const name = `${method}-${backbone}`;
    const run = join(folder, `run-${name}`);
    await (await train({ data, model: backbones[backbone], method, shots: 2, cache: false, out: run, ...brief(method) })).close();
    await exportRun(run, join(folder, name), { to: 'transformers.js', dtypes });
    const classify = await load<Classifier>('image-classification', name);
    const expected = await scores(run, files[backbone]);
    for (const [i, file] of files[backbone].entries()) {
      expectClose(byLabel(await classify(file, { top_k: null })), expected[i]!, tolerance);
    }
    await classify.dispose();
  });
});

describe.each([
  ['zero-shot', 'clip'], ['clip-adapter', 'clip'], ['zero-shot', 'picto'], ['zero-shot', 'onnx'],
  ['lora', 'clip'], ['lora', 'onnx'], ['adapter', 'clip'], ['full-finetuning', 'picto'],
] as const)('a run of %s on %s', (method, backbone) => {
  test('is a zero-shot-image-classification model, asked about its own classes or others', async () => {
    const name = `dual-${method}-${backbone}`;
    const run = join(folder, `run-${name}`);
    const trained = await train({
      data, model: backbones[backbone], method, shots: 2, cache: false, out: run, templates: ['a picture of {}'],
      ...brief(method),
    });
    const labels = [...trained.classNames];
    await trained.close();
    await exportRun(run, join(folder, name), { to: 'transformers.js', task: 'zero-shot-image-classification' });
    const ask = await load<ZeroShot>('zero-shot-image-classification', name);
    const expected = await scores(run, files[backbone]);
    const hypothesis_template = 'a picture of {}';
    for (const [i, file] of files[backbone].entries()) {
      expectClose(byLabel(await ask(file, labels, { hypothesis_template })), expected[i]!, 1e-4);
    }
    const other = await ask(files[backbone][0]!, ['a very long description of an arrow that points left', 'arrow']);
    expect(other.map(({ score }) => score).reduce((x, y) => x + y)).toBeCloseTo(1, 5);
    await ask.dispose();
  });
});

test('weights in a file of their own are found', async () => {
  const run = join(folder, 'run-external');
  await (await train({ data, model, method: 'taskres', shots: 2, cache: false, out: run })).close();
  const exported = await exportRun(run, join(folder, 'external'), { to: 'transformers.js', inlineLimit: 2000 });
  expect(exported.files).toContain('onnx/model.onnx_data');
  const classify = await load<Classifier>('image-classification', 'external');
  const [expected] = await scores(run, [files.clip[0]!]);
  expectClose(byLabel(await classify(files.clip[0]!, { top_k: null })), expected!, 1e-5);
  await classify.dispose();
  expect(dirname(exported.folder)).toBe(folder);
});
