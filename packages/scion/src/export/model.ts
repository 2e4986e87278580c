/** From a function that builds a program to an ONNX model with open axes, in ONNX's own ops. */
import { create } from '@bufbuild/protobuf';
import { Graph, type Value } from '../ir/graph.js';
import { boundParameters } from '../nn/parameter.js';
import { onnxTypes } from '../onnx/dtypes.js';
import { encodeModel, modelProto } from '../onnx/encode.js';
import { type ModelProto, TensorProtoSchema } from '../onnx/generated/onnx_pb.js';
import { type Hoisted, hoistFrozen } from '../passes/hoist.js';
import { shrink } from '../passes/shrink.js';
import type { Runtime, Tensors } from '../runtime/session.js';
import { bytesOf } from '../util/tensor.js';
import { standardOps } from './standard.js';
import { type OpenAxis, withOpenAxes } from './symbolic.js';

/** A model whose weights are not in it yet; locations of external data start from `folder`. */
export interface UnwrittenModel {
  readonly model: ModelProto;
  readonly folder: string | undefined;
}

/** Builds a program in `graph`; `size` gives the length of an open axis by its name. Outputs by name. */
export type Build = (graph: Graph, size: (axis: string) => number) => Readonly<Record<string, Value>>;

/**
 * Compiles an inference program. What depends on frozen parameters alone is computed now and becomes a weight, such as
 * the class texts that a method has adapted.
 */
export async function inferenceModel(
  build: Build, axes: readonly OpenAxis[], runtime: Runtime, name: string,
): Promise<UnwrittenModel> {
  const [first, second, third] = ([0, 1, 2] as const).map((m) => compile(build, axes, m)) as [Compiled, Compiled, Compiled];
  const { parameters } = first;
  // what has the length of an open axis is no weight, whatever it depends on
  const open = first.graph.nodes.map(({ outputs }, i) => outputs.some(({ shape }, j) =>
    [second, third].some(({ graph }) => graph.nodes[i]?.outputs[j]?.shape.join() !== shape.join())));
  const parts = [first, second, third].map(({ graph }) => {
    const places = new Map(graph.nodes.map((node, i) => [node, i]));
    return hoistFrozen(graph, (node) => !open[places.get(node)!]);
  });
  const hoisted = parts[0]!;
  const steps = parts.map(({ step }) => modelProto(standardOps(step), name));
  const written = steps as [UnwrittenModel, UnwrittenModel, UnwrittenModel];
  const values: Tensors = { ...parameters, ...await computed(hoisted, parameters, runtime) };
  for (const { model } of written) model.graph!.input = model.graph!.input.filter((v) => !(v.name in values));
  const [{ model, folder }] = written;
  withOpenAxes([model, written[1].model, written[2].model], axes);
  const read = new Set(model.graph!.node.flatMap((n) => n.input));
  for (const [input, value] of Object.entries(values)) {
    if (!read.has(input)) continue;
    model.graph!.initializer.push(create(TensorProtoSchema, {
      name: input, dims: value.shape.map(BigInt), dataType: onnxTypes[value.dtype], rawData: bytesOf(value),
    }));
  }
  return { model, folder };
}

interface Compiled {
  graph: Graph;
  /** The values of the frozen parameters that the program reads. */
  parameters: Tensors;
}

function compile(build: Build, axes: readonly OpenAxis[], at: 0 | 1 | 2): Compiled {
  const graph = new Graph();
  const sizes = new Map(axes.map((axis) => [axis.name, axis.sizes[at]]));
  for (const [name, value] of Object.entries(build(graph, (axis) => sizes.get(axis)!))) graph.output(name, value);
  const parameters = Object.fromEntries([...boundParameters(graph).keys()].flatMap((p) =>
    (p.origin.kind === 'frozen' ? [[p.name, p.origin.value]] : [])));
  return { graph: shrink(graph), parameters };
}

/** What the prologue computes from the parameters. */
async function computed({ prologue }: Hoisted, parameters: Tensors, runtime: Runtime): Promise<Tensors> {
  if (!prologue) return {};
  const session = await runtime.load(encodeModel(prologue, 'prologue'));
  try {
    const inputs = new Set(prologue.inputs.flatMap((v) => (v.source.kind === 'input' ? [v.source.name] : [])));
    return await session.run(Object.fromEntries(Object.entries(parameters).filter(([name]) => inputs.has(name))));
  } finally {
    await session.release();
  }
}
