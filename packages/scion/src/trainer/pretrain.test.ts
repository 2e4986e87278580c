import { afterAll, expect, test } from 'vitest';
import { newPictoClip } from '../models/picto/index.js';
import { nodeRuntime } from '../runtime/node.js';
import type { Tensors } from '../runtime/session.js';
import { Random } from '../util/random.js';
import { float32, int64, toFloat64 } from '../util/tensor.js';
import { type ContrastiveBatch, contrastive } from './objectives.js';
import { type PretrainOptions, pretrain } from './pretrain.js';

const runtime = nodeRuntime();
afterAll(() => runtime.close());

const side = 8;
const model = {
  model_type: 'picto_clip', projection_dim: 8, logit_scale_init_value: 2,
  text_config: {
    vocab_size: 9, hidden_size: 12, intermediate_size: 16, max_position_embeddings: 3, eos_token_id: 0, layer_norm_eps: 1e-5,
  },
  vision_config: { image_size: side, num_channels: 3, stem_size: 4, hidden_sizes: [8], depths: [1], layer_norm_eps: 1e-5 },
};

/** Pictures of four colours with noise, against the words for eight. */
function batch(step: number): ContrastiveBatch {
  const random = Random.seeded(9).child(step);
  const targets = Array.from({ length: 12 }, () => random.integer(4));
  const pixels = targets.flatMap((t) => Array.from({ length: 3 * side * side }, (_, i) =>
    ((t >> Math.min(1, Math.floor(i / side / side))) & 1) * 2 - 1 + 0.3 * random.normal()));
  return {
    images: float32([12, 3, side, side], pixels),
    ids: int64([8, 3], Array.from({ length: 8 }, (_, i) => [i + 1, 0, 0]).flat()),
    targets: int64([12], targets),
  };
}

async function run(changes: Partial<PretrainOptions<ContrastiveBatch>> = {}): Promise<{ losses: number[]; accuracy: number; state: Tensors; step: number }> {
  const losses: number[] = [];
  let [accuracy, step, state] = [NaN, 0, {} as Tensors];
  await pretrain({
    runtime, objective: contrastive(newPictoClip(model)), steps: 40, lr: 0.01, warmup: 4, weightDecay: 0.05, labelSmoothing: 0,
    maxGradNorm: 1, seed: 1, threads: 1, batch, checkpointEvery: 1000,
    onStep: (_, loss) => losses.push(loss),
    onCheckpoint: async (at, held) => { [step, state] = [at, held]; return Promise.resolve(); },
    validation: { batches: [batch(-1)], onScore: (_, score) => { accuracy = score.accuracy; } },
    ...changes,
  }).catch((error: unknown) => {
    if (!changes.signal) throw error;
  });
  return { losses, accuracy, state, step };
}

test('pictures find their words, and do not without training', async () => {
  const [trained, control] = [await run(), await run({ lr: 1e-12 })];
  expect(control.losses[0]).toBe(trained.losses[0]);
  expect(trained.losses.at(-1)!).toBeLessThan(0.5 * control.losses.at(-1)!);
  expect(trained.accuracy).toBeGreaterThan(0.9);
  expect(control.accuracy).toBeLessThan(0.7);
});

test('stopped and gone on, it ends with the very same values', async () => {
  const whole = await run();
  const stop = new AbortController();
  const first = await run({
    signal: stop.signal, onStep: (step) => { if (step === 17) stop.abort(); },
  });
  expect(first.step).toBe(17);
  const second = await run({ resume: { step: first.step, state: first.state } });
  expect(second.losses).toEqual(whole.losses.slice(17));
  for (const [name, tensor] of Object.entries(whole.state)) {
    expect(toFloat64(second.state[name]!), name).toEqual(toFloat64(tensor));
  }
});

test('a loss that is no number ends it, with the step', async () => {
  const broken = (step: number): ContrastiveBatch => {
    const made = batch(step);
    if (step === 2) made.images.data.fill(NaN);
    return made;
  };
  await expect(run({ batch: broken })).rejects.toThrow(/lr: the loss is NaN at step 3; lower it/);
});
