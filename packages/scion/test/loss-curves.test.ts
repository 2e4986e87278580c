/**
 * Training against PyTorch and Python's PEFT: the losses of 30 steps and the values after them, from the same initial
 * values, pictures, texts and order of rows (fixtures/loss-curves).
 */
import { expect, test } from 'vitest';
import type { z } from 'zod';
import { readSafetensors } from '../src/formats/safetensors-node.js';
import { readCheckpoint } from '../src/hub/checkpoint.js';
import { type Clip, loadClip } from '../src/models/clip/model.js';
import { expectClose, fixtures, testRuntime } from '../src/models/testing/reference.js';
import * as f from '../src/nn/functional.js';
import { readParameter } from '../src/nn/parameter-values.js';
import { adamw } from '../src/optim/adam.js';
import type { Optimizer } from '../src/optim/optimizer.js';
import { sgd } from '../src/optim/sgd.js';
import { adapter } from '../src/peft/adapter/index.js';
import type { Attached, BackboneMethod, PromptWords } from '../src/peft/backbone-method.js';
import { bitFit } from '../src/peft/bitfit/index.js';
import { coop } from '../src/peft/coop/index.js';
import { lora } from '../src/peft/lora/index.js';
import type { Tensors } from '../src/runtime/session.js';
import { compileTraining, stepScalars } from '../src/trainer/compile.js';
import { openProgram } from '../src/trainer/program.js';
import { type Tensor, float32, int64, scalar, toFloat64, zeros } from '../src/util/tensor.js';

const runtime = testRuntime();
const read = async (name: string): Promise<ReadonlyMap<string, Tensor>> =>
  (await readSafetensors(`${fixtures}${name}.safetensors`)).tensors;
const data = await read('loss-curves/data');
const [begin, end, stop, context] = [48, 37, 40, 4];

/** Class names that a tokenizer of the fixture's words reads back: `w7 w3` is the ids 7 and 3. */
const words: PromptWords = (() => {
  const { shape: [classes, length], data: ids } = data.get('ids')! as Tensor<'int64'> & { shape: readonly [number, number] };
  const classNames = Array.from({ length: classes }, (_, k) => {
    const content = [...ids.subarray(k * length + 1 + context, (k + 1) * length)].map(Number);
    return content.slice(0, content.indexOf(stop)).map((id) => `w${id}`).join(' ');
  });
  const tokenize: PromptWords['tokenize'] = (texts) => int64([texts.length, length], texts.flatMap((text) => {
    const own = [...text.matchAll(/w(\d+)|a|\./g)].map(([token, id]) => (id !== undefined ? Number(id) : token === '.' ? stop : 36));
    return [begin, ...own, ...Array.from({ length: length - 1 - own.length }, () => end)];
  }));
  return { classNames, prompts: classNames.map((name) => [name]), length, tokenize };
})();

interface Case {
  attach(clip: Clip): Promise<Attached | void>;
  optimizer: Optimizer;
  lr: number;
  /** The fixture's name of a parameter, where it is not Scion's. */
  names?: Readonly<Record<string, string>>;
  /** Where the values after training are not compared. */
  loose?: RegExp;
}

/** A method with some of its settings. */
const by = <S extends z.ZodObject>(method: BackboneMethod<S>, settings: z.input<S>) => async (clip: Clip): Promise<Attached | void> =>
  method.attach(clip, method.config.parse(settings), { read: readParameter, words });

const cases: Record<string, Case> = {
  lora: { attach: by(lora, { r: 4, lora_alpha: 8 }), optimizer: adamw(), lr: 1e-3 },
  adapter: { attach: by(adapter, { placement: 'houlsby', bottleneck_dim: 6 }), optimizer: adamw(), lr: 1e-3 },
  bitfit: {
    attach: by(bitFit, {}), optimizer: adamw(), lr: 1e-3,
    // softmax does not see a bias of the keys: its gradient is 0 but for rounding, which Adam's division makes steps of
    loose: /k_proj\.bias$/,
  },
  coop: {
    attach: by(coop, { n_ctx: 4 }), optimizer: sgd({ momentum: 0.9, weight_decay: 5e-4 }), lr: 2e-2,
    names: { 'text_model.embeddings.token_embedding.prompt_embeddings': 'context' },
  },
};

/** Rows of a tensor, as a tensor. */
function rowsOf({ shape: [, ...rest], data: all }: Tensor, rows: readonly number[]): Tensor<'float32'> {
  const size = rest.reduce((a, b) => a * b, 1);
  return float32([rows.length, ...rest], rows.flatMap((r) => [...(all as Float32Array).subarray(r * size, (r + 1) * size)]));
}

/** The losses and last values of training on the fixture's batches. */
async function train(
  clip: Clip, ids: Tensor, { optimizer, lr }: Case, initial: (name: string) => Tensor,
): Promise<{ losses: number[]; final: Tensors }> {
  const [images, order, labels] = ['images', 'order', 'labels'].map((name) => data.get(name)!) as [Tensor, Tensor, Tensor];
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
  const { promptIds } = await one.attach(clip) ?? {};
  const ids = promptIds ? int64([promptIds.length, promptIds[0]!.shape[1]!], promptIds.flatMap((own) => Array.from(own.data, Number))) : data.get('ids')!;
  const theirName = (key: string): string => one.names?.[key] ?? key;
  const { losses, final } = await train(clip, ids, one, (key) => want.get(`initial.${theirName(key)}`)!);

  const [theirs, untrained] = [toFloat64(want.get('losses')!), toFloat64(want.get('untrained')!)];
  const apart = (a: ArrayLike<number>, b: Float64Array): number =>
    Math.max(...b.map((v, i) => Math.abs(a[i]! - v) / Math.abs(v)));
  expect(losses.length).toBe(30);
  expect(apart(losses, theirs)).toBeLessThan(1e-4);
  // training has an effect far above the tolerance
  expect(apart(theirs, untrained)).toBeGreaterThan(1e-2);

  const names = [...want.keys()].filter((key) => key.startsWith('final.')).map((key) => key.slice('final.'.length));
  expect(Object.keys(final).map(theirName).sort()).toEqual(names.sort());
  for (const [key, value] of Object.entries(final)) {
    if (!one.loose?.test(key)) expectClose(value, want.get(`final.${theirName(key)}`)!, key, 1e-4);
  }
});
