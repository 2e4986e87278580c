/** Reads the bytes of an ONNX model into a plain summary, with every length checked against what is there. */
import { fromBinary } from '@bufbuild/protobuf';
import { type Issue, ScionError, inputError } from '../util/errors.js';
import { type DType, byteSize, bytesOf, fromFloat64, numel } from '../util/tensor.js';
import { dtypeOf } from './dtypes.js';
import {
  type AttributeProto, AttributeProto_AttributeType as Kind, type ModelProto, ModelProtoSchema, type NodeProto,
  type TensorProto, TensorProto_DataLocation, type ValueInfoProto,
} from './generated/onnx_pb.js';

/** A named value; a dimension without a fixed size is its name. */
export interface OnnxValue { name: string; dtype: DType | undefined; shape: readonly (number | string)[] }

/** Attributes of other kinds (a subgraph, a sparse tensor) are named by their kind. */
export type OnnxAttribute =
  | number | string | readonly number[] | readonly string[] | OnnxInitializer | { readonly kind: string };

export interface OnnxNode {
  op: string;
  domain: string;
  name: string;
  /** An empty name is an input that is left out. */
  inputs: readonly string[];
  outputs: readonly string[];
  attributes: Readonly<Record<string, OnnxAttribute>>;
  /** Where the exporter of PyTorch 2 says the node was: the modules from the root on, and the node itself. */
  scopes?: readonly string[];
}

/** Bytes of a file beside the model; of the model's own file where the location is empty. */
export interface OnnxRange { location: string; offset: number; byteLength: number }

/** A constant: its bytes, or where they lie. */
export interface OnnxInitializer {
  name: string;
  /** Undefined where Scion does not know the type. */
  dtype: DType | undefined;
  shape: readonly number[];
  data: Uint8Array | OnnxRange;
}

export interface OnnxSummary {
  opsets: Readonly<Record<string, number>>;
  inputs: readonly OnnxValue[];
  outputs: readonly OnnxValue[];
  nodes: readonly OnnxNode[];
  initializers: readonly OnnxInitializer[];
}

/**
 * @param path the file, for messages
 * @throws ScionError of kind `input`: bytes that are no ONNX model, or every constant whose shape and bytes disagree
 */
export function decodeModel(bytes: Uint8Array, path = 'the model'): OnnxSummary {
  let model: ModelProto;
  try {
    model = fromBinary(ModelProtoSchema, bytes);
  } catch (cause) {
    throw inputError(path, 'is no ONNX model, expected its protobuf encoding; check the path', { cause });
  }
  const { graph } = model;
  if (!graph) throw inputError(path, 'is an ONNX model without a graph; export it again');
  const issues: Issue[] = [];
  const constant = (t: TensorProto, name = t.name): OnnxInitializer => {
    const found = initializer(t, name);
    const fault = complaint(found);
    if (fault) issues.push({ path: `${path}: ${name || 'a constant'}`, message: `${fault}; export the model again` });
    return found;
  };
  if (graph.sparseInitializer.length > 0) {
    issues.push({ path, message: 'has sparse constants, which are not supported; export the model without them' });
  }
  const summary: OnnxSummary = {
    opsets: Object.fromEntries(model.opsetImport.map((o) => [o.domain, Number(o.version)])),
    inputs: graph.input.map(valueOf),
    outputs: graph.output.map(valueOf),
    nodes: graph.node.map((n) => nodeOf(n, constant)),
    initializers: graph.initializer.map((t) => constant(t)),
  };
  if (issues.length > 0) throw new ScionError('input', issues);
  return summary;
}

function valueOf({ name, type }: ValueInfoProto): OnnxValue {
  const t = type?.value.case === 'tensorType' ? type.value.value : undefined;
  const shape =
    (t?.shape?.dim ?? []).map(({ value }) => (value.case === 'dimValue' ? Number(value.value) : value.value ?? '?'));
  return { name, dtype: t && dtypeOf(t.elemType), shape };
}

function nodeOf(n: NodeProto, constant: (t: TensorProto, name: string) => OnnxInitializer): OnnxNode {
  const scopes = n.metadataProps.find(({ key }) => key === 'pkg.torch.onnx.name_scopes')?.value;
  return {
    op: n.opType, domain: n.domain === 'ai.onnx' ? '' : n.domain, name: n.name, inputs: n.input, outputs: n.output,
    attributes: Object.fromEntries(n.attribute.map((a) => [
      a.name, a.type === Kind.TENSOR && a.t ? constant(a.t, n.name || n.output[0] || '') : attribute(a),
    ])),
    // a list as Python prints it; names of modules hold neither quotes nor backslashes
    ...(scopes === undefined ? {} : { scopes: [...scopes.matchAll(/'([^']*)'/g)].map((m) => m[1]!) }),
  };
}

function attribute({ type, i, f, s, ints, floats, strings }: AttributeProto): OnnxAttribute {
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  switch (type) {
    case Kind.INT: return Number(i);
    case Kind.FLOAT: return f;
    case Kind.STRING: return text(s);
    case Kind.FLOATS: return floats;
    case Kind.INTS: return ints.map(Number);
    case Kind.STRINGS: return strings.map(text);
    default: return { kind: Kind[type] ?? String(type) };
  }
}

function initializer(t: TensorProto, name: string): OnnxInitializer {
  const dtype = dtypeOf(t.dataType);
  const shape = t.dims.map(Number);
  if (t.dataLocation === TensorProto_DataLocation.EXTERNAL) {
    const external = new Map(t.externalData.map(({ key, value }) => [key, value]));
    const rest = numel(shape) * (dtype === undefined ? 1 : byteSize(dtype));
    return {
      name, dtype, shape,
      data: {
        location: external.get('location') ?? '',
        offset: Number(external.get('offset') ?? 0),
        byteLength: Number(external.get('length') ?? rest),
      },
    };
  }
  return { name, dtype, shape, data: t.rawData.length > 0 ? new Uint8Array(t.rawData) : typedBytes(t, dtype) };
}

/** What is not in `raw_data` is in the field of its type; float16 as its bits, in `int32_data`. */
function typedBytes(t: TensorProto, dtype: DType | undefined): Uint8Array {
  const numbers: ArrayLike<number | bigint> | undefined =
    dtype === undefined ? undefined
    : dtype === 'float32' ? t.floatData
    : dtype === 'float64' ? t.doubleData
    : dtype === 'int64' ? t.int64Data
    : dtype === 'uint64' || dtype === 'uint32' ? t.uint64Data
    : t.int32Data;
  if (!dtype || !numbers || numbers.length === 0) return new Uint8Array(0);
  const shape = [numbers.length];
  if (dtype === 'int64') return bytesOf({ dtype, shape, data: BigInt64Array.from(numbers as bigint[]) });
  if (dtype === 'uint64') return bytesOf({ dtype, shape, data: BigUint64Array.from(numbers as bigint[]) });
  const stored: DType = dtype === 'float16' || dtype === 'bfloat16' ? 'uint16' : dtype;
  return bytesOf(fromFloat64(stored, shape, Float64Array.from(numbers, Number)));
}

function complaint({ dtype, shape, data }: OnnxInitializer): string | undefined {
  if (!shape.every((d) => Number.isSafeInteger(d) && d >= 0)) return `has shape [${shape.join(', ')}]`;
  const range = 'location' in data ? data : undefined;
  if (range && !(Number.isSafeInteger(range.offset) && range.offset >= 0 && Number.isSafeInteger(range.byteLength)
    && range.byteLength >= 0)) {
    return `has external data at offset ${range.offset} of ${range.byteLength} bytes`;
  }
  if (dtype === undefined) return undefined; // refused where it is used
  const [expected, found] = [numel(shape) * byteSize(dtype), range ? range.byteLength : (data as Uint8Array).length];
  return expected === found
    ? undefined : `has shape [${shape.join(', ')}] of ${dtype}, which is ${expected} bytes, and holds ${found}`;
}
