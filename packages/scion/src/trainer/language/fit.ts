/** Trains an adapted text model on rows, and scores it on others after every epoch. */
import type { VisionText } from '../../nn/vision-text.js';
import type { Runtime, Session, SessionOptions, Tensors } from '../../runtime/session.js';
import { type Program, compileInference, compileTraining } from '../compile.js';
import { type DescentOptions, type Fit, type Score, followGradient, optimizerOf } from '../descend.js';
import { openProgram } from '../program.js';
import type { Row } from './examples.js';
import { type Objective, type Visual, answerObjective, shapeOf, wordObjective } from './objective.js';

export interface LanguageFitOptions extends Pick<
  DescentOptions, 'runtime' | 'random' | 'training' | 'threads' | 'onMetric' | 'afterStep' | 'resume' | 'signal'
> {
  model: VisionText;
  train: readonly Row[];
  val: readonly Row[];
  visual: Visual | undefined;
  /** The token that fills up short texts. */
  pad: number;
}

/** The objective of a model on rows: answers are chosen where it has a classifier, else words follow. */
export function objectiveOf(
  model: VisionText, rows: readonly Row[], batch: number, visual: Visual | undefined, pad: number,
): Objective {
  const shape = shapeOf(rows, batch);
  return model.head ? answerObjective(model, shape, visual, pad) : wordObjective(model, shape, visual, pad);
}

/** The training step of a model on rows, and what a step is fed. */
export function compileLanguageTraining(
  { model, train, training, visual, pad }: Pick<LanguageFitOptions, 'model' | 'train' | 'training' | 'visual' | 'pad'>,
): { objective: Objective; program: ReturnType<typeof compileTraining> } {
  const objective = objectiveOf(model, train, training.batch_size, visual, pad);
  const program = compileTraining({
    build: (graph) => ({ loss: objective.build(graph, { training: true, labelSmoothing: training.label_smoothing }).loss }),
    optimizer: optimizerOf(training),
    groups: [{ name: 'all', match: () => true, lr: training.lr }],
    recompute: training.recompute,
    ...(training.max_grad_norm === undefined ? {} : { maxGradNorm: training.max_grad_norm }),
  });
  return { objective, program };
}

/** Trains and gives the values of the chosen epoch. @throws ScionError where the loss stops being a number */
export async function fitLanguage(options: LanguageFitOptions): Promise<Fit> {
  const { model, train, val, training, runtime, visual, pad } = options;
  const { objective, program } = compileLanguageTraining(options);
  const threads = options.threads === undefined ? {} : { threads: options.threads };
  const scorer = val.length === 0 ? undefined
    : await openScorer(runtime, model, val, training.batch_size, visual, pad, threads);
  try {
    return await followGradient({
      ...options, program, rows: train.length, batch: objective.shape.rows, epochs: training.epochs,
      feeds: (_, index) => Promise.resolve(objective.feeds(index.map((row) => (row === undefined ? undefined : train[row]!)))),
      ...(scorer && { validate: (session) => scorer.score(session) }),
    });
  } finally {
    await scorer?.release();
  }
}

interface Scorer {
  /** Takes over what a training session holds at this moment. */
  score(training: Session): Promise<Score>;
  release(): Promise<void>;
}

async function openScorer(
  runtime: Runtime, model: VisionText, rows: readonly Row[], batch: number, visual: Visual | undefined, pad: number,
  options: SessionOptions,
): Promise<Scorer> {
  const objective = objectiveOf(model, rows, batch, visual, pad);
  const program = compileInference((graph) => objective.build(graph));
  const session = await openProgram(runtime, program, {}, options);
  const names = trainedIn(program, model);
  return {
    score(training) {
      const shared = training.share(names, session);
      return (async () => {
        await shared;
        let [loss, score, weight] = [0, 0, 0];
        for (let start = 0; start < rows.length; start += objective.shape.rows) {
          const batchRows = Array.from({ length: objective.shape.rows }, (_, i) => rows[start + i]);
          const found = await session.run(objective.feeds(batchRows));
          const value = (name: string): number => Number(found[name]!.data[0]);
          loss += value('loss') * value('weight');
          score += value('score') * value('weight');
          weight += value('weight');
        }
        return { loss: loss / weight, accuracy: score / weight };
      })();
    },
    release: () => session.release(),
  };
}

/** Names of the trained parameters that a program takes as inputs of its step. */
export function trainedIn(program: Program, model: VisionText): string[] {
  const used = new Set(program.step.inputs.flatMap(({ source }) => (source.kind === 'input' ? [source.name] : [])));
  return [...model.parameters()].flatMap(([name, { origin }]) => (origin.kind === 'trained' && used.has(name) ? [name] : []));
}

/** Of values by name, those that a model's program takes. */
export function valuesFor(program: Program, model: VisionText, values: Tensors): Tensors {
  const names = new Set(trainedIn(program, model));
  return Object.fromEntries(Object.entries(values).filter(([name]) => names.has(name)));
}
