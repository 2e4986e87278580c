/** Whatever fails on the way, the threads that were started for it have ended when the error is there. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type * as WorkerThreads from 'node:worker_threads';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { openBackbone } from '../src/pipeline/backbone.js';
import { addClass, encodePictures, exportRun, openRuns, train } from '../src/index.js';
import type { OpenBackbone } from '../src/trainer/encode.js';
import { model, pictures } from './support/pictures.js';

const threads = vi.hoisted(() => ({ started: 0, ended: 0 }));
vi.mock('node:worker_threads', async (original) => {
  const module = await original<typeof WorkerThreads>();
  return {
    ...module,
    Worker: class extends module.Worker {
      constructor(...given: ConstructorParameters<typeof module.Worker>) {
        super(...given);
        threads.started++;
        this.on('exit', () => { threads.ended++; });
      }
    },
  };
});

const recipe = { data: pictures, model, method: 'zero-shot', shots: 1, cache: false } as const;
let folder: string;
let run: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-threads-'));
  run = join(folder, 'run');
  await (await train({ ...recipe, out: run })).close();
});
afterAll(() => rm(folder, { recursive: true }));
beforeEach(() => Object.assign(threads, { started: 0, ended: 0 }));

/** A backbone whose tower cannot be built, which is found out when it is compiled. */
const broken = (tower: 'image' | 'text'): OpenBackbone => async (...given) => {
  const backbone = await openBackbone(...given);
  const fail = (): never => { throw new Error(`no ${tower} tower`); };
  if (tower === 'image') return { ...backbone, encoder: { imageFeatures: fail } };
  const { tokenizer, encoder } = backbone.text!;
  return { ...backbone, text: { tokenizer, encoder: { textLength: encoder.textLength, textFeatures: fail, scale: fail } } };
};
const picture = join(pictures, 'test/grün/2.png');

test.each([
  ['encodePictures', 'image', (open: OpenBackbone) =>
    encodePictures({ data: pictures, model, cache: false }, { openBackbone: open })],
  ['encodePictures', 'text', (open: OpenBackbone) =>
    encodePictures({ data: pictures, model, cache: false }, { openBackbone: open })],
  ['train', 'text', (open: OpenBackbone) =>
    train({ ...recipe, out: join(folder, 'other') }, { openBackbone: open })],
  ['addClass', 'image', (open: OpenBackbone) =>
    addClass(run, { name: 'new', pictures: [picture] }, join(folder, 'more'), { openBackbone: open })],
  ['openRuns', 'image', (open: OpenBackbone) => openRuns({ run }, { openBackbone: open })],
  ['exportRun', 'text', (open: OpenBackbone) => exportRun(run, join(folder, 'exported'),
    { to: 'onnx', task: 'zero-shot-image-classification', openBackbone: open })],
] as const)('%s, where the %s tower cannot be compiled', async (_, tower, work) => {
  await expect(work(broken(tower))).rejects.toThrow(`no ${tower} tower`);
  expect(threads.ended).toBe(threads.started);
});

test('the threads of what succeeds are counted and end too', async () => {
  const runs = await openRuns({ run });
  expect(threads).toEqual({ started: 1, ended: 0 });
  await runs.close();
  expect(threads).toEqual({ started: 1, ended: 1 });
});
