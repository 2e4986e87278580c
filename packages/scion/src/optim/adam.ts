/** Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), as `torch.optim`. */
import * as b from '../ops/build.js';
import type { Optimizer } from './optimizer.js';

export interface AdamOptions { betas?: readonly [number, number]; eps?: number; weight_decay?: number }

/**
 * `m ← β₁m + (1-β₁)g`, `v ← β₂v + (1-β₂)g²`, `p ← p - lr/(1-β₁ᵗ) · m / (√v/√(1-β₂ᵗ) + ε)`.
 * Weight decay is added to the gradient (L2); with `decoupled` it shrinks the parameter instead: `p ← p(1 - lr·λ)`.
 */
function adamFamily(decoupled: boolean, { betas = [0.9, 0.999], eps = 1e-8, weight_decay }: AdamOptions): Optimizer {
  const [beta1, beta2] = betas;
  return {
    slots: ['exp_avg', 'exp_avg_sq'],
    weightDecay: weight_decay ?? (decoupled ? 0.01 : 0),
    scalars: (step) => ({
      inverse_bias1: 1 / (1 - beta1 ** step),
      inverse_root_bias2: 1 / Math.sqrt(1 - beta2 ** step),
    }),
    update: ({ parameter, gradient, slots, lr, scalars, weightDecay }) => {
      const g = weightDecay && !decoupled ? b.add(gradient, b.mul(parameter, weightDecay)) : gradient;
      const m = b.add(b.mul(slots.exp_avg!, beta1), b.mul(g, 1 - beta1));
      const v = b.add(b.mul(slots.exp_avg_sq!, beta2), b.mul(b.mul(g, g), 1 - beta2));
      const denominator = b.add(b.mul(b.sqrt(v), scalars.inverse_root_bias2!), eps);
      const step = b.mul(b.div(m, denominator), b.mul(lr, scalars.inverse_bias1!));
      const decayed = weightDecay && decoupled
        ? b.mul(parameter, b.sub(1, b.mul(lr, weightDecay)))
        : parameter;
      return { parameter: b.sub(decayed, step), slots: { exp_avg: m, exp_avg_sq: v } };
    },
  };
}

/** Weight decay 0 where not given. */
export const adam = (options: AdamOptions = {}): Optimizer => adamFamily(false, options);
/** Weight decay 0.01 where not given, as in PyTorch. */
export const adamw = (options: AdamOptions = {}): Optimizer => adamFamily(true, options);
