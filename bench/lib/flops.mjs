const products = new Set(['MatMul', 'FusedMatMul', 'Gemm']);

/** Floating-point operations of all matrix products of a graph: 2 · batch · M · N · K each. */
export function matrixFlops(graph) {
  return graph.nodes.filter((n) => products.has(n.op)).reduce((sum, { inputs: [a], outputs: [y], attributes }) => {
    const { transA = 0, transBatchA = 0 } = attributes;
    // [.., M, K]; transBatch moves the first dimension before M, transA swaps the last two
    const k = transA ? a.shape.at(transBatchA ? 0 : -2) : a.shape.at(-1);
    return sum + 2 * y.shape.reduce((p, d) => p * d, 1) * k;
  }, 0);
}
