/** What Scion knows about an op: the types of its outputs, its value in float64, and its gradient. */
import type { TypeInfo, Value } from '../ir/graph.js';
import type { OpAttributes, OpType } from '../ir/op-types.js';
import { assert } from '../util/errors.js';
import type { Shape } from '../util/tensor.js';

/** A tensor of the reference evaluator: doubles, whatever the dtype. */
export interface RefTensor extends TypeInfo {
  readonly data: Float64Array;
}

export interface VjpContext<A> {
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly attributes: A;
  /** The cotangent of the first output. */
  readonly dy: Value;
  /** The cotangent of output i; zeros where nothing depends on it. */
  cotangent: (i: number) => Value;
  /** Whether anything that leads to the loss depends on output i. */
  reached: (i: number) => boolean;
}

/**
 * One thunk per input that has a gradient, called only where a trainable value is reachable through that input;
 * undefined for inputs without one (indices, conditions).
 */
export type Vjp<A> = (context: VjpContext<A>) => readonly ((() => Value) | undefined)[];

export interface OpDef<A> {
  /** The types of all outputs. Throws on inputs that the op does not take. */
  infer(inputs: readonly TypeInfo[], attributes: A): readonly TypeInfo[];
  /** The outputs in float64, by the definition in ONNX's own documentation rather than by speed. */
  evaluate(inputs: readonly RefTensor[], attributes: A, outputs: readonly TypeInfo[]): readonly Float64Array[];
  vjp: Vjp<A> | 'nondifferentiable';
  /** How the op is written to ONNX, where that differs from "same name, same attributes". */
  onnx?: {
    domain?: 'com.microsoft';
    /** Attributes that ONNX takes as constant inputs, in order; `like` gives a value the dtype of input 0. */
    inputs?: readonly { attribute: keyof A & string; as: 'int64' | 'int64 scalar' | 'like' }[];
    /** Attributes that exist in ONNX only and always have this value. */
    fixed?: Readonly<Record<string, number | string>>;
    /** How many outputs ONNX wants named even where nothing reads them; all where absent. */
    outputs?: number;
  };
}

export type OpTable = { [T in OpType]: OpDef<OpAttributes[T]> };

/** An axis counted from the front. */
export function normalAxis(axis: number, rank: number): number {
  const a = axis < 0 ? axis + rank : axis;
  assert(a >= 0 && a < rank, `axis ${axis} of a tensor of rank ${rank}`);
  return a;
}

/** Row-major strides, in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length).fill(1);
  for (let i = shape.length - 2; i >= 0; i--) strides[i] = strides[i + 1]! * shape[i + 1]!;
  return strides;
}

/** The common shape of two broadcast operands, as in NumPy. */
export function broadcastShapes(a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const x = a[i - rank + a.length] ?? 1;
    const y = b[i - rank + b.length] ?? 1;
    assert(x === y || x === 1 || y === 1, `shapes [${a.join(', ')}] and [${b.join(', ')}] do not broadcast`);
    return x === 1 ? y : x;
  });
}

/** For every element of `shape`, the flat index into an operand of shape `from` that is broadcast to it. */
export function broadcastIndex(shape: Shape, from: Shape): Int32Array {
  const strides = stridesOf(from);
  const lead = shape.length - from.length;
  const steps = shape.map((_, i) => (i < lead || from[i - lead] === 1 ? 0 : strides[i - lead]!));
  return walk(shape, steps);
}

/** For every element of `shape` in order, `offset` plus the sum of its coordinates times `steps`. */
export function walk(shape: Shape, steps: readonly number[], offset = 0): Int32Array {
  let index = Int32Array.of(offset);
  shape.forEach((dim, axis) => {
    const next = new Int32Array(index.length * dim);
    for (let i = 0, o = 0; i < index.length; i++) {
      for (let j = 0; j < dim; j++) next[o++] = index[i]! + j * steps[axis]!;
    }
    index = next;
  });
  return index;
}

/** A tensor seen as [outer, axis, inner]. */
export function around(shape: Shape, axis: number): { outer: number; dim: number; inner: number } {
  const product = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);
  return { outer: product(shape.slice(0, axis)), dim: shape[axis]!, inner: product(shape.slice(axis + 1)) };
}
