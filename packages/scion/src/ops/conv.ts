/** Convolution and pooling over [N, C, H, W]. */
import type { Value } from '../ir/graph.js';
import type { OpAttributes } from '../ir/op-types.js';
import { assert } from '../util/errors.js';
import { type Shape, fromFloat64, int64, numel } from '../util/tensor.js';
import * as b from './build.js';
import type { OpDef } from './def.js';

type Conv = OpAttributes['Conv'];
type Window = OpAttributes['MaxPool'];

/** Output size along one axis for a kernel of the given (dilated) extent. */
const outputSize = (size: number, extent: number, stride: number, padding: number): number =>
  Math.floor((size + padding - extent) / stride) + 1;
const extent = (kernel: number, dilation: number): number => (kernel - 1) * dilation + 1;

function convShape(x: Shape, weight: Shape, { strides, pads, dilations, group }: Conv): number[] {
  assert(x.length === 4 && weight.length === 4, 'Conv takes [N, C, H, W] and [M, C / group, kH, kW]');
  assert(x[1] === weight[1]! * group && weight[0]! % group === 0,
    `Conv of ${x[1]} channels with weight [${weight.join(', ')}] in ${group} groups`);
  const spatial = [0, 1].map((i) =>
    outputSize(x[2 + i]!, extent(weight[2 + i]!, dilations[i]!), strides[i]!, pads[i]! + pads[i + 2]!));
  assert(spatial.every((d) => d > 0), `Conv kernel [${weight.join(', ')}] is larger than [${x.join(', ')}]`);
  return [x[0]!, weight[0]!, ...spatial];
}

/** Calls `visit(input, weight, output)` with the flat indices of every product of a convolution. */
function eachProduct(
  x: Shape, weight: Shape, y: Shape, { strides, pads, dilations, group }: Conv,
  visit: (input: number, weight: number, output: number) => void,
): void {
  const [, C, H, W] = x as [number, number, number, number];
  const [M, cg, kH, kW] = weight as [number, number, number, number];
  const [N, , oH, oW] = y as [number, number, number, number];
  for (let n = 0; n < N; n++) for (let m = 0; m < M; m++) for (let c = 0; c < cg; c++) {
    const channel = Math.floor(m / (M / group)) * cg + c;
    for (let i = 0; i < oH; i++) for (let j = 0; j < oW; j++) {
      for (let p = 0; p < kH; p++) for (let q = 0; q < kW; q++) {
        const row = i * strides[0]! - pads[0]! + p * dilations[0]!;
        const column = j * strides[1]! - pads[1]! + q * dilations[1]!;
        if (row < 0 || row >= H || column < 0 || column >= W) continue;
        visit(((n * C + channel) * H + row) * W + column, ((m * cg + c) * kH + p) * kW + q, ((n * M + m) * oH + i) * oW + j);
      }
    }
  }
}

/**
 * dL/dx of a convolution: for stride 1 a convolution with the kernel turned round, which ONNX Runtime computes faster
 * than what it is in general, the transposed convolution (with what a stride left over as output padding).
 */
function convInputGrad(x: Shape, weight: Value, dy: Value, a: Conv): Value {
  const [M, C, kH, kW] = weight.shape as [number, number, number, number];
  const extents = [extent(kH, a.dilations[0]!), extent(kW, a.dilations[1]!)] as const;
  if (a.group === 1 && a.strides.every((s) => s === 1) && a.pads.every((p, i) => p < extents[i % 2]!)) {
    const last = kH * kW - 1;
    const backwards = b.constant(dy.graph, int64([last + 1], Array.from({ length: last + 1 }, (_, i) => last - i)));
    const turned = b.gather(b.reshape(weight, [M, C, -1]), backwards, 2);
    const pads = [0, 1, 2, 3].map((i) => extents[i % 2]! - 1 - a.pads[i]!);
    return b.conv(dy, b.reshape(b.transpose(turned, [1, 0, 2]), [C, M, kH, kW]), undefined, { ...a, pads });
  }
  const output_padding = [0, 1].map((i) => (x[2 + i]! + a.pads[i]! + a.pads[i + 2]! - extents[i]!) % a.strides[i]!);
  return b.convTranspose(dy, weight, undefined, { ...a, output_padding });
}

/** Kernels of more places than this are not unfolded: an 8 × 8 patch has 64. */
const mostUnfolded = 49;

/** dL/dweight of a convolution. */
function convWeightGrad(x: Value, weightShape: Shape, dy: Value, a: Conv): Value {
  const [, , kH, kW] = weightShape as [number, number, number, number];
  return (a.group === 1 && kH * kW <= mostUnfolded ? weightGradByUnfolding : weightGradByConv)(x, weightShape, dy, a);
}

/** As one matrix product over all places of all pictures: dy [M, N · oH · oW] with the unfolded x [kH · kW · C, …]ᵀ. */
function weightGradByUnfolding(x: Value, weightShape: Shape, dy: Value, { pads, strides, dilations }: Conv): Value {
  const [M, C, kH, kW] = weightShape as [number, number, number, number];
  const [, , oH, oW] = dy.shape as [number, number, number, number];
  const [top, left, bottom, right] = pads as [number, number, number, number];
  const padded = b.pad(b.transpose(x, [1, 0, 2, 3]), [0, 0, top, left, 0, 0, bottom, right]); // [C, N, H, W]
  const window = (v: Value, axis: 2 | 3, at: number): Value => {
    const [stride, count] = axis === 2 ? [strides[0]!, oH] : [strides[1]!, oW];
    const start = at * dilations[axis - 2]!;
    return b.slice(v, axis, start, start + (count - 1) * stride + 1, stride);
  };
  const places = Array.from({ length: kH * kW }, (_, i) =>
    window(window(padded, 2, Math.floor(i / kW)), 3, i % kW)); // each [C, N, oH, oW]
  const unfolded = b.reshape(b.concat(places, 0), [kH * kW * C, -1]);
  const rows = b.reshape(b.transpose(dy, [1, 0, 2, 3]), [M, -1]);
  const product = b.gemm(rows, unfolded, undefined, { transB: 1 });
  return b.transpose(b.reshape(product, [M, kH, kW, C]), [0, 3, 1, 2]);
}

/**
 * Again as a convolution: the batch takes the part of the channels, stride and dilation change places. What a stride
 * left over is cut off. Groups stay groups: x as [C/g, g·N, H, W], dy as [M, N, oH, oW].
 */
function weightGradByConv(x: Value, weightShape: Shape, dy: Value, a: Conv): Value {
  const [N, C, H, W] = x.shape as [number, number, number, number];
  const [M, cg, kH, kW] = weightShape as [number, number, number, number];
  const g = a.group;
  const grouped = b.reshape(b.transpose(b.reshape(x, [N, g, cg, H, W]), [2, 1, 0, 3, 4]), [cg, (C / cg) * N, H, W]);
  const full = b.conv(grouped, b.transpose(dy, [1, 0, 2, 3]), undefined, {
    strides: a.dilations, dilations: a.strides, pads: a.pads, group: g,
  });
  const kernel = b.slice(b.slice(full, 2, 0, kH), 3, 0, kW);
  return b.reshape(b.transpose(kernel, [1, 0, 2, 3]), [M, cg, kH, kW]);
}

const channelSum = (dy: Value): Value => b.reduceSum(dy, [0, 2, 3]);

function windowShape(x: Shape, { kernel_shape, strides, pads }: Window): number[] {
  assert(x.length === 4, 'pooling takes [N, C, H, W]');
  return [...x.slice(0, 2), ...[0, 1].map((i) =>
    outputSize(x[2 + i]!, kernel_shape[i]!, strides[i]!, pads[i]! + pads[i + 2]!))];
}

/** Calls `visit(output, inputs)` for every window, with the flat indices of the elements inside the picture. */
function eachWindow(x: Shape, y: Shape, w: Window, visit: (output: number, inputs: number[]) => void): void {
  const [N, C, H, W] = x as [number, number, number, number];
  const [, , oH, oW] = y as [number, number, number, number];
  for (let plane = 0; plane < N * C; plane++) for (let i = 0; i < oH; i++) for (let j = 0; j < oW; j++) {
    const inside: number[] = [];
    for (let p = 0; p < w.kernel_shape[0]!; p++) for (let q = 0; q < w.kernel_shape[1]!; q++) {
      const [row, column] = [i * w.strides[0]! - w.pads[0]! + p, j * w.strides[1]! - w.pads[1]! + q];
      if (row >= 0 && row < H && column >= 0 && column < W) inside.push((plane * H + row) * W + column);
    }
    visit((plane * oH + i) * oW + j, inside);
  }
}

export const conv: {
  [T in 'Conv' | 'ConvTranspose' | 'MaxPool' | 'AveragePool' | 'GlobalAveragePool']: OpDef<OpAttributes[T]>
} = {
  Conv: {
    infer: ([x, w], a) => [{ dtype: x!.dtype, shape: convShape(x!.shape, w!.shape, a) }],
    evaluate: ([x, w, bias], a, [y]) => {
      const [, M, oH, oW] = y!.shape as [number, number, number, number];
      const out = new Float64Array(numel(y!.shape));
      if (bias) out.forEach((_, i) => { out[i] = bias.data[Math.floor(i / (oH * oW)) % M]!; });
      eachProduct(x!.shape, w!.shape, y!.shape, a, (xi, wi, yi) => { out[yi]! += x!.data[xi]! * w!.data[wi]!; });
      return [out];
    },
    vjp: ({ inputs: [x, w], attributes: a, dy }) => [
      () => convInputGrad(x!.shape, w!, dy, a), () => convWeightGrad(x!, w!.shape, dy, a), () => channelSum(dy),
    ],
  },
  ConvTranspose: {
    infer: ([x, w], { strides, pads, dilations, group, output_padding }) => {
      assert(x!.shape.length === 4 && w!.shape.length === 4 && x!.shape[1] === w!.shape[0],
        `ConvTranspose of [${x!.shape.join(', ')}] with weight [${w!.shape.join(', ')}]`);
      const spatial = [0, 1].map((i) => (x!.shape[2 + i]! - 1) * strides[i]! + extent(w!.shape[2 + i]!, dilations[i]!)
        + output_padding[i]! - pads[i]! - pads[i + 2]!);
      return [{ dtype: x!.dtype, shape: [x!.shape[0]!, w!.shape[1]! * group, ...spatial] }];
    },
    evaluate: ([x, w, bias], a, [y]) => {
      const [, M, oH, oW] = y!.shape as [number, number, number, number];
      const out = new Float64Array(numel(y!.shape));
      if (bias) out.forEach((_, i) => { out[i] = bias.data[Math.floor(i / (oH * oW)) % M]!; });
      // a convolution from y to x, read backwards
      eachProduct(y!.shape, w!.shape, x!.shape, a, (yi, wi, xi) => { out[yi]! += x!.data[xi]! * w!.data[wi]!; });
      return [out];
    },
    vjp: ({ inputs: [x, w], attributes: a, dy }) => [
      () => {
        const { output_padding: _, ...convolution } = a;
        return b.conv(dy, w!, undefined, convolution);
      },
      () => {
        const { output_padding: _, ...convolution } = a;
        return convWeightGrad(dy, w!.shape, x!, convolution);
      },
      () => channelSum(dy),
    ],
  },
  MaxPool: {
    // the second output holds the flat index of each maximum in the whole input
    infer: ([x], a) => {
      const shape = windowShape(x!.shape, a);
      return [{ dtype: x!.dtype, shape }, { dtype: 'int64', shape }];
    },
    evaluate: ([x], a, [y]) => {
      const [out, index] = [new Float64Array(numel(y!.shape)), new Float64Array(numel(y!.shape))];
      eachWindow(x!.shape, y!.shape, a, (o, inside) => {
        index[o] = inside.reduce((best, i) => (x!.data[i]! > x!.data[best]! ? i : best));
        out[o] = x!.data[index[o]]!;
      });
      return [out, index];
    },
    vjp: ({ inputs: [x], outputs: [, index], dy }) => [() => {
      const zeros = b.full(x!.graph, x!.dtype, [numel(x!.shape)], 0);
      return b.reshape(b.scatterElements(zeros, b.reshape(index!, [-1]), b.reshape(dy, [-1]), 0, 'add'), x!.shape);
    }],
  },
  AveragePool: {
    infer: ([x], a) => [{ dtype: x!.dtype, shape: windowShape(x!.shape, a) }],
    evaluate: ([x], a, [y]) => {
      const out = new Float64Array(numel(y!.shape));
      eachWindow(x!.shape, y!.shape, a, (o, inside) => {
        const count = a.count_include_pad ? a.kernel_shape[0]! * a.kernel_shape[1]! : inside.length;
        out[o] = inside.reduce((s, i) => s + x!.data[i]!, 0) / count;
      });
      return [out];
    },
    vjp: ({ inputs: [x], outputs: [y], attributes: a, dy }) => [() => {
      const [N, C, H, W] = x!.shape as [number, number, number, number];
      const [oH, oW] = y!.shape.slice(2) as [number, number];
      const counts = new Float64Array(oH * oW);
      eachWindow([1, 1, H, W], [1, 1, oH, oW], a, (o, inside) => {
        counts[o] = 1 / (a.count_include_pad ? a.kernel_shape[0]! * a.kernel_shape[1]! : inside.length);
      });
      const shares = b.constant(x!.graph, fromFloat64(x!.dtype, [1, 1, oH, oW], counts));
      const ones = b.full(x!.graph, x!.dtype, [1, 1, ...a.kernel_shape], 1);
      const spread = convInputGrad(
        [N * C, 1, H, W], ones, b.mul(b.reshape(dy, [N * C, 1, oH, oW]), shares),
        { strides: a.strides, pads: a.pads, dilations: [1, 1], group: 1 });
      return b.reshape(spread, x!.shape);
    }],
  },
  GlobalAveragePool: {
    infer: ([x]) => [{ dtype: x!.dtype, shape: [...x!.shape.slice(0, 2), ...x!.shape.slice(2).map(() => 1)] }],
    evaluate: ([x], _, [y]) => {
      const size = numel(x!.shape) / numel(y!.shape);
      return [Float64Array.from({ length: numel(y!.shape) }, (_v, o) =>
        x!.data.subarray(o * size, (o + 1) * size).reduce((s, v) => s + v, 0) / size)];
    },
    vjp: ({ inputs: [x], outputs: [y], dy }) => [
      () => b.expand(b.mul(dy, numel(y!.shape) / numel(x!.shape)), x!.shape),
    ],
  },
};
