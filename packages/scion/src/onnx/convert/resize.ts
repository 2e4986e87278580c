/**
 * Resize as one matrix product per axis: every output place is a fixed weighted sum of input places, since shapes are
 * static. Gradients follow from that of the product.
 */
import type { Value } from '../../ir/graph.js';
import * as b from '../../ops/build.js';
import type { Call, Converter } from './call.js';

/** The input place of an output place, by ONNX's coordinate_transformation_mode. */
const coordinates: Readonly<Record<string, (x: number, scale: number, from: number, to: number) => number>> = {
  half_pixel: (x, scale) => (x + 0.5) / scale - 0.5,
  half_pixel_symmetric: (x, scale, from, to) => {
    const offset = (from / 2) * (1 - to / (scale * from));
    return offset + (x + 0.5) / scale - 0.5;
  },
  pytorch_half_pixel: (x, scale, _, to) => (to > 1 ? (x + 0.5) / scale - 0.5 : 0),
  align_corners: (x, _, from, to) => (to > 1 ? (x * (from - 1)) / (to - 1) : 0),
  asymmetric: (x, scale) => x / scale,
};

const nearest: Readonly<Record<string, (x: number) => number>> = {
  round_prefer_floor: (x) => Math.ceil(x - 0.5),
  round_prefer_ceil: (x) => Math.floor(x + 0.5),
  floor: Math.floor,
  ceil: Math.ceil,
};

/** The kernel at a distance: a triangle, or Keys' cubic (1981) with parameter a. */
const triangle = (d: number): number => Math.max(0, 1 - Math.abs(d));
const cubic = (a: number) => (d: number): number => {
  const x = Math.abs(d);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
};

/** The weights [to, from] of a linear or cubic resize. */
function weights(call: Call, from: number, to: number, at: (x: number) => number, scale: number): Float64Array {
  const mode = call.string('mode', 'nearest');
  const kernel = mode === 'linear' ? triangle : cubic(call.number('cubic_coeff_a', -0.75));
  const outside = call.number('exclude_outside', 0) === 1;
  // with antialias a smaller picture is made of all places that it covers
  const stretch = call.number('antialias', 0) === 1 && scale < 1 ? scale : 1;
  const radius = (mode === 'linear' ? 1 : 2) / stretch;
  const matrix = new Float64Array(to * from);
  for (let x = 0; x < to; x++) {
    const centre = at(x);
    let total = 0;
    for (let i = Math.ceil(centre - radius); i <= Math.floor(centre + radius); i++) {
      const w = kernel((i - centre) * stretch);
      if (outside && (i < 0 || i >= from)) continue;
      matrix[x * from + Math.max(0, Math.min(from - 1, i))]! += w;
      total += w;
    }
    for (let i = 0; i < from; i++) matrix[x * from + i]! /= total;
  }
  return matrix;
}

/** Sizes of the axes, by scales or sizes; for a part of the axes where `axes` says so. */
function target(call: Call, x: Value): { sizes: number[]; scales: number[] } {
  const axes = (call.ints('axes') ?? x.shape.map((_, i) => i)).map((a) => call.axisOf(a, x));
  const versionTen = call.opset < 11;
  const scaleInput = versionTen ? 1 : 2;
  const listed = (i: number): number[] => (call.optional(i) ? call.list(i, 'its scales or sizes') : []);
  const given = { scales: listed(scaleInput), sizes: versionTen ? [] : listed(3) };
  const sizes = [...x.shape];
  const scales = x.shape.map(() => 1);
  axes.forEach((axis, i) => {
    const dim = x.shape[axis]!;
    if (given.sizes.length > 0) {
      sizes[axis] = given.sizes[i]!;
      scales[axis] = sizes[axis] / dim;
    } else {
      scales[axis] = given.scales[i] ?? call.refuse('has neither scales nor sizes');
      sizes[axis] = Math.floor(dim * scales[axis]);
    }
  });
  return { sizes, scales };
}

export const resize: Converter = (call) => {
  const x = call.input(0);
  call.only('keep_aspect_ratio_policy', 'stretch');
  const mode = call.string('mode', 'nearest');
  if (!['nearest', 'linear', 'cubic'].includes(mode)) return call.refuse(`has mode ${mode}, which ONNX does not know`);
  const name = call.opset < 11 ? 'asymmetric' : call.string('coordinate_transformation_mode', 'half_pixel');
  const place = coordinates[name] ?? call.refuse(
    `has coordinate_transformation_mode ${name}; supported are ${Object.keys(coordinates).join(', ')}`);
  const rounding = call.opset < 11 ? 'floor' : call.string('nearest_mode', 'round_prefer_floor');
  const round = nearest[rounding] ?? call.refuse(`has nearest_mode ${rounding}`);
  const { sizes, scales } = target(call, x);
  return x.shape.reduce((v, from, axis) => {
    const [to, scale] = [sizes[axis]!, scales[axis]!];
    if (to === from && scale === 1) return v;
    const at = (i: number): number => place(i, scale, from, to);
    if (mode === 'nearest') {
      const index = call.filled('int64', [to], (i) => Math.max(0, Math.min(from - 1, round(at(i)))));
      return b.gather(v, index, axis);
    }
    call.bounded([to, from]);
    const matrix = call.constant(x.dtype, [to, from], weights(call, from, to, at, scale));
    // the axis is brought to the end and back
    const perm = [...v.shape.map((_, i) => i).filter((i) => i !== axis), axis];
    const moved = b.fusedMatMul(b.transpose(v, perm), matrix, { transB: 1 });
    return b.transpose(moved, v.shape.map((_, i) => perm.indexOf(i)));
  }, x);
};
