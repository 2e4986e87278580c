/** Gradient clipping. */
import type { Value } from '../ir/graph.js';
import * as b from '../ops/build.js';

/**
 * Scales all gradients by `min(1, max_norm / (norm + 1e-6))` with their common L2 norm, as
 * `torch.nn.utils.clip_grad_norm_`. Gives the norm before clipping too.
 */
export function clipByGlobalNorm(gradients: readonly Value[], maxNorm: number): { gradients: Value[]; norm: Value } {
  const squares = gradients.map((g) => b.reduceSumSquare(g));
  const norm = b.sqrt(squares.reduce((a, c) => b.add(a, c)));
  const factor = b.minimum(b.div(maxNorm, b.add(norm, 1e-6)), 1);
  return { gradients: gradients.map((g) => b.mul(g, factor)), norm };
}
