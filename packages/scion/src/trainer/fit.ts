/** Trains one method on given rows: batches, validation after every epoch, checkpoints, resume. */
import type { Graph, Value } from '../ir/graph.js';
import { dropoutInputs, enableDropout } from '../nn/dropout.js';
import * as f from '../nn/functional.js';
import { adam, adamw } from '../optim/adam.js';
import type { Optimizer } from '../optim/optimizer.js';
import { scheduleFactor } from '../optim/schedule.js';
import { sgd } from '../optim/sgd.js';
import type { Split } from '../data/feature-file.js';
import { plainRows, subset } from '../data/few-shot.js';
import type { View } from '../data/image-views.js';
import type { Runtime, Session, Tensors } from '../runtime/session.js';
import { classificationReport } from '../tasks/classification.js';
import { ScionError, stopIf } from '../util/errors.js';
import type { Random } from '../util/random.js';
import { type Tensor, float32, int64, scalar, tensor } from '../util/tensor.js';
import type { Classifying } from './adapted.js';
import { type FeatureClassifier, openClassifier } from './classifier.js';
import { type TrainingProgram, compileObjective, compileTraining, initialState, stepScalars } from './compile.js';
import { lbfgs } from './lbfgs.js';
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

export interface FitOptions {
  runtime: Runtime;
  module: Classifying;
  train: Split;
  val?: Split;
  training: Training;
  random: Random;
  threads?: number;
  onMetric?: (metric: Metric) => void;
  /** Called after every step, with what a checkpoint would hold on demand. */
  afterStep?: (take: () => Promise<Checkpoint>) => Promise<void>;
  resume?: Checkpoint;
  /** Ends the training with an error of kind `interrupted`, after the step under way. */
  signal?: AbortSignal;
  /** Where a convex problem is started from; the solution does not depend on it. */
  start?: Tensors;
  /** Ends after this many epochs of the schedule, as cross-validation found best. */
  stopAfter?: number;
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

/** Gives a function that scores the classifier on the same rows again and again, with settings that change. */
export async function scorer(
  classifier: FeatureClassifier, split: Split,
): Promise<(settings?: Tensors) => Promise<Score>> {
  const logits = await classifier.repeatedly(split);
  return async (settings) => {
    const { accuracy, loss } = classificationReport(await logits(settings), split.labels, classifier.classes);
    return { accuracy, loss };
  };
}

export async function score(classifier: FeatureClassifier, split: Split): Promise<Score> {
  const { accuracy, loss } = classificationReport(await classifier.logits(split), split.labels, classifier.classes);
  return { accuracy, loss };
}

const optimizers: Record<Exclude<Training['optimizer'], 'lbfgs'>, (t: Training) => Optimizer> = {
  adam: (t) => adam(adamOptions(t)),
  adamw: (t) => adamw(adamOptions(t)),
  sgd: ({ momentum, nesterov, weight_decay }) => sgd(defined({ momentum, nesterov, weight_decay })),
};
const adamOptions = ({ betas, eps, weight_decay }: Training): object => defined({ betas, eps, weight_decay });

function defined<T extends object>(options: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, v]) => v !== undefined)) as never;
}

/**
 * The cross entropy over a batch of row numbers into the bank of all training rows, which stays in the session; where the
 * image tower is trained, their pictures come with the batch.
 */
function batchLoss(graph: Graph, module: Classifying, train: Split, batch: number, smoothing: number): Value {
  const [rows, dim] = train.features.shape as [number, number];
  const labels = graph.input('bank.labels', 'int64', [rows], 'frozen');
  const index = graph.input('batch.index', 'int64', [batch]);
  const weights = graph.input('batch.weights', 'float32', [batch]);
  const { images: side } = module;
  enableDropout(graph);
  const chosen = side
    ? side.encode(graph.input('batch.images', 'float32', [batch, 3, side.height, side.width]))
    : f.gather(graph.input('bank.features', 'float32', [rows, dim], 'frozen'), index);
  const loss = f.crossEntropy(module.logits(chosen), f.gather(labels, index), { weights, labelSmoothing: smoothing });
  return module.penalty ? f.add(loss, module.penalty(chosen)) : loss;
}

function bank({ images: side }: Classifying, { features, labels }: Split): Tensors {
  return { ...(side ? {} : { 'bank.features': features }), 'bank.labels': int64([labels.length], labels) };
}

/** Weight of each row: 1, or inversely proportional to the size of its class with mean 1 over the classes. */
function rowWeights({ labels }: Split, { class_weights }: Training): Float32Array {
  if (class_weights === 'none') return new Float32Array(labels.length).fill(1);
  const counts = new Map<number, number>();
  for (const k of labels) counts.set(k, (counts.get(k) ?? 0) + 1);
  return Float32Array.from(labels, (k) => labels.length / (counts.size * counts.get(k)!));
}

/** Compiles the step that `fit` runs, with the batch size it will use. */
export function compileFeatureTraining(
  module: Classifying,
  train: Split,
  training: Training,
): TrainingProgram & { batch: number } {
  const batch = Math.min(training.batch_size, train.labels.length);
  const program = compileTraining({
    build: (graph) => ({ loss: batchLoss(graph, module, train, batch, training.label_smoothing) }),
    optimizer: optimizers[training.optimizer as Exclude<Training['optimizer'], 'lbfgs'>](training),
    groups: [{ name: 'all', match: () => true, lr: training.lr }],
    recompute: training.recompute,
    ...(training.max_grad_norm === undefined ? {} : { maxGradNorm: training.max_grad_norm }),
  });
  return { ...program, batch };
}

/**
 * Trains and gives the values of the chosen epoch. The same seed, rows and thread count give the same losses.
 * @throws ScionError where the loss stops being a number
 */
export async function fit(options: FitOptions): Promise<Fit> {
  const result = await (options.training.optimizer === 'lbfgs' ? solve(options) : descend(options));
  // the loss is taken before a step's update, so that the last update may still have broken the values
  const broken = Object.entries(result.values).find(([, t]) => !(t.data as Float32Array).every(Number.isFinite));
  if (broken)
    throw diverged(`${broken[0]} holds values that are no finite numbers after the last step`, options.training);
  return result;
}

/** The epochs of a training on so many rows. */
export function epochsOf({ epochs, steps_per_shot: perShot, batch_size }: Training, rows: number, classes: number): number {
  if (perShot === undefined) return epochs;
  const perEpoch = Math.ceil(rows / Math.min(batch_size, rows));
  return Math.max(1, Math.ceil((perShot * Math.round(rows / classes)) / perEpoch));
}

async function descend(options: FitOptions): Promise<Fit> {
  const { runtime, module, val, training, random, resume, onMetric, afterStep } = options;
  const { images: side } = module;
  // views that were made before are for methods on features: here every epoch can make its own
  const train = side ? subset(options.train, plainRows(options.train)) : options.train;
  const rows = train.labels.length;
  const program = compileFeatureTraining(module, train, training);
  const { batch } = program;
  const perEpoch = Math.ceil(rows / batch);
  const total = epochsOf(training, rows, module.inputs.classes) * perEpoch;
  const warmup = Math.round(training.warmup_epochs * perEpoch);
  const trained = [...program.state].flatMap(([name, { parameter }]) => (parameter ? [name] : []));
  const threads = options.threads === undefined ? {} : { threads: options.threads };
  const weights = rowWeights(train, training);

  const state = resume ? prefixed(resume.tensors, 'state.') : initialState(program, random);
  const session = await openProgram(runtime, program, { ...bank(module, train), ...state }, threads);
  let classifier: FeatureClassifier | undefined;
  try {
    if (val) classifier = await openClassifier(runtime, module, {}, threads);
    const validate = classifier && val && (await scorer(classifier, val));
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
    const picturesAt = (at: number): Promise<Tensors> | undefined => {
      if (!side || at >= total) return undefined;
      const { epoch, index } = batchAt(at);
      // padding has no weight; it repeats the first row
      const chosen = index.map((row) => row ?? index[0]!);
      const view = (i: number): View => ({ random: random.child('view', epoch, chosen[i]!), flip: side.flip });
      const loading = side.load(chosen.map((row) => train.images![row]!), training.augment ? view : undefined)
        .then((images) => ({ 'batch.images': images }));
      loading.catch(() => undefined); // reported when its turn comes
      return loading;
    };
    let step = resume?.step ?? 0;
    let pictures = picturesAt(step);
    for (; step < total; step++) {
      stopIf(options.signal);
      const { epoch, index } = batchAt(step);
      if (options.stopAfter !== undefined && epoch >= options.stopAfter) break;
      const images = await pictures;
      const factor = scheduleFactor(training.schedule, step, total, warmup);
      const running = session.run(
        {
          'batch.index': int64(
            [batch],
            index.map((row) => row ?? 0),
          ),
          'batch.weights': float32(
            [batch],
            index.map((row) => (row === undefined ? 0 : weights[row]!)),
          ),
          ...(dropping && {
            [dropoutInputs.seed]: word(random.child('dropout').uint32()), [dropoutInputs.step]: word(step),
          }),
          ...images,
          ...scalarFeeds(stepScalars(program, step, factor)),
        },
        { carry: program.carry, fetch: ['loss'] },
      );
      pictures = picturesAt(step + 1); // read while the step is computed
      // asked for before the step is answered, so that the runtime goes on without waiting
      const ends = (step + 1) % perEpoch === 0;
      const scored = ends && classifier && validate ? after(classifier.follow(session), validate()) : undefined;
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
      await afterStep?.(() => take(step + 1));
    }
    const useBest = training.checkpoint === 'best' && best !== undefined;
    const values = useBest ? bestValues : await session.held(trained);
    return { values, epoch: useBest ? best!.epoch : Math.ceil(step / perEpoch), history };
  } finally {
    await classifier?.release();
    await session.release();
  }
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

/** Solves a convex problem over all rows at once. */
async function solve(options: FitOptions): Promise<Fit> {
  const { runtime, module, train, training, val, onMetric } = options;
  const program = compileObjective((graph) =>
    batchLoss(graph, module, train, train.labels.length, training.label_smoothing),
  );
  const threads = options.threads === undefined ? {} : { threads: options.threads };
  const session: Session = await openProgram(runtime, program, bank(module, train), threads);
  try {
    await session.hold({
      'batch.index': int64(
        [train.labels.length],
        train.labels.map((_, i) => i),
      ),
      'batch.weights': float32([train.labels.length], rowWeights(train, training)),
    });
    const sizes = program.trained.map((p) => p.shape.reduce((a, b) => a * b, 1));
    const unpack = (x: Float64Array): Tensors => {
      let at = 0;
      return Object.fromEntries(
        program.trained.map((p, i) => [p.name, float32(p.shape, x.slice(at, (at += sizes[i]!)))]),
      );
    };
    const start = new Float64Array(sizes.reduce((a, b) => a + b, 0));
    program.trained.reduce((at, p, i) => {
      const from = options.start?.[p.name];
      if (from) start.set(from.data as Float32Array, at);
      return at + sizes[i]!;
    }, 0);
    const { x } = await lbfgs(
      async (point) => {
        stopIf(options.signal);
        const out = await session.run(unpack(point));
        const gradient = new Float64Array(point.length);
        let at = 0;
        program.trained.forEach((p, i) => {
          gradient.set(out[`grad.${p.name}`]!.data as Float32Array, at);
          at += sizes[i]!;
        });
        return { value: (out.loss!.data as Float32Array)[0]!, gradient };
      },
      start,
      {
        iterations: training.epochs,
        onIteration: (step, loss) => onMetric?.({ type: 'step', step, epoch: step, loss, lr: 1 }),
      },
    );
    const values = unpack(x);
    const history: Score[] = [];
    if (val) {
      const classifier = await openClassifier(runtime, module, values, threads);
      try {
        history.push(await score(classifier, val));
      } finally {
        await classifier.release();
      }
    }
    return { values, epoch: 1, history };
  } finally {
    await session.release();
  }
}

/** The second once both are done. An error is kept for who awaits this, however late. */
function after<T>(first: Promise<void>, second: Promise<T>): Promise<T> {
  const both = Promise.all([first, second]).then(([, value]) => value);
  both.catch(() => undefined);
  return both;
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
