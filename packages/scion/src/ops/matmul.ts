/** Matrix products. Their gradients are FusedMatMul and Gemm, so that no transpose is ever written to memory. */
import type { Value } from '../ir/graph.js';
import type { OpAttributes } from '../ir/op-types.js';
import { assert } from '../util/errors.js';
import type { Shape } from '../util/tensor.js';
import * as b from './build.js';
import { type OpDef, type RefTensor, broadcastIndex, broadcastShapes, stridesOf } from './def.js';

type Flags = OpAttributes['FusedMatMul'];
const plain: Flags = { alpha: 1, transA: 0, transB: 0, transBatchA: 0, transBatchB: 0 };

/** One operand as [batch..., rows, columns] after its transposes, with the stride of each dimension. */
function view(shape: Shape, trans: 0 | 1, transBatch: 0 | 1): { shape: number[]; strides: number[] } {
  const axes = shape.map((_, i) => i);
  // transBatch: the first dimension is the row dimension, the batch stands behind it
  const order = transBatch ? [...axes.slice(1, -1), 0, axes.length - 1] : axes;
  if (trans) order.push(...order.splice(-2).reverse());
  const strides = stridesOf(shape);
  return { shape: order.map((i) => shape[i]!), strides: order.map((i) => strides[i]!) };
}

function dimensions(a: Shape, c: Shape, f: Flags): { batch: number[]; m: number; k: number; n: number } {
  const [x, y] = [view(a, f.transA, f.transBatchA).shape, view(c, f.transB, f.transBatchB).shape];
  const [m, k, k2, n] = [x.at(-2)!, x.at(-1)!, y.at(-2)!, y.at(-1)!];
  assert(x.length >= 2 && y.length >= 2, `a matrix product of [${a.join(', ')}] and [${c.join(', ')}]`);
  assert(k === k2, `[${a.join(', ')}] × [${c.join(', ')}] with transA ${f.transA}, transB ${f.transB}: ${k} against ${k2}`);
  return { batch: broadcastShapes(x.slice(0, -2), y.slice(0, -2)), m, k, n };
}

function product(x: RefTensor, y: RefTensor, f: Flags): Float64Array {
  const { batch, m, k, n } = dimensions(x.shape, y.shape, f);
  const [vx, vy] = [view(x.shape, f.transA, f.transBatchA), view(y.shape, f.transB, f.transBatchB)];
  const base = (v: typeof vx): number[] => {
    const lead = v.shape.slice(0, -2);
    const strides = v.strides.slice(0, -2);
    // position of each broadcast batch in the operand's own memory
    const flat = broadcastIndex(batch, lead);
    const inner = stridesOf(lead);
    return Array.from(flat, (i) => lead.reduce((s, d, axis) => s + (Math.floor(i / inner[axis]!) % d) * strides[axis]!, 0));
  };
  const [bx, by] = [base(vx), base(vy)];
  const [sm, sk] = vx.strides.slice(-2) as [number, number];
  const [tk, tn] = vy.strides.slice(-2) as [number, number];
  const out = new Float64Array(bx.length * m * n);
  bx.forEach((px, batchIndex) => {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let l = 0; l < k; l++) sum += x.data[px + i * sm + l * sk]! * y.data[by[batchIndex]! + l * tk + j * tn]!;
        out[(batchIndex * m + i) * n + j] = f.alpha * sum;
      }
    }
  });
  return out;
}

/**
 * The gradients of `alpha · op(a) op(b)`. Each is again one FusedMatMul whose flags make it come out in the layout of
 * its operand; an operand that was read with transBatch needs one Transpose, since products are written batch first.
 */
function productVjp(a: Value, c: Value, f: Flags, dy: Value): [() => Value, () => Value] {
  const { alpha, transA, transB, transBatchA, transBatchB } = f;
  const settle = (g: Value, operand: Value, transBatch: 0 | 1): Value => {
    const r = g.shape.length;
    return transBatch
      ? b.transpose(g, [r - 2, ...g.shape.map((_, i) => i).slice(0, -2), r - 1])
      : b.unbroadcast(g, operand);
  };
  // a weight shared by the whole batch: fold the batch into the rows and do one large product instead of many
  if (c.shape.length === 2 && a.shape.length > 2 && !transA && !transBatchA) {
    const [rows, dyRows] = [b.reshape(a, [-1, a.shape.at(-1)!]), b.reshape(dy, [-1, dy.shape.at(-1)!])];
    const [ga, gc] = productVjp(rows, c, f, dyRows);
    return [() => b.reshape(ga(), a.shape), gc];
  }
  return [
    () => settle(transA
      ? b.fusedMatMul(c, dy, { alpha, transA: transB, transB: 1, transBatchA: transBatchB })
      : b.fusedMatMul(dy, c, { alpha, transB: transB ? 0 : 1, transBatchB }), a, transBatchA),
    () => settle(transB
      ? b.fusedMatMul(dy, a, { alpha, transA: 1, transB: transA, transBatchB: transBatchA })
      : b.fusedMatMul(a, dy, { alpha, transA: transA ? 0 : 1, transBatchA }), c, transBatchB),
  ];
}

export const matmul: {
  MatMul: OpDef<OpAttributes['MatMul']>; Gemm: OpDef<OpAttributes['Gemm']>; FusedMatMul: OpDef<Flags>;
} = {
  MatMul: {
    infer: ([x, y]) => {
      const { batch, m, n } = dimensions(x!.shape, y!.shape, plain);
      return [{ dtype: x!.dtype, shape: [...batch, m, n] }];
    },
    evaluate: ([x, y]) => [product(x!, y!, plain)],
    vjp: ({ inputs: [x, y], dy }) => productVjp(x!, y!, plain, dy),
  },
  FusedMatMul: {
    infer: ([x, y], f) => {
      assert(!f.transBatchA || x!.shape.length > 2, 'transBatchA needs a batch dimension');
      assert(!f.transBatchB || y!.shape.length > 2, 'transBatchB needs a batch dimension');
      const { batch, m, n } = dimensions(x!.shape, y!.shape, f);
      return [{ dtype: x!.dtype, shape: [...batch, m, n] }];
    },
    evaluate: ([x, y], f) => [product(x!, y!, f)],
    vjp: ({ inputs: [x, y], attributes, dy }) => productVjp(x!, y!, attributes, dy),
    onnx: { domain: 'com.microsoft' },
  },
  Gemm: {
    infer: ([x, y, c], f) => {
      assert(x!.shape.length === 2 && y!.shape.length === 2, 'Gemm takes matrices');
      const { m, n } = dimensions(x!.shape, y!.shape, { ...plain, ...f });
      if (c) assert(broadcastShapes(c.shape, [m, n]).join() === [m, n].join(), `Gemm bias [${c.shape.join(', ')}]`);
      return [{ dtype: x!.dtype, shape: [m, n] }];
    },
    evaluate: ([x, y, c], f, [out]) => {
      const result = product(x!, y!, { ...plain, ...f });
      if (c) broadcastIndex(out!.shape, c.shape).forEach((from, i) => { result[i]! += f.beta * c.data[from]!; });
      return [result];
    },
    vjp: ({ inputs: [x, y, c], attributes: f, dy }) => {
      const product = productVjp(x!, y!, { ...plain, ...f }, dy);
      return c ? [...product, () => b.unbroadcast(f.beta === 1 ? dy : b.mul(dy, f.beta), c)] : product;
    },
  },
};
