/** Reads the bytes of an ONNX model into a plain summary. */
import { fromBinary } from '@bufbuild/protobuf';
import { inputError } from '../util/errors.js';
import type { DType } from '../util/tensor.js';
import { onnxTypes } from './encode.js';
import {
  type AttributeProto, AttributeProto_AttributeType as Kind, type ModelProto, ModelProtoSchema,
  TensorProto_DataLocation, type ValueInfoProto,
} from './generated/onnx_pb.js';

/** A named value; a dimension without a fixed size is its name. */
export interface OnnxValue { name: string; dtype: DType | undefined; shape: readonly (number | string)[] }

export interface OnnxNode {
  op: string;
  domain: string;
  name: string;
  /** An empty name is an input that is left out. */
  inputs: readonly string[];
  outputs: readonly string[];
  attributes: Readonly<Record<string, number | string | readonly number[]>>;
}

/** A constant: its bytes, or where they lie relative to the model's folder. */
export interface OnnxInitializer {
  name: string;
  dtype: DType | undefined;
  shape: readonly number[];
  data: Uint8Array | { location: string; offset: number; byteLength: number };
}

export interface OnnxSummary {
  opsets: Readonly<Record<string, number>>;
  inputs: readonly OnnxValue[];
  outputs: readonly OnnxValue[];
  nodes: readonly OnnxNode[];
  initializers: readonly OnnxInitializer[];
}

const dtypes = new Map(Object.entries(onnxTypes).map(([name, code]) => [code as number, name as DType]));

/** @throws ScionError of kind `input`, naming `path`, for bytes that are no ONNX model */
export function decodeModel(bytes: Uint8Array, path = 'the model'): OnnxSummary {
  let model: ModelProto;
  try {
    model = fromBinary(ModelProtoSchema, bytes);
  } catch (cause) {
    throw inputError(path, 'is no ONNX model, expected its protobuf encoding; check the path', { cause });
  }
  const { graph } = model;
  if (!graph) throw inputError(path, 'is an ONNX model without a graph; export it again');
  return {
    opsets: Object.fromEntries(model.opsetImport.map((o) => [o.domain, Number(o.version)])),
    inputs: graph.input.map(summary),
    outputs: graph.output.map(summary),
    nodes: graph.node.map((n) => ({
      op: n.opType, domain: n.domain, name: n.name, inputs: n.input, outputs: n.output,
      attributes: Object.fromEntries(n.attribute.map((a) => [a.name, attribute(a)])),
    })),
    initializers: graph.initializer.map((t) => {
      const external = new Map(t.externalData.map(({ key, value }) => [key, value]));
      return {
        name: t.name,
        dtype: dtypes.get(t.dataType),
        shape: t.dims.map(Number),
        data: t.dataLocation === TensorProto_DataLocation.EXTERNAL
          ? {
            location: external.get('location') ?? '',
            offset: Number(external.get('offset') ?? 0),
            byteLength: Number(external.get('length') ?? 0),
          }
          : t.rawData,
      };
    }),
  };
}

function summary({ name, type }: ValueInfoProto): OnnxValue {
  const t = type?.value.case === 'tensorType' ? type.value.value : undefined;
  const shape =
    (t?.shape?.dim ?? []).map(({ value }) => (value.case === 'dimValue' ? Number(value.value) : value.value ?? '?'));
  return { name, dtype: t && dtypes.get(t.elemType), shape };
}

function attribute({ type, i, f, s, ints, floats }: AttributeProto): OnnxNode['attributes'][string] {
  if (type === Kind.INT) return Number(i);
  if (type === Kind.FLOAT) return f;
  if (type === Kind.STRING) return new TextDecoder().decode(s);
  return type === Kind.FLOATS ? floats : ints.map(Number);
}
