/**
 * Training against PyTorch and Python's PEFT: the losses of 30 steps and the values after them, from the same initial
 * values, pictures, texts and order of rows (fixtures/loss-curves).
 */
import { expect, test } from 'vitest';
import { readSafetensors } from '../src/formats/safetensors-node.js';
import { readCheckpoint } from '../src/hub/checkpoint.js';
import { type Clip, loadClip } from '../src/models/clip/model.js';
import { expectClose, fixtures, testRuntime } from '../src/models/testing/reference.js';
import * as f from '../src/nn/functional.js';
import type { Parameter } from '../src/nn/parameter.js';
import { adamw } from '../src/optim/adam.js';
import type { Optimizer } from '../src/optim/optimizer.js';
import { unfreeze } from '../src/peft/backbone-method.js';
import { attachLora, loraConfig } from '../src/peft/lora/index.js';
import type { Tensors } from '../src/runtime/session.js';
import { compileTraining, stepScalars } from '../src/trainer/compile.js';
import { openProgram } from '../src/trainer/program.js';
import { type Tensor, float32, int64, scalar, toFloat32, toFloat64, zeros } from '../src/util/tensor.js';

const runtime = testRuntime();
const read = async (name: string): Promise<ReadonlyMap<string, Tensor>> =>
  (await readSafetensors(`${fixtures}${name}.safetensors`)).tensors;
const data = await read('loss-curves/data');
const weights = await read('clip/quick-gelu/model');

interface Case {
  attach(clip: Clip, context: { read(p: Parameter): Promise<Tensor<'float32'>> }): Promise<unknown>;
  optimizer: Optimizer;
  lr: number;
  /** Where the values after training are not compared. */
  loose?: RegExp;
}

const cases: Record<string, Case> = {
  lora: {
    attach: (clip, context) => attachLora(clip, loraConfig.parse({ r: 4, lora_alpha: 8 }), context),
    optimizer: adamw(), lr: 1e-3,
  },
  bitfit: {
    attach: (clip, context) => unfreeze(
      [...clip.parameters()].filter(([name]) => name.endsWith('.bias')).map(([, p]) => p), context),
    optimizer: adamw(), lr: 1e-3,
    // softmax does not see a bias of the keys: its gradient is 0 but for rounding, which Adam's division makes steps of
    loose: /k_proj\.bias$/,
  },
};

/** Rows of a tensor, as a tensor. */
function rowsOf({ shape: [, ...rest], data: all }: Tensor, rows: readonly number[]): Tensor<'float32'> {
  const size = rest.reduce((a, b) => a * b, 1);
  return float32([rows.length, ...rest], rows.flatMap((r) => [...(all as Float32Array).subarray(r * size, (r + 1) * size)]));
}

/** The losses and last values of training on the fixture's batches. */
async function train(
  clip: Clip, { optimizer, lr }: Case, initial: (name: string) => Tensor,
): Promise<{ losses: number[]; final: Tensors }> {
  const [images, ids, order, labels] = ['images', 'ids', 'order', 'labels'].map((name) => data.get(name)!) as [Tensor, Tensor, Tensor, Tensor];
  const [steps, batch] = order.shape as [number, number];
  const program = compileTraining({
    build: (graph) => {
      const pictures = clip.imageFeatures(graph.input('images', 'float32', [batch, ...images.shape.slice(1)]));
      const texts = clip.textFeatures(graph.input('ids', 'int64', ids.shape, 'frozen'));
      return { loss: f.crossEntropy(clip.logits(pictures, texts), graph.input('labels', 'int64', [batch])) };
    },
    optimizer, groups: [{ name: 'all', match: () => true, lr }],
  });
  const state = Object.fromEntries([...program.state].map(([name, { shape, parameter }]) =>
    [name, parameter ? initial(name) : zeros('float32', shape)]));
  const session = await openProgram(runtime, program, { ids, ...state });
  try {
    const losses = [];
    for (let step = 0; step < steps; step++) {
      const rows = [...toFloat64(order).subarray(step * batch, (step + 1) * batch)];
      const scalars = Object.entries(stepScalars(program, step, 1)).map(([name, v]) => [name, scalar(v)] as const);
      const { loss } = await session.run({
        ...Object.fromEntries(scalars), images: rowsOf(images, rows), labels: int64([batch], rows.map((r) => Number(labels.data[r]))),
      }, { carry: program.carry, fetch: ['loss'] });
      losses.push((loss!.data as Float32Array)[0]!);
    }
    const names = [...program.state].filter(([, { parameter }]) => parameter).map(([name]) => name);
    return { losses, final: await session.held(names) };
  } finally {
    await session.release();
  }
}

test.each(Object.entries(cases))('%s trains as in PyTorch, step for step', async (name, one) => {
  const want = await read(`loss-curves/${name}`);
  const clip = loadClip(await readCheckpoint(`${fixtures}clip/quick-gelu`));
  await one.attach(clip, { read: (p) => Promise.resolve(toFloat32(weights.get(p.name)!)) });
  const { losses, final } = await train(clip, one, (key) => want.get(`initial.${key}`)!);

  const [theirs, untrained] = [toFloat64(want.get('losses')!), toFloat64(want.get('untrained')!)];
  const apart = (a: ArrayLike<number>, b: Float64Array): number =>
    Math.max(...b.map((v, i) => Math.abs(a[i]! - v) / Math.abs(v)));
  expect(losses.length).toBe(30);
  expect(apart(losses, theirs)).toBeLessThan(1e-4);
  // training has an effect far above the tolerance
  expect(apart(theirs, untrained)).toBeGreaterThan(1e-2);

  const names = [...want.keys()].filter((key) => key.startsWith('final.')).map((key) => key.slice('final.'.length));
  expect(Object.keys(final).sort()).toEqual(names.sort());
  for (const key of names) {
    if (!one.loose?.test(key)) expectClose(final[key], want.get(`final.${key}`)!, key, 1e-4);
  }
});
