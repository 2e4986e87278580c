/** Trains one method on given rows of features or pictures, and solves what is convex. */
import type { Graph, Value } from '../ir/graph.js';
import { enableDropout } from '../nn/dropout.js';
import * as f from '../nn/functional.js';
import type { Split } from '../data/feature-file.js';
import { plainRows, subset } from '../data/few-shot.js';
import type { View } from '../data/image-views.js';
import type { Session, Tensors } from '../runtime/session.js';
import { classificationReport } from '../tasks/classification.js';
import { stopIf } from '../util/errors.js';
import { float32, int64 } from '../util/tensor.js';
import type { Classifying } from './adapted.js';
import { type FeatureClassifier, openClassifier } from './classifier.js';
import { type TrainingProgram, compileObjective, compileTraining } from './compile.js';
import {
  type DescentOptions, type Fit, type Score, checkFinite, followGradient, optimizerOf,
} from './descend.js';
import { lbfgs } from './lbfgs.js';
import { openProgram } from './program.js';
import type { Training } from './recipe.js';

export interface FitOptions extends Pick<
  DescentOptions, 'runtime' | 'random' | 'training' | 'threads' | 'onMetric' | 'afterStep' | 'resume' | 'signal' | 'stopAfter'
> {
  module: Classifying;
  train: Split;
  val?: Split;
  /** Where a convex problem is started from; the solution does not depend on it. */
  start?: Tensors;
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
    optimizer: optimizerOf(training),
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
export function fit(options: FitOptions): Promise<Fit> {
  return options.training.optimizer === 'lbfgs' ? solve(options) : descend(options);
}

/** The epochs of a training on so many rows. */
export function epochsOf({ epochs, steps_per_shot: perShot, batch_size }: Training, rows: number, classes: number): number {
  if (perShot === undefined) return epochs;
  const perEpoch = Math.ceil(rows / Math.min(batch_size, rows));
  return Math.max(1, Math.ceil((perShot * Math.round(rows / classes)) / perEpoch));
}

async function descend(options: FitOptions): Promise<Fit> {
  const { runtime, module, val, training, random } = options;
  const { images: side } = module;
  // views that were made before are for methods on features: here every epoch can make its own
  const train = side ? subset(options.train, plainRows(options.train)) : options.train;
  const rows = train.labels.length;
  const program = compileFeatureTraining(module, train, training);
  const { batch } = program;
  const threads = options.threads === undefined ? {} : { threads: options.threads };
  const weights = rowWeights(train, training);
  const classifier = val && (await openClassifier(runtime, module, {}, threads));
  try {
    const validate = classifier && (await scorer(classifier, val));
    return await followGradient({
      ...options,
      program, rows, batch, held: bank(module, train), epochs: epochsOf(training, rows, module.inputs.classes),
      feeds: async (epoch, index) => {
        // padding has no weight; it repeats the first row
        const chosen = index.map((row) => row ?? index[0]!);
        const view = (i: number): View => ({ random: random.child('view', epoch, chosen[i]!), flip: side!.flip });
        return {
          'batch.index': int64([batch], index.map((row) => row ?? 0)),
          'batch.weights': float32([batch], index.map((row) => (row === undefined ? 0 : weights[row]!))),
          ...(side && {
            'batch.images': await side.load(chosen.map((row) => train.images![row]!), training.augment ? view : undefined),
          }),
        };
      },
      ...(classifier && validate && { validate: (session) => after(classifier.follow(session), validate()) }),
    });
  } finally {
    await classifier?.release();
  }
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
    checkFinite(values, training);
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
