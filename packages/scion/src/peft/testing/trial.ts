/** One method on one model: attached, trained for some steps, and run with given values. */
import type { Graph, Value } from '../../ir/graph.js';
import { isDual } from '../../models/index.js';
import { enableDropout, dropoutInputs } from '../../nn/dropout.js';
import * as f from '../../nn/functional.js';
import { readParameter } from '../../nn/parameter-values.js';
import type { Parameter } from '../../nn/parameter.js';
import { adam } from '../../optim/adam.js';
import type { Runtime, Tensors } from '../../runtime/session.js';
import {
  type TrainingProgram, compileInference, compileTraining, initialState, stepScalars,
} from '../../trainer/compile.js';
import { openProgram } from '../../trainer/program.js';
import { Random } from '../../util/random.js';
import { float32, int64, scalar, tensor } from '../../util/tensor.js';
import type { BackboneMethod } from '../backbone-method.js';
import { type Model, type ModelCase, loadModel } from './models.js';

export const context = { read: readParameter };

/** Small models gain nothing by threads, which wait for each other. */
const small = { threads: 1 };

/** Features that pictures are told apart by, where a model reads no words. */
const targets = 4;

/**
 * The features, and the cross entropy of the cosines of every picture with all texts, or with directions drawn once;
 * the right text of a picture is another than in the reference data, so that there is something to learn.
 */
export function outputsOf(
  model: Model, graph: Graph, inputs: Tensors,
): { image: Value; loss: Value; text?: Value } {
  const feed = (name: string): Value => graph.input(name, inputs[name]!.dtype, inputs[name]!.shape);
  const image = model.imageFeatures(feed('images'));
  const [rows, width] = image.shape as [number, number];
  const random = Random.seeded(11);
  const directions = float32([targets, width], Float32Array.from({ length: targets * width }, () => random.normal()));
  const text = isDual(model) ? model.textFeatures(feed('ids')) : undefined;
  const classes = text ?? f.constant(graph, directions);
  const scale = isDual(model) ? model.scale(graph) : f.constant(graph, scalar(10));
  const cosines = f.fusedMatMul(f.l2Normalize(image), f.l2Normalize(classes), { transB: 1 });
  const labels = int64([rows], Array.from({ length: rows }, (_, i) => (i + 1) % classes.shape[0]!));
  const loss = f.crossEntropy(f.mul(cosines, scale), f.constant(graph, labels));
  return { image, loss, ...(text && { text }) };
}

export interface Attachment {
  model: Model;
  /** The names of what is trained. */
  trained: readonly string[];
}

/** A fresh tree with the method in it. */
export async function attach(which: ModelCase, method: BackboneMethod, config: object): Promise<Attachment> {
  const model = await loadModel(which);
  await method.attach(model, method.config.parse(config), context);
  const trained = [...model.parameters()].filter(([, p]) => p.origin.kind === 'trained').map(([name]) => name);
  return { model, trained };
}

/** What a tree gives for inputs, for each of some values of its trained parameters. */
export async function outputs(
  runtime: Runtime, model: Model, inputs: Tensors, values: readonly Tensors[] = [{}],
): Promise<Tensors[]> {
  const session = await openProgram(runtime, compileInference((graph) => outputsOf(model, graph, inputs)), {}, small);
  try {
    const found: Tensors[] = [];
    for (const some of values) {
      await session.hold(some);
      found.push(await session.run(inputs));
    }
    return found;
  } finally {
    await session.release();
  }
}

export interface Training {
  program: TrainingProgram;
  /** Values of the trained parameters: before the first step, after it, and after the last. */
  start: Tensors;
  second: Tensors;
  end: Tensors;
  /** Before every step, with dropout where the method has it. */
  losses: readonly number[];
}

/** Trains all that is trained in a tree with Adam, always on the same inputs. */
export async function train(
  runtime: Runtime, model: Model, inputs: Tensors, { steps, lr }: { steps: number; lr: number },
): Promise<Training> {
  const program = compileTraining({
    build: (graph) => {
      enableDropout(graph);
      const { loss } = outputsOf(model, graph, inputs);
      return { loss };
    },
    optimizer: adam(), groups: [{ name: 'all', match: () => true, lr }],
  });
  const names = [...program.state].flatMap(([name, { parameter }]) => (parameter ? [name] : []));
  const state = initialState(program, Random.seeded(7));
  const start = Object.fromEntries(names.map((name) => [name, state[name]!]));
  const drops = program.step.inputs.some(({ source }) => source.kind === 'input' && source.name === dropoutInputs.seed);
  const session = await openProgram(runtime, program, state, small);
  try {
    const losses: number[] = [];
    let second: Tensors = {};
    for (let step = 0; step < steps; step++) {
      const scalars = Object.entries(stepScalars(program, step, 1)).map(([name, v]) => [name, scalar(v)]);
      const word = (n: number) => tensor('uint32', [], Uint32Array.of(n));
      const { loss } = await session.run({
        ...inputs, ...Object.fromEntries(scalars) as Tensors,
        ...(drops && { [dropoutInputs.seed]: word(3), [dropoutInputs.step]: word(step) }),
      }, { carry: program.carry, fetch: ['loss'] });
      losses.push((loss!.data as Float32Array)[0]!);
      if (step === 0) second = await session.held(names);
    }
    return { program, start, second, end: await session.held(names), losses };
  } finally {
    await session.release();
  }
}

/** A tree without an adapter whose parameters have the given values, by name. */
export async function withWeights(which: ModelCase, weights: ReadonlyMap<string, Tensors[string]>): Promise<Model> {
  const model = await loadModel(which);
  const parameters = new Map<string, Parameter>(model.parameters());
  for (const [name, value] of weights) {
    const parameter = parameters.get(name);
    if (!parameter) throw new Error(`${which.name} has no parameter ${name}`);
    if (parameter.shape.join() !== value.shape.join()) throw new Error(`${name} has shape [${value.shape.join()}]`);
    parameter.origin = { kind: 'frozen', value };
  }
  return model;
}

