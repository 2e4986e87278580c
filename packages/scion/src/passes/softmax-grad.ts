/**
 * A cheaper gradient of attention. Softmax's vjp needs the row sums of `dP ∘ P`, over all pairs of tokens; since
 * `dP = dO Vᵀ` and `O = P V`, they equal the row sums of `dO ∘ O`, over tokens and head width only
 * (Dao et al., "FlashAttention", NeurIPS 2022, appendix B.2).
 */
import { type Graph, type Node, type Value, producer } from '../ir/graph.js';
import type { OpAttributes } from '../ir/op-types.js';
import * as b from '../ops/build.js';
import { rewrite } from './rewrite.js';

type Product = OpAttributes['FusedMatMul'];

/** Rewrites `ReduceSum(dP · P)` over the last axis where P V is in the graph too and has fewer columns than P. */
export function attentionGrad(graph: Graph): Graph {
  return rewrite(graph, (node, inputs) => {
    if (node.op !== 'ReduceSum') return undefined;
    const { axes, keepdims } = node.attributes as OpAttributes['ReduceSum'];
    const rank = inputs[0]!.shape.length;
    const multiplied = producer(inputs[0]!);
    if (axes.length !== 1 || axes[0] !== rank - 1 || keepdims !== 1 || multiplied?.op !== 'Mul') return undefined;
    for (const [dP, P] of [multiplied.inputs, [...multiplied.inputs].reverse()] as [Value, Value][]) {
      const outer = producer(dP);
      if (outer?.op !== 'FusedMatMul' || producer(P)?.op !== 'Softmax') continue;
      const back = outer.attributes as Product;
      const [dO, V] = outer.inputs as [Value, Value];
      const forward = P.graph.nodes.find((n) => isProductOf(n, P, V, back));
      if (!forward || forward.outputs[0]!.shape.at(-1)! >= P.shape.at(-1)!) continue;
      // O comes out batch first; dO is brought to the same layout by what its own product would do
      const dOut = back.transBatchA ? b.transpose(dO, [...dO.shape.map((_, i) => i).slice(1, -1), 0, rank - 1]) : dO;
      if (back.transA || dOut.shape.join() !== forward.outputs[0]!.shape.join()) continue;
      const sum = b.reduceSum(b.mul(dOut, forward.outputs[0]!), [rank - 1], 1);
      const { alpha } = forward.attributes as Product;
      return [b.mul(sum, back.alpha / (alpha ?? 1))];
    }
    return undefined;
  });
}

/** Whether `n` is `α P op(V)`, with V read the other way round than in `dO op(V)ᵀ`. */
function isProductOf(n: Node, P: Value, V: Value, back: Product): boolean {
  if (n.inputs[0] !== P || n.inputs[1] !== V) return false;
  if (n.op === 'MatMul') return back.transB === 1 && !back.transBatchB;
  if (n.op !== 'FusedMatMul') return false;
  const f = n.attributes as Product;
  return !f.transA && !f.transBatchA && f.transB !== back.transB && f.transBatchB === back.transBatchB;
}
