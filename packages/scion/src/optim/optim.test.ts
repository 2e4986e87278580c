import { readdir } from 'node:fs/promises';
import { afterAll, describe, expect, test } from 'vitest';
import { readSafetensors } from '../formats/safetensors-node.js';
import { Graph, type Value } from '../ir/graph.js';
import { encodeModel } from '../onnx/encode.js';
import { nodeRuntime } from '../runtime/node.js';
import { type Tensor, float32, numel, scalar, zeros } from '../util/tensor.js';
import { adam, adamw } from './adam.js';
import { clipByGlobalNorm } from './clip.js';
import type { Optimizer } from './optimizer.js';
import { type ScheduleName, scheduleFactor } from './schedule.js';
import { sgd } from './sgd.js';

interface Settings {
  optimizer: 'sgd' | 'adam' | 'adamw';
  betas: [number, number];
  eps: number;
  momentum: number;
  nesterov: boolean;
  groups: { params: string[]; lr: number; weight_decay: number }[];
  clip: number | null;
  schedule: ScheduleName;
  warmup: number;
  total: number;
  steps: number;
}

const folder = new URL('../../../../fixtures/optim/', import.meta.url).pathname;
const files = (await readdir(folder)).filter((name) => name.endsWith('.safetensors')).sort();
const runtime = nodeRuntime();
afterAll(() => runtime.close());

const optimizers: Record<Settings['optimizer'], (s: Settings) => Optimizer> = {
  sgd: ({ momentum, nesterov }) => sgd({ momentum, nesterov }),
  adam: ({ betas, eps }) => adam({ betas, eps }),
  adamw: ({ betas, eps }) => adamw({ betas, eps }),
};

/** The part of a tensor [steps, ...] that belongs to one step. */
function atStep(t: Tensor, step: number): Tensor<'float32'> {
  const shape = t.shape.slice(1);
  const size = numel(shape);
  return float32(shape, (t.data as Float32Array).slice(step * size, (step + 1) * size));
}

/** Tolerance of the fixtures: 1e-6 absolute or 1e-5 relative. NaN is not close to anything. */
function expectClose(actual: Tensor, expected: Tensor, what: string): void {
  expect(actual.shape, what).toEqual(expected.shape);
  const [a, e] = [actual.data as Float32Array, expected.data as Float32Array];
  e.forEach((x, i) => {
    if (!(Math.abs(a[i]! - x) <= Math.max(1e-6, 1e-5 * Math.abs(x)))) {
      expect.fail(`${what}[${i}] is ${a[i]}, PyTorch gives ${x}`);
    }
  });
}

test('there are fixtures of every optimizer, schedule and of clipping', () => {
  for (const part of ['sgd', 'adam', 'adamw', 'clip', 'groups', 'linear', 'cosine', 'constant', 'warmup', 'nesterov']) {
    expect(files.some((f) => f.includes(part)), part).toBe(true);
  }
});

describe('20 steps as in PyTorch', () => {
  test.each(files)('%s', async (file) => {
    const { metadata, tensors } = await readSafetensors(folder + file);
    const settings = JSON.parse(metadata.settings!) as Settings;
    const names = settings.groups.flatMap((g) => g.params);
    const optimizer = optimizers[settings.optimizer](settings);
    const graph = new Graph();
    const shapes = new Map(names.map((n) => [n, tensors.get(`param.${n}`)!.shape]));
    const parameters = names.map((n) => graph.input(n, 'float32', shapes.get(n)!, 'state'));
    let gradients: Value[] = names.map((n) => graph.input(`grad.${n}`, 'float32', shapes.get(n)!));
    const rates = settings.groups.map((_, i) => graph.input(`lr.${i}`, 'float32', []));
    const scalars =
      Object.fromEntries(Object.keys(optimizer.scalars(1)).map((n) => [n, graph.input(n, 'float32', [])]));
    if (settings.clip !== null) {
      const clipped = clipByGlobalNorm(gradients, settings.clip);
      gradients = clipped.gradients;
      graph.output('norm', clipped.norm);
    }
    const carry: Record<string, string> = {};
    const state: Record<string, Tensor> = {};
    const next = (name: string, value: Value, start: Tensor): void => {
      graph.output(`next.${name}`, value);
      carry[`next.${name}`] = name;
      state[name] = start;
    };
    names.forEach((n, i) => {
      const group = settings.groups.findIndex((g) => g.params.includes(n));
      const slot = (s: string): string => `${n}.${s}`;
      const slots =
        Object.fromEntries(optimizer.slots.map((s) => [s, graph.input(slot(s), 'float32', shapes.get(n)!, 'state')]));
      const updated = optimizer.update({
        parameter: parameters[i]!, gradient: gradients[i]!, slots, lr: rates[group]!, scalars,
        weightDecay: settings.groups[group]!.weight_decay,
      });
      next(n, updated.parameter, tensors.get(`param.${n}`)!);
      expect(Object.keys(updated.slots).sort()).toEqual([...optimizer.slots].sort());
      for (const s of optimizer.slots) next(slot(s), updated.slots[s]!, zeros('float32', shapes.get(n)!));
    });
    const session = await runtime.load(encodeModel(graph));
    try {
      await session.hold(state);
      for (let step = 0; step < settings.steps; step++) {
        const factor = scheduleFactor(settings.schedule, step, settings.total, settings.warmup);
        const groupRates = settings.groups.map((g) => g.lr * factor);
        expectClose(float32([groupRates.length], groupRates), atStep(tensors.get('group_lr')!, step),
          `group_lr ${step}`);
        const outputs = await session.run({
          ...Object.fromEntries(names.map((n) => [`grad.${n}`, atStep(tensors.get(`grad.${n}`)!, step)])),
          ...Object.fromEntries(groupRates.map((lr, i) => [`lr.${i}`, scalar(lr)])),
          ...Object.fromEntries(Object.entries(optimizer.scalars(step + 1)).map(([n, v]) => [n, scalar(v)])),
        }, { carry });
        if (settings.clip !== null) expectClose(outputs.norm!, atStep(tensors.get('norm')!, step), `norm ${step}`);
        const now = await session.held(names);
        for (const n of names) expectClose(now[n]!, atStep(tensors.get(`after.${n}`)!, step), `step ${step} ${n}`);
      }
    } finally {
      await session.release();
    }
  });
});

describe('scheduleFactor', () => {
  test('warms up to 1, starts its schedule there and stays at its end beyond the last step', () => {
    expect([0, 1, 2, 3, 4].map((s) => scheduleFactor('constant', s, 10, 4))).toEqual([0.25, 0.5, 0.75, 1, 1]);
    expect([0, 5, 10, 20].map((s) => scheduleFactor('linear', s, 10))).toEqual([1, 0.5, 0, 0]);
    expect([0, 3, 8, 9, 10].map((s) => scheduleFactor('warmup_stable_decay', s, 10))).toEqual([1, 1, expect.closeTo(1), expect.closeTo(0.5), 0]);
    expect(scheduleFactor('cosine', 2, 10, 2)).toBe(1);
    expect(scheduleFactor('cosine', 6, 10, 2)).toBeCloseTo(0.5, 15);
    expect(scheduleFactor('cosine', 25, 10, 2)).toBe(0);
  });

  test('a warm-up as long as the training leaves no division by zero', () => {
    expect([0, 1, 2].map((s) => scheduleFactor('cosine', s, 2, 2))).toEqual([0.5, 1, 1]);
  });
});

describe('clipByGlobalNorm', () => {
  const clipped = async (maxNorm: number, values: readonly number[]): Promise<Float32Array> => {
    const graph = new Graph();
    graph.output('y', clipByGlobalNorm([graph.input('g', 'float32', [values.length])], maxNorm).gradients[0]!);
    const session = await runtime.load(encodeModel(graph));
    try {
      return (await session.run({ g: float32([values.length], values) })).y!.data as Float32Array;
    } finally {
      await session.release();
    }
  };

  test('keeps a zero gradient zero, not NaN, and one within the bound as it is', async () => {
    expect(await clipped(2, [0, 0, 0])).toEqual(Float32Array.of(0, 0, 0));
    expect(await clipped(2, [0.5, -1, 0.25])).toEqual(Float32Array.of(0.5, -1, 0.25));
  });

  test('adds 1e-6 to the norm, as PyTorch does', async () => {
    expect((await clipped(1e-6, [1e-6]))[0]! * 1e6).toBeCloseTo(0.5, 6);
  });
});
