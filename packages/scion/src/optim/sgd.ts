/** Stochastic gradient descent with momentum and Nesterov's variant, as `torch.optim.SGD`. */
import * as b from '../ops/build.js';
import type { Optimizer } from './optimizer.js';

export interface SgdOptions { momentum?: number; nesterov?: boolean; weight_decay?: number }

/**
 * With momentum μ: `v ← μ v + g`, `p ← p - lr · v` (Nesterov: `g + μ v`). PyTorch starts v at the first gradient, which
 * is what `μ · 0 + g` gives.
 */
export function sgd({ momentum = 0, nesterov = false, weight_decay = 0 }: SgdOptions = {}): Optimizer {
  return {
    slots: momentum ? ['momentum_buffer'] : [],
    weightDecay: weight_decay,
    scalars: () => ({}),
    update: ({ parameter, gradient, slots, lr, weightDecay }) => {
      const g = weightDecay ? b.add(gradient, b.mul(parameter, weightDecay)) : gradient;
      if (!momentum) return { parameter: b.sub(parameter, b.mul(g, lr)), slots: {} };
      const v = b.add(b.mul(slots.momentum_buffer!, momentum), g);
      const direction = nesterov ? b.add(g, b.mul(v, momentum)) : v;
      return { parameter: b.sub(parameter, b.mul(direction, lr)), slots: { momentum_buffer: v } };
    },
  };
}
