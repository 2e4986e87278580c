/** The computation of GraphAdapter (Li et al., NeurIPS 2023, arXiv 2309.13625, section 3). */
import type { Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { int64 } from '../../util/tensor.js';

/** The class indices of each partition: group p holds the classes k with `k mod P = p`; sizes differ by one at most. */
export function partition(classes: number, partitions: number): number[][] {
  const groups = Math.min(partitions, classes);
  return Array.from({ length: groups }, (_, p) =>
    Array.from({ length: Math.ceil((classes - p) / groups) }, (_v, i) => p + i * groups));
}

/**
 * What node 0 of each class's graph receives from its neighbours, `Â_k[0, :] X_k`: [P, K, d] from text features
 * t [K, d] and graph nodes c [K, d].
 *
 * The graph of class k has the nodes X_k = [t_k; c_j of the partition], edges `A = max(X̂ X̂ᵀ, 0) + I` and the
 * normalisation `Â = D^-½ A D^-½`. Only row 0 of the convolution is read and nothing here is trained, so this is a
 * constant: the compiler computes it once, before training. Between classes, the degree of node j differs by its
 * similarity to t_k alone, so that all rows together cost O(K² d).
 */
export function aggregate(t: Value, c: Value, partitions: number): Value {
  const [classes, dim] = t.shape as [number, number];
  const tHat = f.l2Normalize(t);
  const groups = partition(classes, partitions).map((members) => {
    const nodes = f.gather(c, f.constant(c.graph, int64([members.length], members))); // [n, d]
    const cHat = f.l2Normalize(nodes);
    const toText = f.relu(f.fusedMatMul(tHat, cHat, { transB: 1 })); // [K, n]: similarity of node j to t_k
    const among = f.relu(f.fusedMatMul(cHat, cHat, { transB: 1 })); // [n, n]
    const degree = f.add(f.add(f.reduceSum(among, [1]), 1), toText); // [K, n]: node j in the graph of class k
    const degree0 = f.add(f.reduceSum(toText, [1], 1), 2); // [K, 1]: t̂·t̂ = 1, and the self loop
    const weights = f.div(toText, f.sqrt(f.mul(degree, degree0)));
    const own = f.mul(t, f.div(2, degree0));
    return f.reshape(f.add(own, f.matmul(weights, nodes)), [1, classes, dim]);
  });
  return f.concat(groups, 0);
}

export interface SubGraph {
  /** [P, K, d], of `aggregate`. */
  aggregated: Value;
  /** [d, d] */
  weight: Value;
  /** [K, d] */
  bias: Value;
}

/** `tanh(agg W + b)`, averaged over the partitions: [K, d]. */
export function convolve({ aggregated, weight, bias }: SubGraph): Value {
  const [partitions, classes, dim] = aggregated.shape as [number, number, number];
  const product = f.matmul(f.reshape(aggregated, [partitions * classes, dim]), weight);
  const nodes = f.tanh(f.add(f.reshape(product, aggregated.shape), bias));
  return partitions === 1 ? f.reshape(nodes, [classes, dim]) : f.reduceMean(nodes, [0]);
}

/** The adapted text features `β t + (1 - β)(α g_text + (1 - α) g_visual)`, [K, d]. */
export function adaptedTexts(t: Value, textual: SubGraph, visual: SubGraph, alpha: number, beta: number): Value {
  const fused = f.add(f.mul(convolve(textual), alpha), f.mul(convolve(visual), 1 - alpha));
  return f.add(f.mul(t, beta), f.mul(fused, 1 - beta));
}
