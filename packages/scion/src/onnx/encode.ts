/** Writes a graph as an ONNX model: opset 21 and `com.microsoft` 1, weights in files referenced as external data. */
import { create, toBinary } from '@bufbuild/protobuf';
import { type Graph, type Node, type TypeInfo, type Value, liveNodes } from '../ir/graph.js';
import { valueName } from '../ir/print.js';
import { verifyGraph } from '../ir/verify.js';
import { opDef } from '../ops/table.js';
import { assert } from '../util/errors.js';
import { type DType, bytesOf, fromFloat64, int64 } from '../util/tensor.js';
import type { Tensor } from '../util/tensor.js';
import { onnxTypes } from './dtypes.js';
import {
  type AttributeProto, AttributeProtoSchema, AttributeProto_AttributeType as Kind, type ModelProto, ModelProtoSchema,
  type NodeProto, NodeProtoSchema, type TensorProto, TensorProtoSchema, TensorProto_DataLocation, type ValueInfoProto,
  ValueInfoProtoSchema,
} from './generated/onnx_pb.js';

export const opset = 21;

/** A compiled program, ready for a runtime. External locations are relative to `folder`. */
export interface OnnxModel {
  readonly bytes: Uint8Array;
  readonly folder?: string;
}

export function encodeModel(graph: Graph, name = 'scion'): OnnxModel {
  const { model, folder } = modelProto(graph, name);
  const bytes = toBinary(ModelProtoSchema, model);
  return folder === undefined ? { bytes } : { bytes, folder };
}

/** The same before it is written as bytes, for what goes on changing it. */
export function modelProto(graph: Graph, name = 'scion'): { model: ModelProto; folder: string | undefined } {
  verifyGraph(graph);
  const folder = commonFolder(graph);
  const live = liveNodes(graph);
  const used = new Set([...[...live].flatMap((n) => n.inputs), ...graph.outputs.values()]);
  const names = new Map<Value, string>();
  for (const [output, v] of graph.outputs) if (v.source.kind === 'node' && !names.has(v)) names.set(v, output);
  const nameOf = (v: Value): string => names.get(v) ?? valueName(v);
  const extra: TensorProto[] = [];
  const inline = (key: string, data: Tensor): string => {
    if (!extra.some((t) => t.name === key)) extra.push(tensorProto(key, data));
    return key;
  };
  const nodes = graph.nodes.filter((n) => live.has(n)).map((node) => encodeNode(node, nameOf, used, inline));
  // an output that is an input, a constant or known under another name already
  for (const [output, v] of graph.outputs) {
    if (nameOf(v) !== output) {
      nodes.push(create(NodeProtoSchema, { opType: 'Identity', input: [nameOf(v)], output: [output], name: output }));
    }
  }
  const model = create(ModelProtoSchema, {
    irVersion: 10n,
    producerName: 'scion-peft',
    opsetImport: [{ domain: '', version: BigInt(opset) }, { domain: 'com.microsoft', version: 1n }],
    graph: {
      name,
      node: nodes,
      input: graph.inputs.map((v) => valueInfo(nameOf(v), v)),
      output: [...graph.outputs].map(([output, v]) => valueInfo(output, v)),
      initializer: [...graph.constants.filter((v) => used.has(v)).map((v) => constantProto(v, folder)), ...extra],
    },
  });
  return { model, folder };
}

function encodeNode(
  node: Node, nameOf: (v: Value) => string, used: ReadonlySet<Value>, inline: (key: string, data: Tensor) => string,
): NodeProto {
  const def = opDef(node.op).onnx ?? {};
  const attributes = { ...(node.attributes as Record<string, unknown>) };
  const inputs = node.inputs.map(nameOf);
  for (const { attribute, as } of def.inputs ?? []) {
    const value = attributes[attribute] as number | number[];
    delete attributes[attribute];
    const list = Array.isArray(value) ? value : [value];
    const key = `${as === 'like' ? node.inputs[0]!.dtype : as}(${list.join()})`;
    inputs.push(inline(key, as === 'like'
      ? fromFloat64(node.inputs[0]!.dtype, [], Float64Array.from(list))
      : int64(as === 'int64' ? [list.length] : [], list)));
  }
  Object.assign(attributes, def.fixed);
  const outputs = node.outputs.map((v, i) => (used.has(v) || i < (def.outputs ?? Infinity) ? nameOf(v) : ''));
  while (outputs.length > 1 && outputs.at(-1) === '') outputs.pop();
  return create(NodeProtoSchema, {
    opType: node.op,
    domain: def.domain ?? '',
    name: `${node.path || 'main'}/${node.op}_${node.outputs[0]!.id}`,
    input: inputs,
    output: outputs,
    attribute: Object.entries(attributes).map(([key, v]) => attributeProto(node.op, key, v)),
  });
}

/** Attributes that ONNX declares as floats; every other number is an integer. */
const floats = new Set(['alpha', 'beta', 'epsilon']);

function attributeProto(op: string, name: string, value: unknown): AttributeProto {
  const of = (fields: Partial<Omit<AttributeProto, '$typeName'>>): AttributeProto =>
    create(AttributeProtoSchema, { name, ...fields });
  if (op === 'Cast' && name === 'to') return of({ type: Kind.INT, i: BigInt(onnxTypes[value as DType]) });
  if (typeof value === 'string') return of({ type: Kind.STRING, s: new TextEncoder().encode(value) });
  if (typeof value === 'number') {
    return floats.has(name) ? of({ type: Kind.FLOAT, f: value }) : of({ type: Kind.INT, i: BigInt(value) });
  }
  return of({ type: Kind.INTS, ints: (value as number[]).map(BigInt) });
}

function valueInfo(name: string, type: TypeInfo): ValueInfoProto {
  return create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: 'tensorType',
        value: {
          elemType: onnxTypes[type.dtype],
          shape: { dim: type.shape.map((d) => ({ value: { case: 'dimValue' as const, value: BigInt(d) } })) },
        },
      },
    },
  });
}

function tensorProto(name: string, data: Tensor): TensorProto {
  return create(TensorProtoSchema, {
    name, dataType: onnxTypes[data.dtype], dims: data.shape.map(BigInt), rawData: bytesOf(data),
  });
}

function constantProto(v: Value, folder: string | undefined): TensorProto {
  if (v.source.kind !== 'constant') throw new Error('not a constant');
  const { data, name } = v.source;
  if (!('path' in data)) return tensorProto(name, data);
  const location = data.path.slice(folder!.length);
  return create(TensorProtoSchema, {
    name,
    dataType: onnxTypes[v.dtype],
    dims: v.shape.map(BigInt),
    dataLocation: TensorProto_DataLocation.EXTERNAL,
    externalData: [
      { key: 'location', value: location },
      { key: 'offset', value: String(data.offset) },
      { key: 'length', value: String(data.byteLength) },
    ],
  });
}

/**
 * The deepest folder that holds every external file, with a slash at its end; ONNX Runtime takes one folder and no
 * location that leads out of it, so paths are absolute and without `..`.
 */
function commonFolder(graph: Graph): string | undefined {
  const folders = graph.constants.flatMap((v) =>
    v.source.kind === 'constant' && 'path' in v.source.data ? [v.source.data.path.split('/').slice(0, -1)] : []);
  if (folders.length === 0) return undefined;
  for (const parts of folders) {
    assert((parts[0] === '' || /^[A-Z]:$/i.test(parts[0]!)) && !parts.includes('..') && !parts.includes('.'),
      `external data in ${parts.join('/')}, expected an absolute path without . and ..`);
  }
  return `${folders.reduce((a, c) => {
    const fork = a.findIndex((part, i) => part !== c[i]);
    return fork < 0 ? a : a.slice(0, fork);
  }).join('/')}/`;
}
