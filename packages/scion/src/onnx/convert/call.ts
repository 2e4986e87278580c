/** What a converter is handed: one node of an ONNX graph, its operands as values of static shape. */
import type { Graph, Value } from '../../ir/graph.js';
import { constantData, producer } from '../../ir/graph.js';
import * as b from '../../ops/build.js';
import { type RefTensor, normalAxis } from '../../ops/def.js';
import { opDef } from '../../ops/table.js';
import { type DType, type Shape, fromFloat64, int64, numel, toFloat64 } from '../../util/tensor.js';
import { dtypeOf } from '../dtypes.js';
import type { OnnxInitializer, OnnxNode } from '../decode.js';

/** Why a node cannot be taken; the importer adds the node's name. */
export class Refusal extends Error {}

/** Gives the outputs of a node, in order; those that ONNX has but nobody reads may be left out. */
export type Converter = (call: Call) => Value | readonly Value[];

/** Constants that are made while converting have at most this many elements: shapes come from files. */
const mostElements = 2 ** 24;
const known = new WeakMap<Value, RefTensor | 'unknown'>();

export class Call {
  constructor(
    readonly graph: Graph,
    readonly node: OnnxNode,
    /** The version of the op set that the node's op is of. */
    readonly opset: number,
    private readonly operands: readonly (Value | undefined)[],
    /** A constant of the node's own attributes. */
    readonly tensor: (initializer: OnnxInitializer) => Value,
  ) {}

  /** The number of operands, trailing ones that are left out not counted. */
  get count(): number {
    return this.operands.reduce((n, v, i) => (v ? i + 1 : n), 0);
  }

  /** All operands, of an op that takes any number of them. */
  get all(): readonly Value[] {
    return this.operands.map((_, i) => this.input(i));
  }

  input(i: number): Value {
    return this.optional(i) ?? this.refuse(`has no input ${i}`);
  }

  optional(i: number): Value | undefined {
    return this.operands[i];
  }

  /** Never returns. The message follows the node's name. */
  refuse(message: string): never {
    throw new Refusal(message);
  }

  number(name: string, absent: number): number {
    return this.attribute(name, absent, (v) => typeof v === 'number');
  }

  string(name: string, absent: string): string {
    return this.attribute(name, absent, (v) => typeof v === 'string');
  }

  ints(name: string): readonly number[] | undefined {
    return this.attribute<readonly number[] | undefined>(
      name, undefined, (v) => Array.isArray(v) && v.every((x) => typeof x === 'number'));
  }

  private attribute<T>(name: string, absent: T, fits: (v: unknown) => boolean): T {
    const value = this.node.attributes[name] as unknown;
    if (value === undefined) return absent;
    return fits(value) ? (value as T) : this.refuse(`has an attribute ${name} of another kind`);
  }

  /** Refuses an attribute that has another value than the one that is supported. */
  only(name: string, value: number | string): void {
    const given = this.node.attributes[name];
    if (given !== undefined && given !== value) {
      this.refuse(`has ${name} ${JSON.stringify(given)}; only ${JSON.stringify(value)} is supported`);
    }
  }

  dtype(name: string, absent: DType): DType {
    const code = this.number(name, -1);
    return code === -1 ? absent : dtypeOf(code) ?? this.refuse(`has ${name} ${code}, a type that is not supported`);
  }

  axis(absent: number, x = this.input(0)): number {
    return this.axisOf(this.number('axis', absent), x);
  }

  axisOf(axis: number, { shape }: Value, rank = shape.length): number {
    if (axis >= -rank && axis < rank) return normalAxis(axis, rank);
    return this.refuse(`has axis ${axis} for an input of rank ${rank}`);
  }

  /** An operand's values, which must follow from the file and the shapes alone. */
  known(i: number, what = `input ${i}`): RefTensor {
    return valueOf(this.input(i)) ?? this.refuse(`computes ${what} from the data, expected it to be fixed`);
  }

  /** The same as whole numbers in a list. */
  list(i: number, what?: string): number[] {
    return Array.from(this.known(i, what).data);
  }

  /** A number that newer versions take as an input and older ones as an attribute. */
  scalar(i: number, attribute: string, absent: number): number {
    return this.optional(i) ? this.known(i, attribute).data[0]! : this.number(attribute, absent);
  }

  /** Whole numbers that newer versions take as an input and older ones as an attribute; undefined where left out. */
  numbers(i: number, attribute: string): readonly number[] | undefined {
    return this.optional(i) ? this.list(i, attribute) : this.ints(attribute);
  }

  constant(dtype: DType, shape: Shape, values: ArrayLike<number>): Value {
    return this.graph.constant(fromFloat64(dtype, shape, Float64Array.from(values)));
  }

  /** A constant with an element for every place of `shape`. */
  filled(dtype: DType, shape: Shape, at: (place: number) => number): Value {
    this.bounded(shape);
    return this.constant(dtype, shape, Float64Array.from({ length: numel(shape) }, (_, i) => at(i)));
  }

  int64(shape: Shape, values: ArrayLike<number>): Value {
    return this.graph.constant(int64(shape, values));
  }

  bounded(shape: Shape): void {
    if (!(numel(shape) <= mostElements)) {
      this.refuse(`makes a constant of shape [${shape.join(', ')}], which is too large`);
    }
  }

  /** A new shape by NumPy's rules. */
  reshape(x: Value, shape: Shape): Value {
    const open = shape.filter((d) => d === -1).length;
    const rest = shape.reduce((p, d) => (d === -1 ? p : p * d), 1);
    const fits = open === 1 ? numel(x.shape) % rest === 0 : open === 0 && rest === numel(x.shape);
    return fits ? b.reshape(x, shape) : this.refuse(`reshapes [${x.shape.join(', ')}] to [${shape.join(', ')}]`);
  }
}

/** What a value is where it depends on no input, in doubles. Large ones count as unknown. */
export function valueOf(v: Value): RefTensor | undefined {
  let found = known.get(v);
  if (found === undefined) {
    found = compute(v) ?? 'unknown';
    known.set(v, found);
  }
  return found === 'unknown' ? undefined : found;
}

function compute(v: Value): RefTensor | undefined {
  if (numel(v.shape) > mostElements) return undefined;
  const data = constantData(v);
  if (data) return { dtype: v.dtype, shape: v.shape, data: toFloat64(data) };
  const node = producer(v);
  const inputs = node?.inputs.map(valueOf);
  if (!node || !inputs?.every((x) => x !== undefined)) return undefined;
  const results = opDef(node.op).evaluate(inputs, node.attributes, node.outputs);
  const result = results[node.outputs.indexOf(v)]!;
  // what the type cannot hold is lost here as it is when the program runs
  return { dtype: v.dtype, shape: v.shape, data: rounded(v.dtype, v.shape, result) };
}

function rounded(dtype: DType, shape: Shape, values: Float64Array): Float64Array {
  if (dtype === 'float32') return values.map(Math.fround);
  return dtype === 'int64' ? values.map(Math.trunc) : toFloat64(fromFloat64(dtype, shape, values));
}
