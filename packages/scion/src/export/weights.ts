/**
 * The weights of an exported model in the format that was asked for. They are read from the files they lie in one by
 * one; the model then holds them itself or, beyond a limit, names a file of external data beside it.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import { readRange, writeAtomically } from '../formats/files.js';
import { dtypeOf, fileSuffixes, onnxTypes } from '../onnx/dtypes.js';
import {
  AttributeProtoSchema, AttributeProto_AttributeType as Kind, type GraphProto, type ModelProto, ModelProtoSchema,
  type NodeProto, NodeProtoSchema, StringStringEntryProtoSchema, type TensorProto, TensorProtoSchema,
  TensorProto_DataLocation as Location,
} from '../onnx/generated/onnx_pb.js';
import { type DType, arrayOver, byteSize, bytesOf, float32, narrowFloat16, toFloat32 } from '../util/tensor.js';

/** Formats of weights by the names of transformers.js, with the ending of its file names. Products stay in float32. */
export const weightFormats = {
  fp32: { dtype: 'float32', suffix: fileSuffixes.fp32 },
  fp16: { dtype: 'float16', suffix: fileSuffixes.fp16 },
  int8: { dtype: 'int8', suffix: fileSuffixes.int8 },
  q8: { dtype: 'int8', suffix: fileSuffixes.q8 },
} as const satisfies Record<string, { dtype: DType; suffix: string }>;
export type WeightFormat = keyof typeof weightFormats;

/**
 * Weights in bytes up to which the model holds them itself. ONNX ends at 2 GB; half of that, since all of it is in
 * memory while it is written.
 */
export const inlineLimit = 2 ** 30;

/** A tensor of the model whose bytes are made when they are written. */
interface Weight {
  readonly proto: TensorProto;
  readonly byteLength: number;
  readonly load: () => Promise<Uint8Array>;
}

/**
 * Writes a model with its weights: `file`, and `file` + `_data` where they are more than `limit` bytes.
 * @param folder that locations of external data in `model` start from
 * @returns the paths of what was written
 */
export async function writeModel(
  { model, folder = '' }: { model: ModelProto; folder: string | undefined }, file: string, format: WeightFormat,
  limit = inlineLimit,
): Promise<string[]> {
  const graph = model.graph!;
  unwrapHalves(graph);
  const { dtype } = weightFormats[format];
  const products = dtype === 'int8' ? operandsOfProducts(graph) : undefined;
  const casts: NodeProto[] = [];
  const weights = graph.initializer.flatMap((t): Weight[] => {
    const source = stored(t, folder);
    if (t.dataType !== onnxTypes.float32) return [source];
    if (dtype === 'float16' && elements(t) >= smallest) return [asFloat16(source, casts)];
    if (products?.has(t.name)) return asInt8(source, casts);
    return [source];
  });
  graph.node.unshift(...casts);
  graph.initializer = weights.map(({ proto }) => proto);
  const total = weights.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const large = total > limit ? weights.filter(({ byteLength }) => byteLength >= outsideFrom) : [];
  if (large.length > 0) await writeAtomically(`${file}_data`, outside(large, file.split(/[\\/]/).at(-1)!));
  const beside = new Set(large);
  for (const weight of weights) {
    if (beside.has(weight)) continue;
    const { proto } = weight;
    proto.rawData = await weight.load();
    proto.dataLocation = Location.DEFAULT;
    proto.externalData = [];
  }
  await writeAtomically(file, [toBinary(ModelProtoSchema, model)]);
  return large.length > 0 ? [file, `${file}_data`] : [file];
}

/** Smaller tensors stay in the model, as in ONNX's own tool: shapes must be known to whoever reads it. */
const outsideFrom = 1024;

/** Fewer numbers are not worth another format. */
const smallest = 256;
const elements = (t: TensorProto): number => t.dims.reduce((n, d) => n * Number(d), 1);

/** Where ONNX Runtime may map external data: at multiples of this. */
const alignment = 4096;

/** The bytes of a file of external data; each weight is told its place in it. */
async function* outside(weights: readonly Weight[], model: string): AsyncGenerator<Uint8Array, void, undefined> {
  let at = 0;
  for (const { proto, byteLength, load } of weights) {
    const padding = (alignment - (at % alignment)) % alignment;
    if (padding > 0) yield new Uint8Array(padding);
    at += padding;
    const place = { location: `${model}_data`, offset: String(at), length: String(byteLength) };
    proto.dataLocation = Location.EXTERNAL;
    proto.externalData =
      Object.entries(place).map(([key, value]) => create(StringStringEntryProtoSchema, { key, value }));
    yield await load();
    at += byteLength;
  }
}

const halves = new Map<number, DType>([[onnxTypes.float16, 'float16'], [onnxTypes.bfloat16, 'bfloat16']]);

/** A weight that a checkpoint holds in half precision takes the place of the Cast that reads it, as float32. */
function unwrapHalves(graph: GraphProto): void {
  const half = new Map(graph.initializer.filter((t) => halves.has(t.dataType)).map((t) => [t.name, t]));
  graph.node = graph.node.filter((node) => {
    const weight = node.opType === 'Cast' ? half.get(node.input[0]!) : undefined;
    if (!weight) return true;
    sourceTypes.set(weight, halves.get(weight.dataType)!);
    weight.name = node.output[0]!;
    weight.dataType = onnxTypes.float32;
    return false;
  });
}
/** The dtype of the stored bytes, where it is not that of the tensor. */
const sourceTypes = new WeakMap<TensorProto, DType>();

function stored(proto: TensorProto, folder: string): Weight {
  const dtype = dtypeOf(proto.dataType)!;
  const source = sourceTypes.get(proto) ?? dtype;
  const place = Object.fromEntries(proto.externalData.map(({ key, value }) => [key, value]));
  const { rawData } = proto;
  const outside = proto.dataLocation === Location.EXTERNAL;
  return {
    proto,
    byteLength: elements(proto) * byteSize(dtype),
    load: async () => {
      const path = `${folder}${place.location}`;
      const bytes = outside
        ? await readRange({ path, offset: Number(place.offset), byteLength: Number(place.length) }) : rawData;
      if (source === dtype) return bytes;
      return bytesOf(toFloat32({ dtype: source, shape: proto.dims.map(Number), data: arrayOver(source, bytes) }));
    },
  };
}

const numbersOf = async (weight: Weight): Promise<Float32Array> => arrayOver('float32', await weight.load());

/** A constant that a node turns back into float32 under the old name. */
function restored(
  source: Weight, dtype: 'float16' | 'int8', node: Pick<NodeProto, 'opType' | 'input' | 'attribute'>,
  casts: NodeProto[], make: (numbers: Float32Array) => Uint8Array,
): Weight {
  const { name, dims } = source.proto;
  const own = `${name}.${dtype}`;
  casts.push(create(NodeProtoSchema, { ...node, name: `${name}.float32`, output: [name] }));
  return {
    proto: create(TensorProtoSchema, { name: own, dims, dataType: onnxTypes[dtype] }),
    byteLength: elements(source.proto) * byteSize(dtype),
    load: async () => make(await numbersOf(source)),
  };
}

/** Rounded to float16; numbers beyond its range become its largest. */
function asFloat16(source: Weight, casts: NodeProto[]): Weight {
  const to = create(AttributeProtoSchema, { name: 'to', type: Kind.INT, i: BigInt(onnxTypes.float32) });
  const node = { opType: 'Cast', input: [`${source.proto.name}.float16`], attribute: [to] };
  const largest = 65504;
  return restored(source, 'float16', node, casts, (numbers) =>
    bytesOf({
      dtype: 'float16', shape: [numbers.length],
      data: narrowFloat16(numbers.map((x) => Math.max(-largest, Math.min(largest, x)))),
    }));
}

/** The largest absolute value of each row along the first axis over 127. */
function scales(numbers: Float32Array, rows: number): Float32Array {
  const width = numbers.length / rows;
  return Float32Array.from({ length: rows }, (_, row) => {
    let most = 0;
    for (let i = row * width; i < (row + 1) * width; i++) most = Math.max(most, Math.abs(numbers[i]!));
    return most / 127 || 1;
  });
}

/** Symmetric int8 with one scale for each place along the first axis: the outputs of a layer, the rows of a table. */
function asInt8(source: Weight, casts: NodeProto[]): Weight[] {
  const { name, dims } = source.proto;
  const rows = Number(dims[0]);
  const axis = create(AttributeProtoSchema, { name: 'axis', type: Kind.INT, i: 0n });
  const node = { opType: 'DequantizeLinear', input: [`${name}.int8`, `${name}.scale`], attribute: [axis] };
  const values = restored(source, 'int8', node, casts, (numbers) => {
    const factor = scales(numbers, rows);
    const width = numbers.length / rows;
    const data = new Int8Array(numbers.length);
    for (let row = 0, i = 0; row < rows; row++) {
      for (const end = i + width; i < end; i++) data[i] = Math.round(numbers[i]! / factor[row]!);
    }
    return bytesOf({ dtype: 'int8', shape: [data.length], data });
  });
  const scale: Weight = {
    proto: create(TensorProtoSchema, { name: `${name}.scale`, dims: [BigInt(rows)], dataType: onnxTypes.float32 }),
    byteLength: 4 * rows,
    load: async () => bytesOf(float32([rows], scales(await numbersOf(source), rows))),
  };
  return [values, scale];
}

const products = new Set(['MatMul', 'Gemm', 'Conv', 'ConvTranspose', 'Gather']);
const moves = new Set(['Reshape', 'Transpose', 'Identity']);

/** The weights that nothing but products and tables read, possibly moved before: all that is worth eight bits. */
function operandsOfProducts(graph: GraphProto): Set<string> {
  const readers = new Map<string, NodeProto[]>();
  for (const node of graph.node) for (const name of node.input) readers.set(name, [...readers.get(name) ?? [], node]);
  const outputs = new Set(graph.output.map(({ name }) => name));
  const fits = (name: string): boolean => !outputs.has(name) && (readers.get(name) ?? []).every((node) =>
    (moves.has(node.opType) ? node.input[0] === name && fits(node.output[0]!) : products.has(node.opType)));
  return new Set(graph.initializer
    .filter((t) => t.dataType === onnxTypes.float32 && t.dims.length >= 2 && elements(t) >= smallest && fits(t.name))
    .map((t) => t.name));
}
