/** Adapted checkpoints for tests: attaching, running, gradients, a few steps of training. */
import { fileURLToPath } from 'node:url';
import { readTokenizer } from '../../data/tokenizer.js';
import { readSafetensors } from '../../formats/safetensors-node.js';
import { readCheckpoint } from '../../hub/checkpoint.js';
import type { Graph, Value } from '../../ir/graph.js';
import { loadBackbone } from '../../models/index.js';
import * as f from '../../nn/functional.js';
import type { Module } from '../../nn/module.js';
import { type Parameter, init } from '../../nn/parameter.js';
import type { Runtime, Tensors } from '../../runtime/session.js';
import { compileInference, compileObjective } from '../../trainer/compile.js';
import { openProgram } from '../../trainer/program.js';
import { assert } from '../../util/errors.js';
import { Random } from '../../util/random.js';
import { type Shape, type Tensor, float32, int64, toFloat64 } from '../../util/tensor.js';
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
): Promise<{ promptIds?: Tensor<'int64'>; model: Model; initial: Record<string, Tensor<'float32'>> }> {
  const { model, read } = await load(folder);
  const attached = await method.attach(model, method.config.parse(config), { read, ...(words ? { words } : {}) });
  const ids = attached?.promptIds;
  return { model, initial: initialValues(model), ...(ids?.length && { promptIds: stacked(ids) }) };
}

/** Ids of as many texts for each class: K times [templates, length] → [K, templates, length]. */
export function stacked(ids: NonNullable<Attached['promptIds']>): Tensor<'int64'> {
  return int64([ids.length, ...ids[0]!.shape], ids.flatMap(({ data }) => Array.from(data, Number)));
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

/**
 * The largest gradient of every row of every trained parameter (one row where it is a vector), by its name: of all
 * features of the given inputs, each with a random factor.
 */
export async function rowGradients(
  runtime: Runtime, model: Model, feeds: { images?: Tensor<'float32'>; ids?: Tensor<'int64'> }, values: Tensors,
): Promise<Record<string, number[]>> {
  const random = Random.seeded(4);
  const got = await objective(runtime, (graph) => {
    const towers = [
      ...(feeds.images ? [model.imageFeatures(graph.input('images', 'float32', feeds.images.shape))] : []),
      ...(feeds.ids ? [model.textFeatures(graph.input('ids', 'int64', feeds.ids.shape))] : []),
    ];
    return towers.map((y) => f.reduceSum(f.mul(y, f.constant(graph, drawn(y.shape, random))))).reduce((a, b) => f.add(a, b));
  }, { ...feeds }, values);
  return Object.fromEntries(Object.entries(got).flatMap(([name, { shape, data }]) => {
    if (!name.startsWith('grad.')) return [];
    const [rows, width] = shape.length === 1 ? [1, shape[0]!] : [shape[0]!, shape[1]!];
    const largest = Array.from({ length: rows }, (_, row) =>
      Math.max(...(data as Float32Array).slice(row * width, (row + 1) * width).map(Math.abs)));
    return [[name.slice('grad.'.length), largest]];
  }));
}

/** Normal numbers. */
export function drawn(shape: Shape, random: Random): Tensor<'float32'> {
  return init.normal(1)(shape, random);
}

/** The cross entropy of pictures against the texts of as many classes, picture i of class i mod K. */
export function classificationLoss(graph: Graph, images: Value, texts: Value): Value {
  const [count, classes] = [images.shape[0]!, texts.shape[0]!];
  const logits = f.fusedMatMul(f.l2Normalize(images), f.l2Normalize(texts), { transB: 1, alpha: 10 });
  return f.crossEntropy(logits, f.constant(graph, int64([count], Array.from({ length: count }, (_, i) => i % classes))));
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
