/**
 * Trains a whole dual encoder: every picture of a batch against many texts, one of which is its own (the
 * image-to-text half of CLIP's loss, Radford et al. 2021, section 2.3, with texts beyond the batch).
 */
import type { Graph, Value } from '../ir/graph.js';
import * as f from '../nn/functional.js';
import { adamw } from '../optim/adam.js';
import { scheduleFactor } from '../optim/schedule.js';
import type { Runtime, Tensors } from '../runtime/session.js';
import { ScionError } from '../util/errors.js';
import { Random } from '../util/random.js';
import { type Tensor, scalar } from '../util/tensor.js';
import { compileInference, compileTraining, initialState, stepScalars } from './compile.js';
import type { DualEncoder } from './encode.js';
import { openProgram } from './program.js';

/** What one step sees. */
export interface ContrastiveBatch {
  /** [B, 3, H, W] */
  images: Tensor<'float32'>;
  /** Token ids [S, T]. */
  ids: Tensor<'int64'>;
  /** [B]: for each picture the row of its text. */
  targets: Tensor<'int64'>;
}

export interface PretrainOptions {
  runtime: Runtime;
  /** Its parameters are `trained`. */
  encoder: DualEncoder;
  steps: number;
  lr: number;
  /** Steps of linear warm-up; `lr` then stays until the last fifth of the other steps, where it falls to zero. */
  warmup: number;
  /** Of matrices and kernels; what has one axis, embeddings and norms have none. */
  weightDecay: number;
  labelSmoothing: number;
  maxGradNorm: number;
  seed: number;
  /** The batch of a step, from 0 on; all batches have the same shapes. The next one is asked for while a step runs. */
  batch: (step: number) => ContrastiveBatch;
  threads?: number;
  onStep?: (step: number, loss: number) => void;
  /** Steps between two calls of `onCheckpoint`, which comes after the last step too. */
  checkpointEvery: number;
  onCheckpoint: (step: number, state: Tensors) => Promise<void>;
  /** Pictures that are not trained on, against their own texts and others: scored at every checkpoint. */
  validation?: { batch: ContrastiveBatch; onScore: (step: number, score: PretrainScore) => void };
  /** What `onCheckpoint` was handed: training goes on from there as if it had not been stopped. */
  resume?: { step: number; state: Tensors };
  signal?: AbortSignal;
}

export interface PretrainScore {
  loss: number;
  /** Share of the pictures whose own text is the nearest of all, 0 … 1. */
  accuracy: number;
}

const decays = (name: string): boolean => /(conv|downsample|stem\.\d+|fc\d|projection)\S*\.weight$/.test(name);

/** @throws ScionError where the loss stops being a number, or of kind `interrupted` after a signal, with no step lost */
export async function pretrain(options: PretrainOptions): Promise<void> {
  const { runtime, encoder, steps, warmup, lr, labelSmoothing, maxGradNorm, resume } = options;
  const first = options.batch(resume?.step ?? 0);
  const program = compileTraining({
    build: (graph) => {
      const { logits, targets } = compared(graph, encoder, first);
      return { loss: f.crossEntropy(logits, targets, { labelSmoothing }) };
    },
    optimizer: adamw(),
    groups: [
      { name: 'decayed', match: decays, lr, weightDecay: options.weightDecay },
      { name: 'plain', match: () => true, lr, weightDecay: 0 },
    ],
    maxGradNorm,
  });
  const state = resume?.state ?? initialState(program, Random.seeded(options.seed));
  const threads = options.threads === undefined ? {} : { threads: options.threads };
  const session = await openProgram(runtime, program, state, threads);
  const save = async (step: number): Promise<void> => {
    const now = await session.held([...program.state.keys()]);
    await options.onCheckpoint(step, now);
    if (options.validation) options.validation.onScore(step, await validate(options, options.validation.batch, now));
  };
  try {
    let batch = first;
    for (let step = resume?.step ?? 0; step < steps; step++) {
      const scalars = stepScalars(program, step, scheduleFactor('warmup_stable_decay', step, steps, warmup));
      const feeds = Object.fromEntries(Object.entries(scalars).map(([name, v]) => [name, scalar(v)]));
      const running = session.run({ ...batch, ...feeds }, { carry: program.carry, fetch: ['loss'] });
      running.catch(() => undefined); // awaited below
      if (step + 1 < steps) batch = options.batch(step + 1);
      const { loss } = await running;
      const value = (loss!.data as Float32Array)[0]!;
      if (!Number.isFinite(value)) {
        throw new ScionError('input', [{ path: 'lr', message: `the loss is ${value} at step ${step + 1}; lower it` }]);
      }
      options.onStep?.(step + 1, value);
      const stopped = options.signal?.aborted === true;
      if ((step + 1) % options.checkpointEvery === 0 || step + 1 === steps || stopped) await save(step + 1);
      if (stopped) throw new ScionError('interrupted', [{ path: '', message: `stopped after step ${step + 1}` }]);
    }
  } finally {
    await session.release();
  }
}

/** The pictures of a batch against its texts: logits [B, S], and the targets [B]. */
function compared(graph: Graph, encoder: DualEncoder, like: ContrastiveBatch): { logits: Value; targets: Value } {
  const images = encoder.imageFeatures(graph.input('images', 'float32', like.images.shape));
  const texts = encoder.textFeatures(graph.input('ids', 'int64', like.ids.shape));
  const cosines = f.fusedMatMul(f.l2Normalize(images), f.l2Normalize(texts), { transB: 1 });
  return { logits: f.mul(cosines, encoder.scale(graph)), targets: graph.input('targets', 'int64', like.targets.shape) };
}

async function validate(options: PretrainOptions, batch: ContrastiveBatch, state: Tensors): Promise<PretrainScore> {
  const program = compileInference((graph) => {
    const { logits, targets } = compared(graph, options.encoder, batch);
    const right = f.cast(f.equal(f.argMax(logits, 1), targets), 'float32');
    return { loss: f.crossEntropy(logits, targets), accuracy: f.reduceMean(right) };
  });
  const session = await openProgram(options.runtime, program, state, options.threads ? { threads: options.threads } : {});
  try {
    const { loss, accuracy } = await session.run({ ...batch });
    return { loss: Number(loss!.data[0]), accuracy: Number(accuracy!.data[0]) };
  } finally {
    await session.release();
  }
}
