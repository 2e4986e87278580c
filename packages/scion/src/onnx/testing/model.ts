/** ONNX models written by hand, and ONNX Runtime's own run of a model as it stands. */
import { create, toBinary } from '@bufbuild/protobuf';
import ort from 'onnxruntime-node';
import { Graph, type Value } from '../../ir/graph.js';
import type { Runtime, Tensors } from '../../runtime/session.js';
import { type Tensor, bytesOf } from '../../util/tensor.js';
import { type OnnxSummary, decodeModel } from '../decode.js';
import { onnxTypes } from '../dtypes.js';
import { encodeModel } from '../encode.js';
import {
  type AttributeProto, AttributeProtoSchema, AttributeProto_AttributeType as Kind, ModelProtoSchema, type NodeProto,
  NodeProtoSchema, type TensorProto, TensorProtoSchema, type ValueInfoProto, ValueInfoProtoSchema,
} from '../generated/onnx_pb.js';
import { type BuildOptions, ImportedModel } from '../import.js';

/** A float attribute; plain numbers are whole. */
export interface Float { readonly float: number }
export type Attribute = number | string | readonly number[] | Float | Tensor | { readonly floats: readonly number[] };

export interface NodeSpec {
  op: string;
  domain?: string;
  name?: string;
  inputs: readonly string[];
  outputs?: readonly string[];
  attributes?: Readonly<Record<string, Attribute>>;
}

interface Declared { dtype: Tensor['dtype']; shape: readonly (number | string)[] }

export interface ModelSpec {
  opset: number;
  /** Inputs of the graph, which have a shape; a name stands for a symbolic axis. */
  inputs: Readonly<Record<string, Declared>>;
  constants?: Readonly<Record<string, Tensor>>;
  nodes: readonly NodeSpec[];
  /** All outputs of the last node where absent. */
  outputs?: readonly string[];
}

export function tensorProto(name: string, t: Tensor): TensorProto {
  const dims = t.shape.map(BigInt);
  return create(TensorProtoSchema, { name, dataType: onnxTypes[t.dtype], dims, rawData: bytesOf(t) });
}

function attributeProto(name: string, value: Attribute): AttributeProto {
  const of = (fields: object): AttributeProto => create(AttributeProtoSchema, { name, ...fields });
  if (typeof value === 'number') return of({ type: Kind.INT, i: BigInt(value) });
  if (typeof value === 'string') return of({ type: Kind.STRING, s: new TextEncoder().encode(value) });
  if ('float' in value) return of({ type: Kind.FLOAT, f: value.float });
  if ('floats' in value) return of({ type: Kind.FLOATS, floats: [...value.floats] });
  if ('dtype' in value) return of({ type: Kind.TENSOR, t: tensorProto('', value) });
  return of({ type: Kind.INTS, ints: value.map(BigInt) });
}

function valueInfo(name: string, type?: Declared): ValueInfoProto {
  if (!type) return create(ValueInfoProtoSchema, { name });
  const dim = type.shape.map((d) => ({ value: typeof d === 'number'
    ? { case: 'dimValue' as const, value: BigInt(d) } : { case: 'dimParam' as const, value: d } }));
  return create(ValueInfoProtoSchema,
    { name, type: { value: { case: 'tensorType', value: { elemType: onnxTypes[type.dtype], shape: { dim } } } } });
}

const nodeProto = ({ op, domain = '', name = op, inputs, outputs = ['y'], attributes = {} }: NodeSpec): NodeProto =>
  create(NodeProtoSchema, {
    opType: op, domain, name, input: [...inputs], output: [...outputs],
    attribute: Object.entries(attributes).map(([key, v]) => attributeProto(key, v)),
  });

/** The bytes of a model. */
export function onnxModel({ opset, inputs, constants = {}, nodes, outputs }: ModelSpec): Uint8Array {
  return toBinary(ModelProtoSchema, create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [{ domain: '', version: BigInt(opset) }, { domain: 'com.microsoft', version: 1n }],
    graph: {
      name: 'test',
      node: nodes.map(nodeProto),
      input: Object.entries(inputs).map(([name, type]) => valueInfo(name, type)),
      output: (outputs ?? nodes.at(-1)!.outputs ?? ['y']).filter((name) => name !== '').map((name) => valueInfo(name)),
      initializer: Object.entries(constants).map(([name, t]) => tensorProto(name, t)),
    },
  }));
}

/** A model that was imported from memory, with all constants there. */
export function imported(bytes: Uint8Array | OnnxSummary, path = 'test.onnx'): ImportedModel {
  const summary = bytes instanceof Uint8Array ? decodeModel(bytes, path) : bytes;
  return new ImportedModel(summary, { path, file: path, external: new Map() });
}

/** A program that computes an imported graph on inputs of these shapes. */
export function programOf(model: ImportedModel, feeds: Tensors, options: BuildOptions = {}): Graph {
  const graph = new Graph();
  const values = Object.fromEntries(Object.entries(feeds).map(([name, t]): [string, Value] =>
    [name, graph.input(name, t.dtype, t.shape)]));
  for (const [name, v] of Object.entries(model.build(graph, values, options))) graph.output(name, v);
  return graph;
}

/** Runs a program; inputs that it does not have are left out. */
export async function run(runtime: Runtime, graph: Graph, feeds: Tensors): Promise<Tensors> {
  const session = await runtime.load(encodeModel(graph));
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

/** ONNX Runtime's run of the original, a file or bytes. */
export async function original(model: string | Uint8Array, feeds: Tensors): Promise<Tensors> {
  const { InferenceSession } = ort;
  const opened = typeof model === 'string' ? InferenceSession.create(model) : InferenceSession.create(model);
  const session = await opened;
  try {
    const results = await session.run(Object.fromEntries(Object.entries(feeds).map(([name, { dtype, data, shape }]) =>
      [name, new ort.Tensor(dtype as 'float32', data as Float32Array, shape)])));
    return Object.fromEntries(Object.entries(results).map(([name, t]) =>
      [name, { dtype: t.type, shape: t.dims, data: t.data } as unknown as Tensor]));
  } finally {
    await session.release();
  }
}
