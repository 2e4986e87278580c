/** Training by steps: batches, validation after every epoch, checkpoints, resume; whatever is trained on. */
import { dropoutInputs } from '../nn/dropout.js';
import { adam, adamw } from '../optim/adam.js';
import type { Optimizer } from '../optim/optimizer.js';
import { scheduleFactor } from '../optim/schedule.js';
import { sgd } from '../optim/sgd.js';
import type { Runtime, Session, Tensors } from '../runtime/session.js';
import { ScionError, stopIf } from '../util/errors.js';
import type { Random } from '../util/random.js';
import { type Tensor, scalar, tensor } from '../util/tensor.js';
import { type TrainingProgram, initialState, stepScalars } from './compile.js';
import { openProgram } from './program.js';
import type { Training } from './recipe.js';

export interface Score {
  accuracy: number;
  loss: number;
}

/** One line of the metrics. */
export type Metric =
  | { type: 'step'; step: number; epoch: number; loss: number; lr: number }
  | { type: 'epoch'; step: number; epoch: number; loss: number; val_accuracy?: number; val_loss?: number };

/** All that a resumed run needs to go on as if it had not been stopped. */
export interface Checkpoint {
  step: number;
  /** The best epoch so far, with its values under `best.` among the tensors. */
  best?: { epoch: number } & Score;
  /** Mean loss of the epoch under way, as far as it has got: each row counts alike. */
  epochLoss: number;
  /** Validation scores of the epochs so far. */
  history: readonly Score[];
  /** `state.<input>` and `best.<parameter>`. */
  tensors: Tensors;
}

export interface Fit {
  /** Trained values, by parameter name. */
  values: Tensors;
  /** The epoch whose values these are, from 1 on; 0 where nothing was trained. */
  epoch: number;
  /** Validation scores by epoch; empty without validation rows. */
  history: Score[];
}

/** Is a better than b: by accuracy, then by loss. */
export function better(a: Score, b: Score | undefined): boolean {
  return !b || a.accuracy > b.accuracy || (a.accuracy === b.accuracy && a.loss < b.loss);
}

/** The optimizers that go by steps. */
const optimizers: Record<Exclude<Training['optimizer'], 'lbfgs'>, (t: Training) => Optimizer> = {
  adam: (t) => adam(adamOptions(t)),
  adamw: (t) => adamw(adamOptions(t)),
  sgd: ({ momentum, nesterov, weight_decay }) => sgd(defined({ momentum, nesterov, weight_decay })),
};
const adamOptions = ({ betas, eps, weight_decay }: Training): object => defined({ betas, eps, weight_decay });

function defined<T extends object>(options: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, v]) => v !== undefined)) as never;
}

/** The optimizer of a training by steps. */
export function optimizerOf(training: Training): Optimizer {
  return optimizers[training.optimizer as keyof typeof optimizers](training);
}

export interface DescentOptions {
  runtime: Runtime;
  program: TrainingProgram;
  training: Training;
  random: Random;
  /** Examples, of which each epoch sees all in an order of its own, so many a step. */
  rows: number;
  batch: number;
  epochs: number;
  /** Inputs beside the state that stay the same. */
  held?: Tensors;
  /** Inputs of a step; the last one of an epoch has places without a row, which must have no weight. */
  feeds: (epoch: number, index: readonly (number | undefined)[]) => Promise<Tensors>;
  /** Scores what the session holds; it may ask the session before it gives its promise, and is awaited later. */
  validate?: (session: Session) => Promise<Score>;
  threads?: number;
  onMetric?: (metric: Metric) => void;
  /** Called after every step, with what a checkpoint would hold on demand. */
  afterStep?: (take: () => Promise<Checkpoint>) => Promise<void>;
  resume?: Checkpoint;
  /** Ends the training with an error of kind `interrupted`, after the step under way. */
  signal?: AbortSignal;
  /** Ends after this many epochs of the schedule, as cross-validation found best. */
  stopAfter?: number;
}

/**
 * Trains and gives the values of the chosen epoch. The same seed, rows and thread count give the same losses.
 * @throws ScionError where the loss stops being a number
 */
export async function followGradient(options: DescentOptions): Promise<Fit> {
  const { runtime, program, rows, batch, epochs, training, random, resume, feeds, validate, onMetric } = options;
  const perEpoch = Math.ceil(rows / batch);
  const total = epochs * perEpoch;
  const warmup = Math.round(training.warmup_epochs * perEpoch);
  const trained = [...program.state].flatMap(([name, { parameter }]) => (parameter ? [name] : []));
  const threads = options.threads === undefined ? {} : { threads: options.threads };
  const state = resume ? prefixed(resume.tensors, 'state.') : initialState(program, random);
  const session = await openProgram(runtime, program, { ...options.held, ...state }, threads);
  try {
    let best = resume?.best;
    let bestValues: Tensors = resume ? prefixed(resume.tensors, 'best.') : {};
    let epochLoss = resume?.epochLoss ?? 0;
    const history: Score[] = [...(resume?.history ?? [])];
    const take = async (step: number): Promise<Checkpoint> => ({
      step,
      epochLoss,
      history,
      ...(best ? { best } : {}),
      tensors: {
        ...withPrefix(await session.held([...program.state.keys()]), 'state.'),
        ...withPrefix(bestValues, 'best.'),
      },
    });
    const dropping = program.step.inputs.some(({ source }) =>
      source.kind === 'input' && source.name === dropoutInputs.seed);
    const batchAt = batches(random, rows, batch);
    const ready = (at: number): Promise<Tensors> | undefined => {
      if (at >= total) return undefined;
      const { epoch, index } = batchAt(at);
      const loading = feeds(epoch, index);
      loading.catch(() => undefined); // reported when its turn comes
      return loading;
    };
    let step = resume?.step ?? 0;
    let next = ready(step);
    for (; step < total; step++) {
      stopIf(options.signal);
      const { epoch, index } = batchAt(step);
      if (options.stopAfter !== undefined && epoch >= options.stopAfter) break;
      const own = await next;
      const factor = scheduleFactor(training.schedule, step, total, warmup);
      const running = session.run(
        {
          ...own,
          ...(dropping && {
            [dropoutInputs.seed]: word(random.child('dropout').uint32()), [dropoutInputs.step]: word(step),
          }),
          ...scalarFeeds(stepScalars(program, step, factor)),
        },
        { carry: program.carry, fetch: ['loss'] },
      );
      next = ready(step + 1); // made while the step is computed
      // asked for before the step is answered, so that the runtime goes on without waiting
      const ends = (step + 1) % perEpoch === 0;
      const scored = ends ? validate?.(session) : undefined;
      scored?.catch(() => undefined); // reported below
      const { loss } = await running;
      const value = (loss!.data as Float32Array)[0]!;
      if (!Number.isFinite(value)) throw diverged(`the loss is ${value} at step ${step + 1}`, training);
      onMetric?.({ type: 'step', step: step + 1, epoch: epoch + 1, loss: value, lr: training.lr * factor });
      epochLoss += value * (index.filter((row) => row !== undefined).length / rows);
      if (ends) {
        const line = { type: 'epoch', step: step + 1, epoch: epoch + 1, loss: epochLoss } as const;
        epochLoss = 0;
        if (scored) {
          const now = await scored;
          if (!Number.isFinite(now.loss))
            throw diverged(`the validation loss is ${now.loss} after epoch ${epoch + 1}`, training);
          history.push(now);
          onMetric?.({ ...line, val_accuracy: now.accuracy, val_loss: now.loss });
          if (better(now, best)) {
            best = { epoch: epoch + 1, ...now };
            bestValues = await session.held(trained);
          } else if (training.patience !== undefined && epoch + 1 - best!.epoch >= training.patience) {
            step++;
            break;
          }
        } else {
          onMetric?.(line);
        }
      }
      await options.afterStep?.(() => take(step + 1));
    }
    const useBest = training.checkpoint === 'best' && best !== undefined;
    const values = useBest ? bestValues : await session.held(trained);
    checkFinite(values, training);
    return { values, epoch: useBest ? best!.epoch : Math.ceil(step / perEpoch), history };
  } finally {
    await session.release();
  }
}

/** The loss is taken before a step's update, so that the last update may still have broken the values. */
export function checkFinite(values: Tensors, training: Training): void {
  const broken = Object.entries(values).find(([, t]) => !(t.data as Float32Array).every(Number.isFinite));
  if (broken) throw diverged(`${broken[0]} holds values that are no finite numbers after the last step`, training);
}

/** The rows of each step: every epoch goes through all of them in an order of its own. */
function batches(
  random: Random, rows: number, batch: number,
): (step: number) => { epoch: number; index: (number | undefined)[] } {
  const perEpoch = Math.ceil(rows / batch);
  const orders = new Map<number, number[]>();
  return (step) => {
    const epoch = Math.floor(step / perEpoch);
    if (!orders.has(epoch)) {
      orders.delete(epoch - 2); // the next epoch is asked for while this one goes on
      orders.set(epoch, random.child('epoch', epoch).shuffle(Array.from({ length: rows }, (_, i) => i)));
    }
    const start = (step % perEpoch) * batch;
    return { epoch, index: Array.from({ length: batch }, (_, i) => orders.get(epoch)![start + i]) };
  };
}

const word = (value: number): Tensor => tensor('uint32', [], Uint32Array.of(value));

function scalarFeeds(values: Record<string, number>): Tensors {
  return Object.fromEntries(Object.entries(values).map(([name, v]) => [name, scalar(v)]));
}

function diverged(what: string, { lr, optimizer }: Training): ScionError {
  return new ScionError('input', [
    { path: 'training', message: `${what} (${optimizer}, lr ${lr}); use a smaller lr or max_grad_norm` },
  ]);
}

const withPrefix = (tensors: Tensors, prefix: string): Tensors =>
  Object.fromEntries(Object.entries(tensors).map(([name, t]) => [prefix + name, t]));
const prefixed = (tensors: Tensors, prefix: string): Tensors =>
  Object.fromEntries(
    Object.entries(tensors).flatMap(([name, t]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), t]] : [])),
  );
