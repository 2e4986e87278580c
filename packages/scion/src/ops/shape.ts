/** Ops that move elements without computing. */
import type { OpAttributes } from '../ir/op-types.js';
import { assert } from '../util/errors.js';
import { numel } from '../util/tensor.js';
import * as b from './build.js';
import { type OpDef, type RefTensor, around, broadcastIndex, broadcastShapes, stridesOf, walk } from './def.js';

/** Start, step and length of a slice, by NumPy's rules for negative and out-of-range bounds. */
function bounds(dim: number, start: number, end: number, step: number): { start: number; length: number } {
  const clamp = (v: number, low: number, high: number): number => Math.max(low, Math.min(high, v < 0 ? v + dim : v));
  const from = step > 0 ? clamp(start, 0, dim) : clamp(start, 0, dim - 1);
  // an end below -dim means "past the first element" when walking backwards
  const to = step > 0 ? clamp(end, 0, dim) : end < -dim ? -1 : clamp(end, -1, dim - 1);
  return { start: from, length: Math.max(0, Math.ceil((to - from) / step)) };
}

function sliceWindow(shape: readonly number[], a: OpAttributes['Slice']): { shape: number[]; steps: number[]; offset: number } {
  const steps = stridesOf(shape);
  const strides = [...steps];
  const out = [...shape];
  let offset = 0;
  a.axes.forEach((axis, i) => {
    const { start, length } = bounds(shape[axis]!, a.starts[i]!, a.ends[i]!, a.steps[i]!);
    offset += start * strides[axis]!;
    out[axis] = length;
    steps[axis] = strides[axis]! * a.steps[i]!;
  });
  return { shape: out, steps, offset };
}

const pick = (x: RefTensor, index: Int32Array): Float64Array => Float64Array.from(index, (i) => x.data[i]!);

function padded(shape: readonly number[], pads: readonly number[]): number[] {
  return shape.map((d, i) => d + pads[i]! + pads[i + shape.length]!);
}

/** Copies each part to its place along an axis. */
function join(parts: readonly RefTensor[], axis: number, total: number): Float64Array {
  const { outer, inner } = around(parts[0]!.shape, axis);
  const out = new Float64Array(outer * total * inner);
  let start = 0;
  for (const part of parts) {
    const run = part.shape[axis]! * inner;
    for (let o = 0; o < outer; o++) out.set(part.data.subarray(o * run, (o + 1) * run), (o * total + start) * inner);
    start += part.shape[axis]!;
  }
  return out;
}

const sum = (v: readonly number[]): number => v.reduce((a, c) => a + c, 0);

export const shape: {
  [T in 'Reshape' | 'Transpose' | 'Concat' | 'Split' | 'Slice' | 'Pad' | 'Expand']: OpDef<OpAttributes[T]>
} = {
  Reshape: {
    infer: ([x], { shape }) => {
      assert(numel(shape) === numel(x!.shape), `[${x!.shape.join(', ')}] reshaped to [${shape.join(', ')}]`);
      return [{ dtype: x!.dtype, shape }];
    },
    evaluate: ([x]) => [x!.data],
    vjp: ({ inputs: [x], dy }) => [() => b.reshape(dy, x!.shape)],
    onnx: { inputs: [{ attribute: 'shape', as: 'int64' }] },
  },
  Transpose: {
    infer: ([x], { perm }) => {
      assert([...perm].sort((p, q) => p - q).every((p, i) => p === i) && perm.length === x!.shape.length,
        `perm [${perm.join(', ')}] of [${x!.shape.join(', ')}]`);
      return [{ dtype: x!.dtype, shape: perm.map((p) => x!.shape[p]!) }];
    },
    evaluate: ([x], { perm }, [out]) => {
      const strides = stridesOf(x!.shape);
      return [pick(x!, walk(out!.shape, perm.map((p) => strides[p]!)))];
    },
    vjp: ({ attributes: { perm }, dy }) => [() => b.transpose(dy, perm.map((_, i) => perm.indexOf(i)))],
  },
  Concat: {
    infer: (parts, { axis }) => {
      const total = sum(parts.map((p) => p.shape[axis]!));
      const shape = parts[0]!.shape.map((d, i) => (i === axis ? total : d));
      for (const p of parts) {
        assert(p.shape.length === shape.length && p.shape.every((d, i) => i === axis || d === shape[i]),
          `Concat of ${parts.map((q) => `[${q.shape.join(', ')}]`).join(' ')} along ${axis}`);
      }
      return [{ dtype: parts[0]!.dtype, shape }];
    },
    evaluate: (parts, { axis }, [out]) => [join(parts, axis, out!.shape[axis]!)],
    vjp: ({ inputs, attributes: { axis }, dy }) => {
      const sizes = inputs.map((v) => v.shape[axis]!);
      return inputs.map((_, i) => () => b.split(dy, sizes, axis)[i]!);
    },
  },
  Split: {
    infer: ([x], { axis, split }) => {
      assert(sum(split) === x!.shape[axis], `Split of [${x!.shape.join(', ')}] into ${split.join(' + ')}`);
      return split.map((size) => ({ dtype: x!.dtype, shape: x!.shape.map((d, i) => (i === axis ? size : d)) }));
    },
    evaluate: ([x], { axis }, outputs) => {
      const { steps, offset } = { steps: stridesOf(x!.shape), offset: 0 };
      let start = offset;
      return outputs.map((o) => {
        const part = pick(x!, walk(o.shape, steps, start));
        start += o.shape[axis]! * steps[axis]!;
        return part;
      });
    },
    vjp: ({ outputs, attributes: { axis }, cotangent }) => [
      () => b.concat(outputs.map((_, i) => cotangent(i)), axis),
    ],
    onnx: { inputs: [{ attribute: 'split', as: 'int64' }] },
  },
  Slice: {
    infer: ([x], a) => {
      const { shape } = sliceWindow(x!.shape, a);
      assert(shape.every((d) => d > 0), `Slice of [${x!.shape.join(', ')}] is empty`);
      return [{ dtype: x!.dtype, shape }];
    },
    evaluate: ([x], a) => {
      const { shape: out, steps, offset } = sliceWindow(x!.shape, a);
      return [pick(x!, walk(out, steps, offset))];
    },
    vjp: ({ inputs: [x], attributes: a, dy }) => [() => {
      if (a.steps.every((s) => s === 1)) {
        const begins = x!.shape.map(() => 0);
        a.axes.forEach((axis, i) => { begins[axis] = bounds(x!.shape[axis]!, a.starts[i]!, a.ends[i]!, 1).start; });
        return b.pad(dy, [...begins, ...x!.shape.map((d, i) => d - begins[i]! - dy.shape[i]!)]);
      }
      const { steps, offset } = sliceWindow(x!.shape, a);
      const index = BigInt64Array.from(walk(dy.shape, steps, offset), BigInt);
      const at = b.constant(x!.graph, { dtype: 'int64', shape: [index.length], data: index });
      const zeros = b.full(x!.graph, x!.dtype, [numel(x!.shape)], 0);
      return b.reshape(b.scatterElements(zeros, at, b.reshape(dy, [-1]), 0, 'add'), x!.shape);
    }],
    onnx: {
      inputs: [{ attribute: 'starts', as: 'int64' }, { attribute: 'ends', as: 'int64' },
        { attribute: 'axes', as: 'int64' }, { attribute: 'steps', as: 'int64' }],
    },
  },
  Pad: {
    infer: ([x], { pads }) => {
      assert(pads.length === 2 * x!.shape.length && pads.every((p) => p >= 0), `pads [${pads.join(', ')}]`);
      return [{ dtype: x!.dtype, shape: padded(x!.shape, pads) }];
    },
    evaluate: ([x], { pads, value }, [out]) => {
      const result = new Float64Array(numel(out!.shape)).fill(value);
      const strides = stridesOf(out!.shape);
      const offset = sum(strides.map((s, i) => s * pads[i]!));
      walk(x!.shape, strides, offset).forEach((to, i) => { result[to] = x!.data[i]!; });
      return [result];
    },
    vjp: ({ inputs: [x], attributes: { pads }, dy }) => [() => x!.shape.reduce(
      (v, d, i) => (v.shape[i] === d ? v : b.slice(v, i, pads[i]!, pads[i]! + d)), dy)],
    onnx: { inputs: [{ attribute: 'pads', as: 'int64' }, { attribute: 'value', as: 'like' }] },
  },
  Expand: {
    infer: ([x], { shape }) => {
      assert(broadcastShapes(x!.shape, shape).join() === shape.join(),
        `[${x!.shape.join(', ')}] expanded to [${shape.join(', ')}]`);
      return [{ dtype: x!.dtype, shape }];
    },
    evaluate: ([x], { shape }) => [pick(x!, broadcastIndex(shape, x!.shape))],
    vjp: ({ inputs: [x], dy }) => [() => b.unbroadcast(dy, x!)],
    onnx: { inputs: [{ attribute: 'shape', as: 'int64' }] },
  },
};
