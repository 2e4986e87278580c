/** Rewrites what only ONNX Runtime knows into ops of ONNX itself, so that other programs can load an exported model. */
import type { Graph, Node, Value } from '../ir/graph.js';
import type { OpAttributes, OpType } from '../ir/op-types.js';
import * as b from '../ops/build.js';
import { type Rule, rewrite } from '../passes/rewrite.js';

/** An operand of FusedMatMul as MatMul takes it: batch first, rows before columns. */
function operand(x: Value, trans: 0 | 1, transBatch: 0 | 1): Value {
  const axes = x.shape.map((_, i) => i);
  const order = transBatch ? [...axes.slice(1, -1), 0, axes.length - 1] : axes;
  if (trans) order.push(...order.splice(-2).reverse());
  return b.transpose(x, order);
}

const rules: Partial<Record<OpType, Rule>> = {
  FusedMatMul: (node, [x, y]) => {
    const { alpha, transA, transB, transBatchA, transBatchB } = node.attributes as OpAttributes['FusedMatMul'];
    const product = b.matmul(operand(x!, transA, transBatchA), operand(y!, transB, transBatchB));
    return [alpha === 1 ? product : b.mul(product, alpha)];
  },
  QuickGelu: (node, [x]) => {
    const { alpha } = node.attributes as OpAttributes['QuickGelu'];
    return [b.mul(x!, b.sigmoid(b.mul(x!, alpha)))];
  },
};

/** The same program in ONNX's own ops. ONNX Runtime fuses them again when it loads the model. */
export function standardOps(graph: Graph): Graph {
  return rewrite(graph, (node: Node, inputs) => rules[node.op]?.(node, inputs));
}
