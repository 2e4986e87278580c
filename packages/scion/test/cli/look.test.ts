/** `scion methods`, `scion graph` and `scion doctor`. */
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import ort from 'onnxruntime-node';
import { beforeAll, describe, expect, test } from 'vitest';
import { methodNames } from '../../src/index.js';
import { json, refused, scratch, succeed } from '../support/cli.js';
import { tinyFile } from '../support/features.js';

const folder = await scratch();
const run = join(folder, 'run');
let features: string;
beforeAll(async () => {
  features = await tinyFile(folder);
  await succeed(['train', '--features', features, '--method', 'graph-adapter', '--shots', '2', '--epochs', '2',
    '--threads', '1', '--out', run]);
});

test('methods: what each has and what it was published with', async () => {
  const methods = await json<{ name: string; title: string; summary: string; config: object;
    training?: object }[]>(['methods']);
  expect(methods.map((m) => m.name)).toEqual(methodNames());
  for (const m of methods) {
    expect(m.title).not.toBe('');
    expect(m.summary).not.toBe('');
    expect(typeof m.config).toBe('object');
  }
  expect(methods.find((m) => m.name === 'tip-adapter-f')).toMatchObject({ config: { alpha: 1, beta: 5.5 },
    training: { optimizer: 'adamw' } });
  const text = await succeed(['methods']);
  for (const name of methodNames()) expect(text).toContain(name);
});

test('doctor: it works here', async () => {
  const report = await json<{ ok: boolean; gflops: number; scion: string; node: string }>(['doctor']);
  expect(report).toMatchObject({ ok: true, node: process.version });
  expect(report.gflops).toBeGreaterThan(0.1);
  expect(await succeed(['doctor'])).toContain('ONNX Runtime');
});

describe('graph', () => {
  interface Graph { method: string; parts: { name: string; nodes: number; text: string }[]; written: string[] }
  const loads = async (path: string): Promise<readonly string[]> => {
    const session = await ort.InferenceSession.create(path);
    const names = session.outputNames;
    await session.release();
    return names;
  };

  test('of a run: every part as text and as a model that ONNX Runtime loads', async () => {
    const { method, parts, written } = await json<Graph>(['graph', run]);
    expect(method).toBe('graph-adapter');
    expect(parts.map((p) => p.name)).toEqual(['prologue', 'step', 'predict-prologue', 'predict']);
    for (const { nodes, text } of parts) {
      expect(nodes).toBeGreaterThan(0);
      expect(text.split('\n').length).toBeGreaterThanOrEqual(nodes);
    }
    expect(written).toEqual(parts.map((p) => join(run, 'graph', `${p.name}.onnx`)));
    const outputs = await Promise.all(written.map(loads));
    expect(outputs[1]).toContain('loss');
    expect(outputs[3]).toEqual(['logits']);
    await succeed(['eval', run]); // a run with graphs beside is still a run
  });

  test('of a recipe and of flags: the same program, nothing written', async () => {
    const recipe = join(folder, 'r.yaml');
    await writeFile(recipe, 'features: tiny.safetensors\nmethod: taskres\nshots: 2\n');
    const before = await readdir(folder);
    const [a, b] = [await json<Graph>(['graph', recipe]),
      await json<Graph>(['graph', '--features', features, '--method', 'taskres', '--shots', '2'])];
    expect(b).toEqual(a);
    expect(a.written).toEqual([]);
    expect(await readdir(folder)).toEqual(before);
    expect(await succeed(['graph', recipe, '--part', 'step'])).toMatch(/^# step: \d+ nodes\n/);
  });

  test('to a folder of its own', async () => {
    const out = join(folder, 'a', 'b');
    const { written } = await json<Graph>(['graph', '--features', features, '--method', 'zero-shot', '--onnx', out]);
    expect(written).toEqual(['predict-prologue', 'predict'].map((part) => join(out, `${part}.onnx`)));
    expect(await loads(written[1]!)).toEqual(['logits']);
  });

  test('what there is not', async () => {
    await refused(folder, 2, ['graph', run, '--part', 'stepp'],
      ['--part', 'stepp: expected one of prologue, step, predict']);
    await refused(folder, 1, ['graph', join(folder, 'nowhere')], ['nowhere', 'cannot be read']);
    await refused(folder, 1, ['graph', folder], [folder, 'is no run folder']);
    await refused(folder, 2, ['graph', '--features', features, '--method', 'task'], ['unknown method "task"']);
  });
});
