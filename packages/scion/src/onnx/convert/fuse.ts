/**
 * Exports of older op sets spell out what newer ones have ops for. It is put together again while the graph is built,
 * since gradients are taken of what is built: the rules of the whole ops need fewer passes over memory than those of
 * their parts.
 */
import { type Node, type Value, producer } from '../../ir/graph.js';
import type { OpType } from '../../ir/op-types.js';
import * as b from '../../ops/build.js';
import { isFloat } from '../../ops/elementwise.js';
import { fromFloat64, numel } from '../../util/tensor.js';
import { valueOf } from './call.js';

const is = <T extends OpType>(v: Value, op: T): Node<T> | undefined => {
  const node = producer(v);
  return node?.op === op && node.outputs[0] === v ? (node as unknown as Node<T>) : undefined;
};

/** The number that a constant of one element is. */
function scalarOf(v: Value): number | undefined {
  return numel(v.shape) === 1 ? valueOf(v)?.data[0] : undefined;
}

/** The other operand of a commutative op one of whose operands fits. */
function other(node: Node | undefined, fits: (v: Value) => boolean): Value | undefined {
  const [x, y] = node?.inputs ?? [];
  return !x || !y ? undefined : fits(y) ? x : fits(x) ? y : undefined;
}

const near = (v: Value, wanted: number): boolean => {
  const found = scalarOf(v);
  return found !== undefined && Math.abs(found - wanted) <= 1e-5 * Math.abs(wanted);
};

/** Whether v is the mean of x over its last axis, which stays. */
function isMean(v: Value, x: Value): boolean {
  const node = is(v, 'ReduceMean');
  const { axes, keepdims } = node?.attributes ?? { axes: [], keepdims: 0 };
  return node?.inputs[0] === x && keepdims === 1 && axes.length === 1 && axes[0] === x.shape.length - 1;
}

/** Normalisations without their weight, which follows as a product. */
const bare = new WeakSet<Value>();

/** `(x - mean) / sqrt(variance + ε)` */
export function fusedDiv(centred: Value, deviation: Value): Value | undefined {
  const difference = is(centred, 'Sub');
  const sum = is(is(deviation, 'Sqrt')?.inputs[0] ?? deviation, 'Add');
  const [x, mean] = difference?.inputs ?? [];
  const variance = sum?.inputs.find((v) => scalarOf(v) === undefined);
  const epsilon = sum?.inputs.map(scalarOf).find((v) => v !== undefined);
  const square = variance && is(variance, 'ReduceMean')?.inputs[0];
  const squared = square && is(square, 'Mul');
  if (!x || !mean || epsilon === undefined || !squared?.inputs.every((v) => v === centred)) return undefined;
  if (!is(deviation, 'Sqrt') || !isMean(mean, x) || !isMean(variance!, square!)) return undefined;
  const ones = x.graph.constant(fromFloat64(x.dtype, [x.shape.at(-1)!], new Float64Array(x.shape.at(-1)!).fill(1)));
  const normal = b.layerNormalization(x, ones, undefined, epsilon);
  bare.add(normal);
  return normal;
}

/** A weight on a normalisation, `x · sigmoid(αx)`, and `½ x (1 + erf(x / √2))` in two orders. */
export function fusedMul(x: Value, y: Value): Value | undefined {
  if (!isFloat(x)) return undefined;
  for (const [a, c] of [[x, y], [y, x]] as const) {
    const result = weighted(a, c) ?? quickGelu(a, c) ?? gelu(a, c);
    if (result) return result;
  }
  return undefined;
}

function weighted(normal: Value, weight: Value): Value | undefined {
  const node = bare.has(normal) ? is(normal, 'LayerNormalization') : undefined;
  const x = node?.inputs[0];
  return node && weight.shape.join() === `${x!.shape.at(-1)}` && weight.dtype === x!.dtype
    ? b.layerNormalization(x!, weight, undefined, node.attributes.epsilon) : undefined;
}

function quickGelu(x: Value, gate: Value): Value | undefined {
  const inner = is(gate, 'Sigmoid')?.inputs[0];
  if (!inner) return undefined;
  if (inner === x) return b.quickGelu(x, 1);
  const scaled = is(inner, 'Mul');
  const factor = scaled?.inputs.includes(x) ? scaled.inputs.map(scalarOf).find((v) => v !== undefined) : undefined;
  return factor !== undefined && inner.shape.length === x.shape.length ? b.quickGelu(x, factor) : undefined;
}

/** x where `v` is `1 + erf(x / √2)` */
function erfOf(v: Value): Value | undefined {
  const inside = is(other(is(v, 'Add'), (c) => scalarOf(c) === 1) ?? v, 'Erf')?.inputs[0];
  if (!inside) return undefined;
  const division = is(inside, 'Div');
  if (division) return near(division.inputs[1]!, Math.SQRT2) ? division.inputs[0] : undefined;
  return other(is(inside, 'Mul'), (c) => near(c, Math.SQRT1_2));
}

function gelu(a: Value, c: Value): Value | undefined {
  // (x · (1 + erf)) · ½
  const x = scalarOf(c) === 0.5 ? is(a, 'Mul')?.inputs.map(erfOf).find((v) => v !== undefined) : undefined;
  if (x && other(is(a, 'Mul'), (v) => v === x) && x.shape.length === a.shape.length) return b.gelu(x);
  // (x · ½) · (1 + erf)
  const of = erfOf(c);
  return of && other(is(a, 'Mul'), (v) => scalarOf(v) === 0.5) === of ? b.gelu(of) : undefined;
}

/** A bias on a normalisation that has a weight and none yet. */
export function fusedAdd(x: Value, y: Value): Value | undefined {
  for (const [normal, bias] of [[x, y], [y, x]] as const) {
    const node = is(normal, 'LayerNormalization');
    if (node?.inputs.length === 2 && bias.shape.join() === `${normal.shape.at(-1)}` && bias.dtype === normal.dtype
      && node.attributes.axis === normal.shape.length - 1) {
      return b.layerNormalization(node.inputs[0]!, node.inputs[1]!, bias, node.attributes.epsilon);
    }
  }
  return undefined;
}
