/** Ops that move elements or speak of shapes. Shapes are static, so most of the latter become constants. */
import type { Value } from '../../ir/graph.js';
import * as b from '../../ops/build.js';
import { broadcastShapes } from '../../ops/def.js';
import { isFloat } from '../../ops/elementwise.js';
import { numel } from '../../util/tensor.js';
import { computed } from '../dtypes.js';
import type { OnnxAttribute, OnnxInitializer } from '../decode.js';
import { type Call, type Converter, valueOf } from './call.js';

const isTensor = (a: OnnxAttribute | undefined): a is OnnxInitializer =>
  typeof a === 'object' && !Array.isArray(a) && 'dtype' in a;

/** The value is in one of several attributes, by its kind. */
const constant: Converter = (call) => {
  const { value, value_float: f, value_floats: fs, value_int: i, value_ints: is } = call.node.attributes;
  if (isTensor(value)) return call.tensor(value);
  if (typeof f === 'number') return call.constant('float32', [], [f]);
  if (Array.isArray(fs)) return call.constant('float32', [fs.length], fs as number[]);
  if (typeof i === 'number') return call.int64([], [i]);
  if (Array.isArray(is)) return call.int64([is.length], is as number[]);
  const held = Object.keys(call.node.attributes).join(', ') || 'nothing';
  return call.refuse(`holds ${held}, expected a tensor or numbers`);
};

const constantOfShape: Converter = (call) => {
  const shape = call.list(0, 'its shape');
  const { value } = call.node.attributes;
  const fill = isTensor(value) ? valueOf(call.tensor(value))!.data[0]! : 0;
  return b.full(call.graph, isTensor(value) ? computed(value.dtype!) : 'float32', shape, fill);
};

const shapeOf: Converter = (call) => {
  const { shape } = call.input(0);
  const end = call.node.attributes['end'] === undefined ? shape.length : call.number('end', 0);
  const part = shape.slice(call.number('start', 0), end);
  return call.int64([part.length], part);
};

const range: Converter = (call) => {
  const [start, limit, delta] = [0, 1, 2].map((i) => call.known(i, 'its bounds').data[0]!) as [number, number, number];
  const length = Math.max(0, Math.ceil((limit - start) / delta));
  return call.filled(call.input(0).dtype, [Number.isNaN(length) ? Infinity : length], (i) => start + i * delta);
};

const reshape: Converter = (call) => {
  const x = call.input(0);
  const given = call.opset < 5 ? call.ints('shape') ?? [] : call.list(1, 'its shape');
  const keep = call.number('allowzero', 0) === 0;
  const kept = (i: number): number => x.shape[i] ?? call.refuse('keeps a missing axis');
  return call.reshape(x, given.map((d, i) => (d === 0 && keep ? kept(i) : d)));
};

const flatten: Converter = (call) => {
  const x = call.input(0);
  const axis = call.number('axis', 1);
  const lead = numel(x.shape.slice(0, axis < 0 ? axis + x.shape.length : axis));
  return call.reshape(x, [lead, lead === 0 ? 0 : numel(x.shape) / lead]);
};

/** Axes are an attribute up to version 12 and an input from 13 on. */
const squeeze: Converter = (call) => {
  const x = call.input(0);
  const single = x.shape.flatMap((d, i) => (d === 1 ? [i] : []));
  const axes = call.numbers(1, 'axes')?.map((a) => call.axisOf(a, x)) ?? single;
  return call.reshape(x, x.shape.filter((_, i) => !axes.includes(i)));
};

const unsqueeze: Converter = (call) => {
  const x = call.input(0);
  const given = call.numbers(1, 'axes') ?? call.refuse('has no axes');
  const rank = x.shape.length + given.length;
  const axes = given.map((a) => call.axisOf(a, x, rank));
  const left = [...x.shape];
  return call.reshape(x, Array.from({ length: rank }, (_, i) => (axes.includes(i) ? 1 : left.shift()!)));
};

const transpose: Converter = (call) => {
  const x = call.input(0);
  return b.transpose(x, call.ints('perm') ?? x.shape.map((_, i) => x.shape.length - 1 - i));
};

/** Empty parts, which exporters write into shapes, are left out. */
const concat: Converter = (call) => {
  const parts = call.all.filter((v, _, all) => numel(v.shape) > 0 || all.length === 1);
  return parts.length > 0 ? b.concat(parts, call.axis(0, parts[0])) : call.input(0);
};

const split: Converter = (call) => {
  const x = call.input(0);
  const axis = call.axis(0);
  const dim = x.shape[axis]!;
  const parts = call.number('num_outputs', call.node.outputs.length);
  const each = Math.ceil(dim / parts);
  const sizes = call.numbers(1, 'split')
    ?? Array.from({ length: parts }, (_, i) => Math.min(each, dim - i * each));
  return b.split(x, sizes, axis);
};

/** Everything is an attribute up to version 9 and an input from 10 on. */
const slice: Converter = (call) => {
  const x = call.input(0);
  const starts = call.numbers(1, 'starts') ?? [];
  const ends = call.numbers(2, 'ends') ?? [];
  const axes = (call.numbers(3, 'axes') ?? [...starts.keys()]).map((a) => call.axisOf(a, x));
  const steps = call.optional(4) ? call.list(4, 'its steps') : starts.map(() => 1);
  let result = x;
  axes.forEach((axis, i) => {
    const dim = x.shape[axis]!;
    // ends beyond the axis are written as the largest number there is
    const [start, end] = [starts[i]!, ends[i]!].map((v) => Math.max(-dim - 1, Math.min(dim, v))) as [number, number];
    const step = steps[i] ?? 1;
    const whole = step === 1 && (start === 0 || start <= -dim) && end === dim;
    if (!whole) result = cut(call, result, axis, start, end, step);
  });
  return result;
};

/** A part of an axis, which may be empty. */
function cut(call: Call, x: Value, axis: number, start: number, end: number, step: number): Value {
  const dim = x.shape[axis]!;
  const [from, to] = [start, end].map((v) => (v < 0 ? Math.max(v + dim, 0) : v)) as [number, number];
  if (step > 0 && to <= from) return call.constant(x.dtype, x.shape.map((d, i) => (i === axis ? 0 : d)), []);
  return b.slice(x, axis, start, end, step);
}

/** Negative padding cuts; what is outside of the borders is a constant, or taken from inside by its index. */
const pad: Converter = (call) => {
  const x = call.input(0);
  const { shape } = x;
  const given = call.numbers(1, 'pads') ?? call.refuse('has no pads');
  const value = call.opset < 11 ? call.number('value', 0) : call.optional(2) ? call.known(2, 'its value').data[0]! : 0;
  const axes = call.optional(3) ? call.list(3, 'its axes').map((a) => call.axisOf(a, x)) : shape.map((_, i) => i);
  if (given.length !== 2 * axes.length) return call.refuse(`has ${given.length} pads for ${axes.length} axes`);
  const mode = call.string('mode', 'constant');
  const pads = [...shape, ...shape].map(() => 0);
  axes.forEach((axis, i) => {
    [pads[axis], pads[axis + shape.length]] = [given[i]!, given[i + axes.length]!];
  });
  const inner = shape.reduce((v, dim, axis) => {
    const [before, after] = [Math.min(0, pads[axis]!), Math.min(0, pads[axis + shape.length]!)];
    return before === 0 && after === 0 ? v : cut(call, v, axis, -before, dim + after, 1);
  }, x);
  const outer = pads.map((p) => Math.max(0, p));
  if (outer.every((p) => p === 0)) return inner;
  if (mode === 'constant') return b.pad(inner, outer, value);
  const places: Readonly<Record<string, (i: number, dim: number) => number>> = {
    edge: (i, dim) => Math.max(0, Math.min(dim - 1, i)),
    reflect: (i, dim) => {
      const period = Math.max(1, 2 * (dim - 1));
      const place = ((i % period) + period) % period;
      return place < dim ? place : period - place;
    },
    wrap: (i, dim) => ((i % dim) + dim) % dim,
  };
  const place = places[mode] ?? call.refuse(`pads by ${mode}; supported are constant, edge, reflect and wrap`);
  return inner.shape.reduce((v, dim, axis) => {
    const [before, after] = [outer[axis]!, outer[axis + shape.length]!];
    if (before === 0 && after === 0) return v;
    return b.gather(v, call.filled('int64', [before + dim + after], (i) => place(i - before, dim)), axis);
  }, inner);
};

const expand: Converter = (call) => {
  const x = call.input(0);
  return b.expand(x, broadcastShapes(x.shape, call.list(1, 'its shape')));
};

const tile: Converter = (call) => {
  const x = call.input(0);
  const repeats = call.list(1, 'its repeats');
  const apart = b.reshape(x, x.shape.flatMap((d) => [1, d]));
  const repeated = b.expand(apart, x.shape.flatMap((d, i) => [repeats[i]!, d]));
  return b.reshape(repeated, x.shape.map((d, i) => d * repeats[i]!));
};

const scatter: Converter = (call) => {
  const reduction = call.string('reduction', 'none');
  return reduction === 'none' || reduction === 'add'
    ? b.scatterElements(call.input(0), call.input(1), call.input(2), call.axis(0), reduction)
    : call.refuse(`reduces by ${reduction}; supported are none and add`);
};

const scatterND: Converter = (call) => {
  const reduction = call.string('reduction', 'none');
  return reduction === 'none' || reduction === 'add'
    ? b.scatterND(call.input(0), call.input(1), call.input(2), reduction)
    : call.refuse(`reduces by ${reduction}; supported are none and add`);
};

const gatherND: Converter = (call) => {
  call.only('batch_dims', 0);
  return b.gatherND(call.input(0), call.input(1));
};

/** Keeps the triangle below (or above) diagonal k. */
const trilu: Converter = (call) => {
  const x = call.input(0);
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  const k = call.optional(1) ? call.known(1, 'its diagonal').data[0]! : 0;
  const upper = call.number('upper', 1) === 1;
  const kept = call.filled('bool', [rows, columns], (i) => {
    const past = (i % columns) - Math.floor(i / columns) - k;
    return Number(upper ? past >= 0 : past <= 0);
  });
  return x.dtype === 'bool' ? b.and(x, kept) : b.where(kept, x, 0);
};

/** As a product with a triangle of ones. */
const cumSum: Converter = (call) => {
  const x = call.input(0);
  const axis = call.axisOf(call.known(1, 'its axis').data[0]!, x);
  const n = x.shape[axis]!;
  const [exclusive, reverse] = [call.number('exclusive', 0), call.number('reverse', 0)];
  const type = isFloat(x) ? x.dtype : 'float32';
  const triangle = call.filled(type, [n, n], (i) => {
    const ahead = (Math.floor(i / n) - (i % n)) * (reverse ? -1 : 1);
    return Number(exclusive ? ahead < 0 : ahead <= 0);
  });
  const perm = [...x.shape.map((_, i) => i).filter((i) => i !== axis), axis];
  const last = b.transpose(b.cast(x, type), perm);
  const rows = b.matmul(b.reshape(last, [-1, n]), triangle);
  return b.cast(b.transpose(b.reshape(rows, last.shape), x.shape.map((_, i) => perm.indexOf(i))), x.dtype);
};

const oneHot: Converter = (call) => {
  const indices = b.cast(call.input(0), 'int64');
  const depth = call.known(1, 'its depth').data[0]!;
  const axis = call.axisOf(call.number('axis', -1), indices, indices.shape.length + 1);
  const classes = call.filled('int64', [depth, ...indices.shape.slice(axis).map(() => 1)], (i) => i);
  const wrapped = b.where(b.less(indices, 0), b.add(indices, depth), indices);
  const hits = b.equal(b.reshape(wrapped, [...indices.shape.slice(0, axis), 1, ...indices.shape.slice(axis)]), classes);
  const [off, on] = [0, 1].map((i) => b.reshape(b.slice(call.input(2), 0, i, i + 1), []));
  return b.where(hits, on!, off!);
};

const nonZero: Converter = (call) => {
  const { shape, data } = call.known(0);
  const places = Array.from(data.keys()).filter((i) => data[i] !== 0);
  const strides = shape.map((_, i) => numel(shape.slice(i + 1)));
  return call.int64([shape.length, places.length],
    strides.flatMap((stride, axis) => places.map((p) => Math.floor(p / stride) % shape[axis]!)));
};

/** Channels to places: with `DCR` the block is the outer part of the channels, with `CRD` the inner one. */
const depthToSpace: Converter = (call) => {
  const x = call.input(0);
  const [n, c, h, w] = x.shape as [number, number, number, number];
  const s = call.number('blocksize', 1);
  const rest = c / (s * s);
  const apart = call.string('mode', 'DCR') === 'DCR'
    ? b.transpose(call.reshape(x, [n, s, s, rest, h, w]), [0, 3, 4, 1, 5, 2])
    : b.transpose(call.reshape(x, [n, rest, s, s, h, w]), [0, 1, 4, 2, 5, 3]);
  return b.reshape(apart, [n, rest, h * s, w * s]);
};

const spaceToDepth: Converter = (call) => {
  const x = call.input(0);
  const [n, c, h, w] = x.shape as [number, number, number, number];
  const s = call.number('blocksize', 1);
  const apart = call.reshape(x, [n, c, h / s, s, w / s, s]);
  return b.reshape(b.transpose(apart, [0, 3, 5, 1, 2, 4]), [n, c * s * s, h / s, w / s]);
};

const topK: Converter = (call) => {
  const k = call.scalar(1, 'k', 1);
  return b.topK(call.input(0), k, call.axis(-1), call.number('largest', 1) === 1 ? 1 : 0);
};

const argExtremum = (sign: 1 | -1): Converter => (call) => {
  call.only('select_last_index', 0);
  const x = sign === 1 ? call.input(0) : b.neg(call.input(0));
  return b.argMax(x, call.axis(0), call.number('keepdims', 1) === 1 ? 1 : 0);
};

export const shape: Readonly<Record<string, Converter>> = {
  Constant: constant, ConstantOfShape: constantOfShape, Shape: shapeOf, Range: range, Reshape: reshape,
  Flatten: flatten, Squeeze: squeeze, Unsqueeze: unsqueeze, Transpose: transpose, Concat: concat, Split: split, Slice: slice, Pad: pad,
  Expand: expand, Tile: tile, ScatterElements: scatter, Scatter: scatter, ScatterND: scatterND, GatherND: gatherND,
  Trilu: trilu, CumSum: cumSum, OneHot: oneHot, NonZero: nonZero, DepthToSpace: depthToSpace,
  SpaceToDepth: spaceToDepth, TopK: topK, ArgMax: argExtremum(1), ArgMin: argExtremum(-1),
  Size: (call) => call.int64([], [numel(call.input(0).shape)]),
  Gather: (call) => b.gather(call.input(0), call.input(1), call.axis(0)),
  GatherElements: (call) => b.gatherElements(call.input(0), call.input(1), call.axis(0)),
};

