/** Functions made of several ops. */
import type { Value } from '../ir/graph.js';
import { assert } from '../util/errors.js';
import { int64, numel } from '../util/tensor.js';
import * as b from './build.js';

/** Rows (the last axis) divided by their L2 norm; a zero row stays zero. */
export function l2Normalize(x: Value, epsilon = 1e-12): Value {
  // the bound stands inside the root, whose derivative at 0 is infinite
  return b.div(x, b.sqrt(b.maximum(b.reduceSumSquare(x, [x.shape.length - 1], 1), epsilon * epsilon)));
}

/** [..., n] indices as [..., n, depth] ones and zeros of the dtype of `like`. */
export function oneHot(indices: Value, depth: number, like: Value): Value {
  const classes = b.constant(indices.graph, int64([depth], Array.from({ length: depth }, (_, i) => i)));
  return b.cast(b.equal(b.reshape(indices, [...indices.shape, 1]), classes), like.dtype);
}

/** `sum(weights · x) / sum(weights)` over all elements; the mean where there are no weights. */
export function weightedMean(x: Value, weights?: Value): Value {
  return weights ? b.div(b.reduceSum(b.mul(x, weights)), b.reduceSum(weights)) : b.reduceMean(x);
}

/**
 * Cross entropy of logits [B, K] against class indices [B] (int64), averaged by sample weights [B]; rows of padding
 * carry weight 0. With label smoothing ε the target is `(1 - ε) onehot + ε / K`, as in PyTorch.
 */
export function crossEntropy(
  logits: Value, labels: Value, options: { weights?: Value; labelSmoothing?: number } = {},
): Value {
  const [rows, classes] = logits.shape as [number, number];
  const smoothing = options.labelSmoothing ?? 0;
  const logp = b.logSoftmax(logits, -1);
  const picked = b.reshape(b.gatherElements(logp, b.reshape(labels, [rows, 1]), 1), [rows]);
  const spread = smoothing > 0
    ? b.add(b.mul(picked, 1 - smoothing), b.mul(b.reduceSum(logp, [1]), smoothing / classes))
    : picked;
  return weightedMean(b.neg(spread), options.weights);
}

/**
 * Binary cross entropy of logits against targets in [0, 1] of the same shape [B, K], summed over the classes and
 * averaged by sample weights [B]: `softplus(x) - x·t`, which neither overflows nor loses small terms.
 */
export function binaryCrossEntropy(logits: Value, targets: Value, options: { weights?: Value } = {}): Value {
  const losses = b.sub(b.softplus(logits), b.mul(logits, targets));
  return weightedMean(b.reduceSum(losses, logits.shape.map((_, i) => i).slice(1)), options.weights);
}

/**
 * Einstein summation of two operands as one transpose each, one batched matrix product and a transpose back:
 * `einsum('bqd,bkd->bqk', q, k)`. Every index is a letter; a letter may not repeat within an operand, and one that is
 * in a single operand only must be in the output.
 */
export function einsum(equation: string, x: Value, y: Value): Value {
  const match = /^([a-z]+),([a-z]+)->([a-z]*)$/i.exec(equation.replaceAll(' ', ''));
  assert(match, `einsum equation ${equation}, expected "ab,bc->ac"`);
  const [, left, right, out] = match as unknown as [string, string, string, string];
  const dims = new Map<string, number>();
  for (const [letters, v] of [[left, x], [right, y]] as const) {
    assert(letters.length === v.shape.length && new Set(letters).size === letters.length,
      `einsum ${equation}: "${letters}" for a value of rank ${v.shape.length}`);
    [...letters].forEach((c, i) => {
      assert((dims.get(c) ?? v.shape[i]) === v.shape[i], `einsum ${equation}: "${c}" is ${dims.get(c)} and ${v.shape[i]}`);
      dims.set(c, v.shape[i]!);
    });
  }
  const letters = (from: string, keep: (c: string) => boolean): string[] => [...from].filter(keep);
  const batch = letters(left, (c) => right.includes(c) && out.includes(c));
  const summed = letters(left, (c) => right.includes(c) && !out.includes(c));
  const rows = letters(left, (c) => !right.includes(c));
  const columns = letters(right, (c) => !left.includes(c));
  assert([...rows, ...columns].every((c) => out.includes(c)) && out.length === batch.length + rows.length + columns.length,
    `einsum ${equation}: every index of one operand alone must be in the output`);
  const size = (group: string[]): number => numel(group.map((c) => dims.get(c)!));
  const arrange = (v: Value, from: string, first: string[], second: string[]): Value =>
    b.reshape(b.transpose(v, [...batch, ...first, ...second].map((c) => from.indexOf(c))),
      [size(batch), size(first), size(second)]);
  const product = b.matmul(arrange(x, left, rows, summed), arrange(y, right, summed, columns));
  const order = [...batch, ...rows, ...columns];
  return b.transpose(b.reshape(product, order.map((c) => dims.get(c)!)), [...out].map((c) => order.indexOf(c)));
}
