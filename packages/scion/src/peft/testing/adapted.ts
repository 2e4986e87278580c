/** Adapted checkpoints for tests: attaching, running, gradients, a few steps of training. */
import { fileURLToPath } from 'node:url';
import { readTokenizer } from '../../data/tokenizer.js';
import { readSafetensors } from '../../formats/safetensors-node.js';
import { readCheckpoint } from '../../hub/checkpoint.js';
import type { Graph, Value } from '../../ir/graph.js';
import { loadBackbone } from '../../models/index.js';
import type { Module } from '../../nn/module.js';
import type { Parameter } from '../../nn/parameter.js';
import type { Runtime, Tensors } from '../../runtime/session.js';
import { compileInference, compileObjective } from '../../trainer/compile.js';
import { openProgram } from '../../trainer/program.js';
import { assert } from '../../util/errors.js';
import { Random } from '../../util/random.js';
import { type Tensor, float32, toFloat64 } from '../../util/tensor.js';
import type { AttachContext, Attached, BackboneMethod, PromptWords } from '../backbone-method.js';

export const fixtures = fileURLToPath(new URL('../../../../../fixtures/', import.meta.url));

/** A backbone of any kind, as the tests call it. */
export type Model = Module & { imageFeatures(images: Value): Value; textFeatures(ids: Value): Value };

/** A freshly loaded checkpoint: a folder of the fixtures, or a whole path. */
export async function load(folder: string): Promise<{ model: Model; read: AttachContext['read'] }> {
  const path = folder.startsWith('/') ? folder : fixtures + folder;
  const model = loadBackbone(await readCheckpoint(path)) as unknown as Model;
  const read = async ({ name, shape }: Parameter): Promise<Tensor<'float32'>> => {
    const { tensors } = await readSafetensors(`${path}/model.safetensors`);
    return float32(shape, Float32Array.from(toFloat64(tensors.get(name)!)));
  };
  return { model, read };
}

/** Words by the tokenizer of a checkpoint. */
export async function wordsOf(
  folder: string, classNames: readonly string[], length: number, templates: readonly string[] = ['a photo of a {}.'],
): Promise<PromptWords> {
  const tokenizer = await readTokenizer(folder.startsWith('/') ? folder : fixtures + folder);
  return {
    classNames, length, tokenize: (texts) => tokenizer.encode(texts, length),
    prompts: classNames.map((name) => templates.map((template) => template.replace('{}', name))),
  };
}

/** Loads a checkpoint and attaches a method by parsed settings. */
export async function adapted(
  method: BackboneMethod, folder: string, config: object = {}, words?: PromptWords,
): Promise<Attached & { model: Model; initial: Record<string, Tensor<'float32'>> }> {
  const { model, read } = await load(folder);
  const attached = await method.attach(model, method.config.parse(config), { read, ...(words ? { words } : {}) });
  return { model, initial: initialValues(model), ...attached };
}

/** First values of all trained parameters by name. */
export function initialValues(model: Module, seed = 5): Record<string, Tensor<'float32'>> {
  return Object.fromEntries([...model.parameters()].flatMap(([name, { shape, origin }]) =>
    (origin.kind === 'trained' ? [[name, origin.init(shape, Random.seeded(seed).child(name))]] : [])));
}

/** What a graph puts out for the values of trained parameters and inputs. */
export async function compute(
  runtime: Runtime, build: (graph: Graph) => Record<string, Value>, feeds: Tensors, values: Tensors = {},
): Promise<Tensors> {
  const session = await openProgram(runtime, compileInference(build), values);
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

/** A loss, its outputs, and its gradients `grad.<name>` by every trained parameter that the graph uses. */
export async function objective(
  runtime: Runtime, build: (graph: Graph) => Value, feeds: Tensors, values: Tensors,
): Promise<Tensors> {
  const session = await openProgram(runtime, compileObjective(build), values);
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

/** Gradient descent: the losses before each step, and the values at the end. */
export async function descend(
  runtime: Runtime, build: (graph: Graph) => Value, feeds: Tensors, start: Record<string, Tensor<'float32'>>,
  { steps, lr }: { steps: number; lr: number },
): Promise<{ losses: number[]; values: Record<string, Tensor<'float32'>> }> {
  const names = Object.keys(start);
  const program = compileObjective(build);
  assert(program.trained.length === names.length, 'the loss does not use every trained parameter');
  const values = Object.fromEntries(names.map((name) => [name, { ...start[name]!, data: start[name]!.data.slice() }]));
  const losses: number[] = [];
  const session = await openProgram(runtime, program, {});
  try {
    for (let step = 0; step < steps; step++) {
      const got = await session.run({ ...feeds, ...values });
      losses.push(Number(got.loss!.data[0]));
      for (const name of names) {
        const gradient = got[`grad.${name}`]!.data as Float32Array;
        values[name]!.data.forEach((v, i, all) => { all[i] = v - lr * gradient[i]!; });
      }
    }
  } finally {
    await session.release();
  }
  return { losses, values };
}

/** The largest difference of two tensors of one shape; Infinity where there is a NaN. */
export function distance(a: Tensor, b: Tensor): number {
  assert(a.shape.join() === b.shape.join(), `[${a.shape.join(', ')}] against [${b.shape.join(', ')}]`);
  const [x, y] = [toFloat64(a), toFloat64(b)];
  return x.reduce((worst, v, i) => Math.max(worst, Number.isNaN(v - y[i]!) ? Infinity : Math.abs(v - y[i]!)), 0);
}
