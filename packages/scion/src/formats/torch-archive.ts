/**
 * PyTorch checkpoints: the objects that torch.save and torch.jit.save pickle, as names and places of tensors. Nothing
 * is executed. This half needs no file system; files are in torch-archive-node.ts.
 *
 * What the names are:
 * - keys of dicts and lists are joined with dots (`{'a': {'b': x}}` and `{'a.b': x}` both give `a.b`), and so are the
 *   attributes of a TorchScript module: the names of its state dict (plain tensor attributes are among them);
 * - a training checkpoint, that is a dict without tensors of its own, of which `state_dict`, `model_state_dict` or
 *   `model` (the first of them) is a dict with tensors, stands for that dict alone: optimizer state is left out;
 * - prefixes such as `module.` are left as they are; a tensor saved alone has the empty name;
 * - tied tensors have an entry each, which share their bytes.
 */
import { inputError } from '../util/errors.js';
import { arrayOver, byteSize, numel, zeros } from '../util/tensor.js';
import type { DType, Shape, Tensor } from '../util/tensor.js';
import { brief } from './json.js';
import { describeValue, PickleGlobal, PickleObject, PickleRecord, unpickle } from './pickle.js';
import type { PickleHost, PickleValue } from './pickle.js';
import { tensorOver } from './safetensors.js';

/** Where a tensor lies. */
export interface TorchTensorEntry {
  readonly dtype: DType;
  readonly shape: Shape;
  /** Elements from one index to the next, for each dimension. */
  readonly strides: readonly number[];
  /** Whether the elements lie in row-major order without gaps: then `offset` and `byteLength` are their range. */
  readonly contiguous: boolean;
  /**
   * Of the first element, in bytes from the start of the file. Storages begin at multiples of 64 in archives as PyTorch
   * writes them, and anywhere in streams of before 1.6.
   */
  readonly offset: number;
  /** Of the elements, without what may lie between them. */
  readonly byteLength: number;
}

/** A run of bytes in the file. */
export interface ByteRange {
  readonly offset: number;
  readonly byteLength: number;
}

/** The tensors that a pickle describes. */
export interface TorchPickle {
  readonly tensors: ReadonlyMap<string, TorchTensor>;
  /** All storages that the pickle names, by key. */
  readonly storages: ReadonlyMap<string, TorchStorage>;
  /** Where the pickle ends. */
  readonly end: number;
}

/** A run of elements that tensors share; bytes if it has no type of its own. */
export class TorchStorage extends PickleObject {
  constructor(readonly key: string, readonly dtype: DType | undefined, readonly length: number) {
    super();
  }
}

/** A view of a storage; offset and strides count elements. */
export class TorchTensor extends PickleObject {
  constructor(
    readonly storage: TorchStorage,
    readonly dtype: DType,
    readonly storageOffset: number,
    readonly shape: Shape,
    readonly strides: readonly number[],
  ) {
    super();
  }
}

const damaged = 'the file is damaged or not written by PyTorch: get it or save it again';
const maxDepth = 100;
const maxValues = 2 ** 20;
const maxNameLength = 1000;
const maxRank = 64;

const storageTypes: Readonly<Record<string, DType>> = {
  FloatStorage: 'float32', DoubleStorage: 'float64', HalfStorage: 'float16', BFloat16Storage: 'bfloat16',
  LongStorage: 'int64', IntStorage: 'int32', ShortStorage: 'int16', CharStorage: 'int8', ByteStorage: 'uint8',
  BoolStorage: 'bool',
};
const untypedStorages = ['torch.UntypedStorage', 'torch.storage.UntypedStorage'];
const dtypes: readonly DType[] = [
  'float32', 'float64', 'float16', 'bfloat16',
  'int64', 'int32', 'int16', 'int8', 'uint64', 'uint32', 'uint16', 'uint8', 'bool',
];
const checkpointKeys = ['state_dict', 'model_state_dict', 'model'];

/** A device or layout: says nothing about a tensor's values. */
class Inert extends PickleObject {}
const inert = new Inert();

/**
 * The tensors of the pickle at `start`, which are yet to be found in the file: see `placeTensors`.
 * @param where the file, for messages
 * @throws ScionError of kind `input` that names what was refused
 */
export function readTorchPickle(bytes: Uint8Array, where: string, start = 0): TorchPickle {
  const storages = new Map<string, TorchStorage>();
  const { value, end } = unpickle(bytes, torchHost(storages, where), where, start);
  return { tensors: namedTensors(value, where), storages, end };
}

/** The names that PyTorch's own files use; everything else is refused. */
function torchHost(storages: Map<string, TorchStorage>, where: string): PickleHost {
  type Call = (args: readonly PickleValue[]) => PickleValue;
  const same: Call = ([first]) => first ?? null;
  const parameter: Call = ([data]) => {
    if (data instanceof TorchTensor) return data;
    throw inputError(where, `a parameter is made of ${describeValue(data)}, expected a tensor; ${damaged}`);
  };
  const rebuild: Call = (args) => makeTensor(args, undefined, where);
  const calls: Record<string, Call> = {
    'collections.OrderedDict': () => new Map(),
    'torch.Size': same,
    'torch.device': () => inert,
    'torch.serialization._get_layout': () => inert,
    'torch._utils._rebuild_tensor': rebuild,
    'torch._utils._rebuild_tensor_v2': rebuild,
    // storage, offset, size, stride, requires_grad, hooks, dtype
    'torch._utils._rebuild_tensor_v3': (args) => makeTensor(args, args[6], where),
    'torch._utils._rebuild_parameter': parameter,
    'torch._utils._rebuild_parameter_with_state': parameter,
    // TorchScript's lists of one type
    'torch.jit._pickle.restore_type_tag': same,
    ...Object.fromEntries(['int', 'double', 'bool', 'tensor'].map((t) => [`torch.jit._pickle.build_${t}list`, same])),
  };
  const names = new Map(Object.entries(calls).map(([name, call]) => [name, new PickleGlobal(name, call)]));
  const plain = [...Object.keys(storageTypes), ...dtypes].map((name) => `torch.${name}`);
  for (const name of [...plain, ...untypedStorages]) names.set(name, new PickleGlobal(name));
  return {
    find: (name) =>
      names.get(name) ?? (name.startsWith('__torch__.') ? new PickleGlobal(name, undefined, true) : undefined),
    persistent: (id) => {
      const storage = makeStorage(id, where);
      const known = storages.get(storage.key);
      if (known && (known.dtype !== storage.dtype || known.length !== storage.length)) {
        throw inputError(where, `storage ${brief(storage.key)} has two types or sizes, expected one; ${damaged}`);
      }
      storages.set(storage.key, known ?? storage);
      return known ?? storage;
    },
  };
}

/** From ('storage', type, key, device, elements); streams of before PyTorch 1.6 add a view, which is always None. */
function makeStorage(id: PickleValue, where: string): TorchStorage {
  const [tag, type, key, , length, view] = Array.isArray(id) ? (id as readonly PickleValue[]) : [];
  const typed = type instanceof PickleGlobal ? storageTypes[type.name.replace('torch.', '')] : undefined;
  const known = typed ?? (type instanceof PickleGlobal && untypedStorages.includes(type.name));
  if (tag !== 'storage' || !known || typeof key !== 'string' || !isCount(length) || (view ?? null) !== null) {
    throw inputError(where, `a storage is described in a way that PyTorch 1.0 to 2 do not write; ${damaged}`);
  }
  return new TorchStorage(key, typed, length);
}

/** Checks what a tensor claims against its storage. */
function makeTensor(args: readonly PickleValue[], type: PickleValue | undefined, where: string): TorchTensor {
  const [storage, offset, shape, strides] = args;
  const wrong = (what: string): Error => inputError(where, `a tensor ${what}; ${damaged}`);
  if (!(storage instanceof TorchStorage)) throw wrong(`has ${describeValue(storage)} as its storage`);
  const dtype = storage.dtype ?? dtypes.find((d) => type instanceof PickleGlobal && type.name === `torch.${d}`);
  if (!dtype) throw wrong(`has no type, expected one of ${dtypes.join(', ')}`);
  if (!isCount(offset) || !isCounts(shape) || !isCounts(strides) || shape.length !== strides.length) {
    throw wrong('has an offset, shape or strides that are no whole numbers from 0 up');
  }
  if (shape.length > maxRank) throw wrong(`has ${shape.length} dimensions, expected at most ${maxRank}`);
  const elements = numel(shape);
  if (!Number.isSafeInteger(elements * 8)) throw wrong(`has the shape ${brief(shape)}, which overflows`);
  const length = storage.dtype ? storage.length : Math.floor(storage.length / byteSize(dtype));
  // a product or sum beyond 2^53 is rounded, but stays far above any length
  const end = elements === 0 ? 0 : offset + span(shape, strides);
  if (end > length) {
    const claim = `${brief(shape)} with strides ${brief(strides)} at ${offset}`;
    throw wrong(`${claim} reaches beyond the ${length} elements of storage ${brief(storage.key)}`);
  }
  return new TorchTensor(storage, dtype, elements === 0 ? 0 : offset, shape, strides);
}

function isCount(value: PickleValue | undefined): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isCounts(value: PickleValue | undefined): value is readonly number[] {
  return Array.isArray(value) && (value as readonly PickleValue[]).every(isCount);
}

/** Elements from the first to the last of a tensor that is not empty. */
function span(shape: Shape, strides: readonly number[]): number {
  return shape.reduce((end, d, i) => end + (d - 1) * strides[i]!, 1);
}

/** Collects tensors under their names. Bounded, since the values may be shared a billion times over, or circular. */
function namedTensors(root: PickleValue, where: string): Map<string, TorchTensor> {
  const out = new Map<string, TorchTensor>();
  let values = 0;
  const walk = (value: PickleValue, name: string, depth: number): void => {
    if (depth > maxDepth) throw inputError(where, `values lie more than ${maxDepth} deep or in a circle; ${damaged}`);
    if (value instanceof TorchTensor) {
      if (name.length > maxNameLength) {
        throw inputError(where, `the tensor name ${brief(name)} has over ${maxNameLength} letters; ${damaged}`);
      }
      if (out.has(name)) throw inputError(where, `two tensors have the name ${brief(name)}; rename one and save again`);
      out.set(name, value);
      return;
    }
    for (const [key, item] of children(value)) {
      if (++values > maxValues) throw inputError(where, `holds over ${maxValues} values, some shared; ${damaged}`);
      if (!isParent(item)) continue;
      if (typeof key === 'object') {
        throw inputError(where, `has the key ${describeValue(key)}, expected a text; ${damaged}`);
      }
      walk(item, depth === 0 ? String(key) : `${name}.${key}`, depth + 1);
    }
  };
  walk(stateDict(root), '', 0);
  return out;
}

function isParent(value: PickleValue): boolean {
  return value instanceof PickleObject || value instanceof Map || (Array.isArray(value) && value.length > 0);
}

function children(value: PickleValue): Iterable<readonly [PickleValue, PickleValue]> {
  // one step only: a record may be made its own state
  const held = value instanceof PickleRecord ? value.state : value;
  if (held instanceof Map) return held;
  return Array.isArray(held) ? (held as readonly PickleValue[]).entries() : [];
}

/** The state dict of a training checkpoint; any other value as it is. */
function stateDict(root: PickleValue): PickleValue {
  if (!(root instanceof Map) || hasTensors(root)) return root;
  return checkpointKeys.map((key) => root.get(key)).find((value) => value !== undefined && hasTensors(value)) ?? root;
}

function hasTensors(value: PickleValue): boolean {
  return value instanceof Map && [...value.values()].some((item) => item instanceof TorchTensor);
}

/**
 * The tensors' places in the file.
 * @param ranges where the storages lie
 * @param fileBytes the size of the file, which no tensor may exceed: an expanded one could claim any size
 * @throws ScionError of kind `input` where a storage is missing or of another size than the pickle says
 */
export function placeTensors(
  pickle: TorchPickle, ranges: ReadonlyMap<string, ByteRange>, fileBytes: number, where: string,
): Map<string, TorchTensorEntry> {
  const out = new Map<string, TorchTensorEntry>();
  for (const [name, { storage, dtype, storageOffset, shape, strides }] of pickle.tensors) {
    const range = ranges.get(storage.key);
    const length = range && Math.floor(range.byteLength / (storage.dtype ? byteSize(storage.dtype) : 1));
    if (!range || length !== storage.length) {
      const held = range ? `has ${length} elements` : 'is missing';
      const expected = `expected ${storage.length} elements of ${storage.dtype ?? 'one byte'}`;
      const what = `${where}: tensor ${brief(name)}`;
      throw inputError(what, `its storage ${brief(storage.key)} ${held}, ${expected}; ${damaged}`);
    }
    const byteLength = numel(shape) * byteSize(dtype);
    if (byteLength > fileBytes) {
      const claim = `claims ${byteLength} bytes, more than the file has (${fileBytes})`;
      throw inputError(`${where}: tensor ${brief(name)}`, `${claim}; save it with .contiguous()`);
    }
    const offset = range.offset + storageOffset * byteSize(dtype);
    out.set(name, { dtype, shape, strides, contiguous: isContiguous(shape, strides), offset, byteLength });
  }
  return out;
}

function isContiguous(shape: Shape, strides: readonly number[]): boolean {
  if (numel(shape) === 0) return true;
  let step = 1;
  return shape.toReversed().every((d, i) => {
    const fits = d === 1 || strides[shape.length - 1 - i] === step;
    step *= d;
    return fits;
  });
}

/** Bytes from the first to the last element of a tensor: what `gatherTensor` needs. */
export function spanBytes(entry: TorchTensorEntry): number {
  return numel(entry.shape) === 0 ? 0 : span(entry.shape, entry.strides) * byteSize(entry.dtype);
}

/**
 * The tensor in row-major order; without a copy where it already is.
 * @param bytes the `spanBytes` from the entry's offset
 */
export function gatherTensor(entry: TorchTensorEntry, bytes: Uint8Array, where: string): Tensor {
  const { dtype, shape, strides } = entry;
  if (entry.contiguous) return tensorOver(entry, bytes, where);
  const source = arrayOver(dtype, bytes);
  const out = zeros(dtype, shape);
  const index = shape.map(() => 0);
  for (let to = 0, from = 0; to < out.data.length; to++) {
    out.data[to] = source[from]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      from -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return tensorOver(entry, new Uint8Array(out.data.buffer), where);
}
