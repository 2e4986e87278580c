/** The published form of the computation, graph by graph: the oracle of the tests. */
import type { Value } from '../../../ir/graph.js';
import * as f from '../../../nn/functional.js';
import { float32, int64 } from '../../../util/tensor.js';
import { partition } from '../layer.js';

/** `tanh((Â X_k W + b_k)[0])` averaged over the partitions, from t [K, d], nodes c [K, d], W [d, d] and b [K, d]. */
export function naiveConvolution(t: Value, c: Value, weight: Value, bias: Value, partitions: number): Value {
  const [classes, dim] = t.shape as [number, number];
  const groups = partition(classes, partitions).map((members) => {
    const n = members.length + 1;
    const nodes = f.gather(c, f.constant(c.graph, int64([n - 1], members)));
    const X = f.concat([f.reshape(t, [classes, 1, dim]), f.expand(f.reshape(nodes, [1, n - 1, dim]), [classes, n - 1, dim])], 1);
    const unit = f.l2Normalize(X);
    const eye = float32([n, n], Float32Array.from({ length: n * n }, (_, i) => Number(i % (n + 1) === 0)));
    const A = f.add(f.relu(f.matmul(unit, f.swapLast(unit))), f.constant(t.graph, eye)); // [K, n, n]
    const degrees = f.reduceSum(A, [2]); // [K, n]
    const scale = f.reciprocal(f.sqrt(degrees));
    const normalised = f.mul(f.mul(A, f.reshape(scale, [classes, n, 1])), f.reshape(scale, [classes, 1, n]));
    const convolved = f.matmul(normalised, f.matmul(X, weight)); // [K, n, d]
    const all = f.tanh(f.add(convolved, f.reshape(bias, [classes, 1, dim])));
    return f.slice(all, 1, 0, 1); // node 0, [K, 1, d]
  });
  return f.reduceMean(f.concat(groups, 1), [1]);
}
