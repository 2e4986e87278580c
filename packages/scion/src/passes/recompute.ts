/**
 * Trades memory for time: attention probabilities, quadratic in the number of tokens, are not kept from the forward to
 * the backward pass but computed again from queries and keys (Dao et al., "FlashAttention", NeurIPS 2022, section 3.1).
 */
import { type Graph, type Node, type Value, producer } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { numel } from '../util/tensor.js';
import { after, isBackward, oneAfter } from './gate.js';
import { copyLeaf, rewrite } from './rewrite.js';

/**
 * Rewrites `Softmax(Q Kᵀ)` where backward nodes read it too and it is at least twice as large as Q. The second
 * computation waits for the cotangent.
 */
export function recomputeAttention(graph: Graph): Graph {
  const readers = new Map<Value, Node[]>();
  for (const n of graph.nodes) for (const v of n.inputs) readers.set(v, [...(readers.get(v) ?? []), n]);
  const again = new Map<Value, { scores: Node; cotangent: Value; first: Node }>();
  for (const node of graph.nodes) {
    const scores = node.op === 'Softmax' && !isBackward(node) ? producer(node.inputs[0]!) : undefined;
    const probabilities = node.outputs[0]!;
    if (scores?.op !== 'FusedMatMul' || numel(probabilities.shape) < 2 * numel(scores.inputs[0]!.shape)) continue;
    const late = (readers.get(probabilities) ?? []).filter(isBackward);
    const first = late[0];
    const cotangent = first?.inputs.find((v) => v !== probabilities && producer(v) !== undefined && isBackward(producer(v)!));
    if (first && cotangent) again.set(probabilities, { scores, cotangent, first });
  }
  if (again.size === 0) return graph;

  const done = new Map<Value, Value>();
  const made = new Map<Value, Value>(); // old value → new value, for what the second computation needs
  return rewrite(graph, (node, inputs) => {
    node.inputs.forEach((v, i) => made.set(v, inputs[i]!));
    if (!isBackward(node) || !node.inputs.some((v) => again.has(v))) return undefined;
    const swapped = node.inputs.map((v, i) => {
      const plan = again.get(v);
      if (!plan) return inputs[i]!;
      if (!done.has(v)) {
        // where another reader comes first, the cotangent may not be there yet: keep the stored value
        const cotangent = node === plan.first ? made.get(plan.cotangent) : undefined;
        if (!cotangent) return inputs[i]!;
        done.set(v, secondSoftmax(plan.scores, cotangent, made));
      }
      return done.get(v)!;
    });
    return b.apply(node.op, swapped, node.attributes);
  });
}

function secondSoftmax(scores: Node, cotangent: Value, made: ReadonlyMap<Value, Value>): Value {
  const [q, k] = scores.inputs.map((v) => made.get(v) ?? copyLeaf(v, cotangent.graph)) as [Value, Value];
  return b.softmax(b.apply('FusedMatMul', [after(oneAfter([cotangent]), q), k], scores.attributes as never)[0]!);
}
