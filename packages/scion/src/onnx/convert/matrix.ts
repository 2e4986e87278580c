/** Matrix products, convolution and pooling. */
import type { Value } from '../../ir/graph.js';
import * as b from '../../ops/build.js';
import { einsum } from '../../ops/composite.js';
import { type Call, type Converter } from './call.js';

/** NumPy's rules for vectors: a row on the left, a column on the right, and the axis is dropped again. */
export function matmul(x: Value, y: Value): Value {
  const left = x.shape.length === 1 ? b.reshape(x, [1, -1]) : x;
  const right = y.shape.length === 1 ? b.reshape(y, [-1, 1]) : y;
  const z = b.matmul(left, right);
  const lead = z.shape.slice(0, -2);
  if (left === x && right === y) return z;
  return b.reshape(z, [...lead, ...(left === x ? [z.shape.at(-2)!] : []), ...(right === y ? [z.shape.at(-1)!] : [])]);
}

const flag = (call: Call, name: string): 0 | 1 => (call.number(name, 0) === 1 ? 1 : 0);

const gemm: Converter = (call) => b.gemm(call.input(0), call.input(1), call.optional(2), {
  alpha: call.number('alpha', 1), beta: call.number('beta', 1),
  transA: flag(call, 'transA'), transB: flag(call, 'transB'),
});

const fusedMatMul: Converter = (call) => b.fusedMatMul(call.input(0), call.input(1), {
  alpha: call.number('alpha', 1), transA: flag(call, 'transA'), transB: flag(call, 'transB'),
  transBatchA: flag(call, 'transBatchA'), transBatchB: flag(call, 'transBatchB'),
});

type Sizes = readonly number[];
interface Window { kernel: Sizes; strides: Sizes; pads: Sizes; dilations: Sizes }

/** The window of a convolution or a pooling, with padding that is given by a rule worked out. */
function windowOf(call: Call, kernel: readonly number[], size: readonly number[]): Window {
  const strides = call.ints('strides') ?? kernel.map(() => 1);
  const dilations = call.ints('dilations') ?? kernel.map(() => 1);
  const auto = call.string('auto_pad', 'NOTSET');
  if (auto === 'NOTSET') return { kernel, strides, dilations, pads: call.ints('pads') ?? kernel.flatMap(() => [0, 0]) };
  const total = kernel.map((k, i) => (auto === 'VALID' ? 0
    : Math.max(0, (Math.ceil(size[i]! / strides[i]!) - 1) * strides[i]! + (k - 1) * dilations[i]! + 1 - size[i]!)));
  const half = total.map((t) => (auto === 'SAME_LOWER' ? Math.ceil(t / 2) : Math.floor(t / 2)));
  return { kernel, strides, dilations, pads: [...half, ...total.map((t, i) => t - half[i]!)] };
}

/** Adds an axis of size 1 in front of the last one, so that what has one place axis has two. */
const raised = (v: Value): Value => b.reshape(v, [...v.shape.slice(0, -1), 1, v.shape.at(-1)!]);
const lowered = (v: Value): Value => b.reshape(v, [...v.shape.slice(0, -2), v.shape.at(-1)!]);
const raisedWindow = ({ kernel, strides, pads, dilations }: Window): Window => ({
  kernel: [1, ...kernel], strides: [1, ...strides], dilations: [1, ...dilations], pads: [0, pads[0]!, 0, pads[1]!],
});

/** Calls `f` with two place axes, whatever the input has. */
function planar(
  call: Call, kernel: Sizes, f: (x: Value, window: Window, lift: (v: Value) => Value) => Value,
): Value {
  const x = call.input(0);
  const rank = x.shape.length - 2;
  if (kernel.length !== rank) {
    return call.refuse(`has a kernel of ${kernel.length} axes for an input of rank ${x.shape.length}`);
  }
  const window = windowOf(call, kernel, x.shape.slice(2));
  if (rank === 2) return f(x, window, (v) => v);
  if (rank === 1) return lowered(f(raised(x), raisedWindow(window), raised));
  return call.refuse(`moves over ${rank} axes; supported are 1 and 2`);
}

const conv: Converter = (call) => {
  const w = call.input(1);
  return planar(call, w.shape.slice(2), (x, { strides, pads, dilations }, lift) =>
    b.conv(x, lift(w), call.optional(2), { strides, pads, dilations, group: call.number('group', 1) }));
};

const convTranspose: Converter = (call) => {
  const w = call.input(1);
  call.only('auto_pad', 'NOTSET');
  if (call.ints('output_shape')) return call.refuse('gives output_shape; supported are pads and output_padding');
  return planar(call, w.shape.slice(2), (x, { strides, pads, dilations }, lift) => {
    const extra = call.ints('output_padding') ?? [0, 0];
    const output_padding = extra.length === 1 ? [0, extra[0]!] : extra;
    const group = call.number('group', 1);
    return b.convTranspose(x, lift(w), call.optional(2), { strides, pads, dilations, group, output_padding });
  });
};

/** With ceil_mode the last window may reach beyond the end: padding that no average counts. */
function ceiled(call: Call, x: Value, w: Window): readonly number[] {
  if (call.number('ceil_mode', 0) === 0) return w.pads;
  const extra = w.kernel.map((k, i) => {
    const [size, before, after, stride] = [x.shape[2 + i]!, w.pads[i]!, w.pads[i + w.kernel.length]!, w.strides[i]!];
    const free = size + before + after - k;
    const windows = Math.ceil(free / stride) + 1;
    // a window that begins behind the input is none
    const last = (windows - 1) * stride >= size + before ? windows - 2 : windows - 1;
    return Math.max(0, last * stride - free);
  });
  return w.pads.map((p, i) => (i < extra.length ? p : p + extra[i - extra.length]!));
}

const pool = (kind: 'max' | 'average'): Converter => (call) => {
  if (call.ints('dilations')?.some((d) => d !== 1)) return call.refuse('has dilations; supported is 1');
  call.only('storage_order', 0);
  if (call.node.outputs[1]) return call.refuse('gives the places of the maxima, which is not supported');
  const kernel = call.ints('kernel_shape') ?? call.refuse('has no kernel_shape');
  return planar(call, kernel, (x, window) => {
    const pads = ceiled(call, x, window);
    const counted = flag(call, 'count_include_pad');
    if (kind === 'average' && counted && pads.some((p, i) => p !== window.pads[i])) {
      return call.refuse('has ceil_mode with count_include_pad, which is not supported');
    }
    const options = { kernel_shape: window.kernel, strides: window.strides, pads };
    return kind === 'max' ? b.maxPool(x, options) : b.averagePool(x, { ...options, count_include_pad: counted });
  });
};

const places = (x: Value): number[] => x.shape.map((_, i) => i).slice(2);

/** Two operands, or one whose indices are put in another order or summed. */
const einsumOf: Converter = (call) => {
  const equation = call.string('equation', '').replaceAll(' ', '');
  if (call.count !== 2 || !/^[a-z]+,[a-z]+->[a-z]*$/i.test(equation)) {
    return call.refuse(`has the equation ${JSON.stringify(equation)}; supported are two operands with letters`);
  }
  return einsum(equation, call.input(0), call.input(1));
};

export const matrix: Readonly<Record<string, Converter>> = {
  MatMul: (call) => matmul(call.input(0), call.input(1)),
  Gemm: gemm,
  Einsum: einsumOf,
  Conv: conv,
  ConvTranspose: convTranspose,
  MaxPool: pool('max'),
  AveragePool: pool('average'),
  GlobalAveragePool: (call) => b.reduceMean(call.input(0), places(call.input(0)), 1),
  GlobalMaxPool: (call) => b.reduceMax(call.input(0), places(call.input(0)), 1),
};

export const contribMatrix: Readonly<Record<string, Converter>> = { FusedMatMul: fusedMatMul };
