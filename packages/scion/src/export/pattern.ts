/** The rule that the values of a constant follow from their places, so that it can be made at any size. */
import { dtypeOf } from '../onnx/dtypes.js';
import type { TensorProto } from '../onnx/generated/onnx_pb.js';
import { type DType, type Shape, type Tensor, arrayOver, fromFloat64, numel, toFloat64 } from '../util/tensor.js';

/** A constant with its values as doubles. */
export interface Listed {
  readonly dtype: DType;
  readonly shape: Shape;
  readonly values: Float64Array;
}

export type Pattern =
  /** The same values at all sizes, repeated along the axes where they have length 1. */
  | { readonly kind: 'same'; readonly values: Tensor }
  /** 0, 1, 2, … along an axis */
  | { readonly kind: 'range'; readonly axis: number }
  /** Of places i and j along two axes: `after` where j - i ≥ `from`, else `before`. A causal mask is one. */
  | {
    readonly kind: 'triangle'; readonly axes: readonly [number, number];
    readonly from: number; readonly before: number; readonly after: number;
  };

/** Reads a constant that is in the model itself. */
export function listed({ dataType, dims, rawData }: TensorProto): Listed {
  const dtype = dtypeOf(dataType)!;
  const shape = dims.map(Number);
  return { dtype, shape, values: toFloat64({ dtype, shape, data: arrayOver(dtype, rawData) }) };
}

/** The rule that a constant follows at each of several sizes; undefined where there is none of these. */
export function patternOf(sizes: readonly Listed[]): Pattern | undefined {
  const small = sizes.map(squeezed);
  const [first] = small as [Listed];
  const axes = first.shape.flatMap((length, axis) => (length > 1 ? [axis] : []));
  const sameAxes = small.every(({ shape }) => shape.every((length, axis) => (length > 1) === axes.includes(axis)));
  if (!sameAxes) return undefined;
  if (small.every(({ values }) => equal(values, first.values))) {
    return { kind: 'same', values: fromFloat64(first.dtype, first.shape, first.values) };
  }
  if (axes.length === 1 && small.every(({ values }) => values.every((x, i) => x === i))) {
    return { kind: 'range', axis: axes[0]! };
  }
  return axes.length === 2 ? triangle(small, axes as [number, number]) : undefined;
}

function triangle(sizes: readonly Listed[], axes: readonly [number, number]): Pattern | undefined {
  const [first] = sizes as [Listed];
  const columns = first.shape[axes[1]]!;
  // the corners that are farthest from the diagonal
  const [after, before] = [first.values[columns - 1]!, first.values[first.values.length - columns]!];
  const apart = (place: number, width: number): number => (place % width) - Math.floor(place / width);
  const from = first.values.reduce((least, x, i) =>
    (x === after ? Math.min(least, apart(i, columns)) : least), Infinity);
  const follows = sizes.every(({ shape, values }) =>
    values.every((x, i) => x === (apart(i, shape[axes[1]]!) >= from ? after : before)));
  return follows ? { kind: 'triangle', axes, from, before, after } : undefined;
}

/** With length 1 along every axis on which nothing depends. */
function squeezed({ dtype, shape, values }: Listed): Listed {
  return shape.reduce<Listed>((t, length, axis) => {
    const inner = numel(t.shape.slice(axis + 1));
    const start = (i: number): number => i - (Math.floor(i / inner) % length) * inner;
    if (!t.values.every((x, i) => x === t.values[start(i)])) return t;
    return {
      dtype, shape: t.shape.with(axis, 1), values: t.values.filter((_, i) => start(i) === i),
    };
  }, { dtype, shape, values });
}

const equal = (a: Float64Array, c: Float64Array): boolean => a.length === c.length && a.every((x, i) => x === c[i]);
