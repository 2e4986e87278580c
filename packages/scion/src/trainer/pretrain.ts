/** Trains a whole model from the beginning, by steps whose batches are made as they are needed. */
import { adamw } from '../optim/adam.js';
import { scheduleFactor } from '../optim/schedule.js';
import * as f from '../nn/functional.js';
import type { Runtime, Tensors } from '../runtime/session.js';
import { ScionError } from '../util/errors.js';
import { Random } from '../util/random.js';
import { scalar } from '../util/tensor.js';
import { compileInference, compileTraining, initialState, stepScalars } from './compile.js';
import type { Batch, Objective } from './objectives.js';
import { openProgram } from './program.js';

export interface PretrainOptions<B extends Batch<B>> {
  runtime: Runtime;
  /** What is trained, and for what. */
  objective: Objective<B>;
  steps: number;
  lr: number;
  /** Steps of linear warm-up; `lr` then stays until the last fifth of the other steps, where it falls to zero. */
  warmup: number;
  /** Of matrices and kernels; biases, embeddings and norms have none. */
  weightDecay: number;
  labelSmoothing: number;
  maxGradNorm: number;
  /** AdamW's; by default 0.9 and 0.999. */
  betas?: readonly [number, number];
  seed: number;
  /** The batch of a step, from 0 on; all batches have the same shapes. The next one is asked for while a step runs. */
  batch: (step: number) => B;
  threads?: number;
  onStep?: (step: number, loss: number) => void;
  /** Steps between two calls of `onCheckpoint`, which comes after the last step too. */
  checkpointEvery: number;
  onCheckpoint: (step: number, state: Tensors) => Promise<void>;
  /** Batches of one shape that are not trained on: scored at every checkpoint. */
  validation?: { batches: readonly B[]; onScore: (step: number, score: PretrainScore) => void };
  /** What `onCheckpoint` was handed: training goes on from there as if it had not been stopped. */
  resume?: { step: number; state: Tensors };
  signal?: AbortSignal;
}

export interface PretrainScore {
  /** Cross entropy in nats, a mean over all rows that count. */
  loss: number;
  /** Share of these rows whose right class has the largest logit of all, 0 … 1. */
  accuracy: number;
}

/** Matrices and kernels are decayed; norms, biases and tables that are looked up by index are not. */
const decayed = (name: string): boolean => /\.weight$/.test(name) && !/(norm\d*|ln_\w+|embeddings?|wte|wpe)\.weight$/i.test(name);

/** @throws ScionError where the loss stops being a number, or of kind `interrupted` after a signal, with no step lost */
export async function pretrain<B extends Batch<B>>(options: PretrainOptions<B>): Promise<void> {
  const { runtime, objective, steps, warmup, lr, labelSmoothing, maxGradNorm, resume } = options;
  const first = options.batch(resume?.step ?? 0);
  const program = compileTraining({
    build: (graph) => {
      const { logits, targets, ...rest } = objective.choice(graph, first);
      return { loss: f.crossEntropy(logits, targets, { ...rest, labelSmoothing }) };
    },
    optimizer: adamw(options.betas && { betas: options.betas }),
    groups: [
      { name: 'decayed', match: decayed, lr, weightDecay: options.weightDecay },
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
    if (options.validation) options.validation.onScore(step, await validate(options, options.validation.batches, now));
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

/** Scores of rows that count, over all batches. */
async function validate<B extends Batch<B>>(
  { objective, runtime, threads }: PretrainOptions<B>, batches: readonly B[], state: Tensors,
): Promise<PretrainScore> {
  const program = compileInference((graph) => {
    const { logits, targets, weights } = objective.choice(graph, batches[0]!);
    const right = f.cast(f.equal(f.argMax(logits, 1), targets), 'float32');
    const counting = weights && { weights };
    return {
      loss: f.crossEntropy(logits, targets, counting), accuracy: f.weightedMean(right, weights),
      count: weights ? f.reduceSum(weights) : f.constant(graph, scalar(targets.shape[0]!)),
    };
  });
  const session = await openProgram(runtime, program, state, threads ? { threads } : {});
  const sums = { loss: 0, accuracy: 0, count: 0 };
  try {
    for (const batch of batches) {
      const out = await session.run({ ...batch });
      const [loss, accuracy, count] = [out['loss'], out['accuracy'], out['count']].map((t) => Number(t!.data[0]));
      sums.loss += loss! * count!;
      sums.accuracy += accuracy! * count!;
      sums.count += count!;
    }
  } finally {
    await session.release();
  }
  return { loss: sums.loss / sums.count, accuracy: sums.accuracy / sums.count };
}
