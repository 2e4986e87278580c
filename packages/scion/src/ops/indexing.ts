/** Ops that address elements by computed indices. Negative indices count from the end, as in ONNX. */
import type { OpAttributes } from '../ir/op-types.js';
import { assert } from '../util/errors.js';
import { numel } from '../util/tensor.js';
import * as b from './build.js';
import { type OpDef, type RefTensor, around, stridesOf } from './def.js';

const wrap = (index: number, dim: number): number => (index < 0 ? index + dim : index);

/** For every element of `indices`, its flat position in a tensor of shape `data`, the axis replaced by the index. */
function elementPositions(data: readonly number[], indices: RefTensor, axis: number): number[] {
  const [from, to] = [stridesOf(indices.shape), stridesOf(data)];
  return Array.from(indices.data, (index, flat) => indices.shape.reduce((position, dim, i) => {
    const coordinate = i === axis ? wrap(index, data[i]!) : Math.floor(flat / from[i]!) % dim;
    return position + coordinate * to[i]!;
  }, 0));
}

/** For every tuple along the last axis of `indices`, the flat start of the block it addresses. */
function blockStarts(data: readonly number[], indices: RefTensor): { starts: number[]; size: number } {
  const depth = indices.shape.at(-1)!;
  const strides = stridesOf(data);
  const starts = Array.from({ length: numel(indices.shape) / depth }, (_, tuple) => {
    let start = 0;
    for (let i = 0; i < depth; i++) start += wrap(indices.data[tuple * depth + i]!, data[i]!) * strides[i]!;
    return start;
  });
  return { starts, size: numel(data.slice(depth)) };
}

export const indexing: {
  [T in 'Gather' | 'GatherElements' | 'GatherND' | 'ScatterElements' | 'ScatterND' | 'TopK']: OpDef<OpAttributes[T]>
} = {
  Gather: {
    infer: ([x, indices], { axis }) => [{
      dtype: x!.dtype, shape: [...x!.shape.slice(0, axis), ...indices!.shape, ...x!.shape.slice(axis + 1)],
    }],
    evaluate: ([x, indices], { axis }) => {
      const { outer, dim, inner } = around(x!.shape, axis);
      const out = new Float64Array(outer * indices!.data.length * inner);
      for (let o = 0, at = 0; o < outer; o++) {
        for (const index of indices!.data) {
          const start = (o * dim + wrap(index, dim)) * inner;
          out.set(x!.data.subarray(start, start + inner), at);
          at += inner;
        }
      }
      return [out];
    },
    // rows are added up by ScatterND on the first axis; another axis is brought to the front
    vjp: ({ inputs: [x, indices], attributes: { axis }, dy }) => [() => {
      const r = x!.shape.length;
      const axes = x!.shape.map((_, i) => i);
      const front = [axis, ...axes.filter((i) => i !== axis)];
      const n = numel(indices!.shape);
      const flat = b.reshape(dy, [...x!.shape.slice(0, axis), n, ...x!.shape.slice(axis + 1)]);
      const zeros = b.full(x!.graph, x!.dtype, front.map((i) => x!.shape[i]!), 0);
      const rows = b.scatterND(zeros, b.reshape(indices!, [n, 1]), b.transpose(flat, front), 'add');
      return b.transpose(rows, Array.from({ length: r }, (_, i) => front.indexOf(i)));
    }, undefined],
  },
  GatherElements: {
    infer: ([x, indices]) => {
      assert(x!.shape.length === indices!.shape.length, 'GatherElements: data and indices differ in rank');
      return [{ dtype: x!.dtype, shape: indices!.shape }];
    },
    evaluate: ([x, indices], { axis }) => [
      Float64Array.from(elementPositions(x!.shape, indices!, axis), (i) => x!.data[i]!),
    ],
    vjp: ({ inputs: [x, indices], attributes: { axis }, dy }) => [
      () => b.scatterElements(b.full(x!.graph, x!.dtype, x!.shape, 0), indices!, dy, axis, 'add'), undefined,
    ],
  },
  GatherND: {
    infer: ([x, indices]) => [{
      dtype: x!.dtype, shape: [...indices!.shape.slice(0, -1), ...x!.shape.slice(indices!.shape.at(-1))],
    }],
    evaluate: ([x, indices]) => {
      const { starts, size } = blockStarts(x!.shape, indices!);
      const out = new Float64Array(starts.length * size);
      starts.forEach((start, i) => { out.set(x!.data.subarray(start, start + size), i * size); });
      return [out];
    },
    vjp: ({ inputs: [x, indices], dy }) => [
      () => b.scatterND(b.full(x!.graph, x!.dtype, x!.shape, 0), indices!, dy, 'add'), undefined,
    ],
  },
  ScatterElements: {
    infer: ([x, indices, updates]) => {
      assert(indices!.shape.join() === updates!.shape.join(), 'ScatterElements: indices and updates differ in shape');
      return [x!];
    },
    evaluate: ([x, indices, updates], { axis, reduction }) => {
      const out = Float64Array.from(x!.data);
      elementPositions(x!.shape, indices!, axis).forEach((to, i) => {
        out[to] = reduction === 'add' ? out[to]! + updates!.data[i]! : updates!.data[i]!;
      });
      return [out];
    },
    // with reduction "none" the indices must not repeat, as ONNX demands
    vjp: ({ inputs: [, indices, updates], attributes: { axis, reduction }, dy }) => [
      () => (reduction === 'add' ? dy
        : b.scatterElements(dy, indices!, b.full(dy.graph, dy.dtype, updates!.shape, 0), axis)),
      undefined,
      () => b.gatherElements(dy, indices!, axis),
    ],
  },
  ScatterND: {
    infer: ([x, indices, updates]) => {
      const expected = [...indices!.shape.slice(0, -1), ...x!.shape.slice(indices!.shape.at(-1))];
      assert(updates!.shape.join() === expected.join(),
        `ScatterND updates [${updates!.shape.join(', ')}], expected [${expected.join(', ')}]`);
      return [x!];
    },
    evaluate: ([x, indices, updates], { reduction }) => {
      const { starts, size } = blockStarts(x!.shape, indices!);
      const out = Float64Array.from(x!.data);
      starts.forEach((start, i) => {
        for (let j = 0; j < size; j++) {
          out[start + j] = (reduction === 'add' ? out[start + j]! : 0) + updates!.data[i * size + j]!;
        }
      });
      return [out];
    },
    vjp: ({ inputs: [, indices, updates], attributes: { reduction }, dy }) => [
      () => (reduction === 'add' ? dy
        : b.scatterND(dy, indices!, b.full(dy.graph, dy.dtype, updates!.shape, 0))),
      undefined,
      () => b.gatherND(dy, indices!),
    ],
  },
  TopK: {
    infer: ([x], { axis, k }) => {
      assert(k >= 1 && k <= x!.shape[axis]!, `TopK with k ${k} of [${x!.shape.join(', ')}] along ${axis}`);
      const shape = x!.shape.map((d, i) => (i === axis ? k : d));
      return [{ dtype: x!.dtype, shape }, { dtype: 'int64', shape }];
    },
    evaluate: ([x], { axis, k, largest }, [out]) => {
      const { outer, dim, inner } = around(x!.shape, axis);
      const [values, indices] = [new Float64Array(numel(out!.shape)), new Float64Array(numel(out!.shape))];
      for (let o = 0; o < outer; o++) for (let i = 0; i < inner; i++) {
        const at = (j: number): number => x!.data[(o * dim + j) * inner + i]!;
        const order = Array.from({ length: dim }, (_, j) => j)
          .sort((p, q) => (largest ? at(q) - at(p) : at(p) - at(q)) || p - q);
        for (let j = 0; j < k; j++) {
          const to = (o * k + j) * inner + i;
          [values[to], indices[to]] = [at(order[j]!), order[j]!];
        }
      }
      return [values, indices];
    },
    vjp: ({ inputs: [x], outputs: [, indices], attributes: { axis }, dy }) => [
      () => b.scatterElements(b.full(x!.graph, x!.dtype, x!.shape, 0), indices!, dy, axis, 'add'),
    ],
    onnx: { inputs: [{ attribute: 'k', as: 'int64' }], fixed: { sorted: 1 } },
  },
};
