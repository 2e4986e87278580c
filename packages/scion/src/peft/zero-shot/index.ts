/** Zero-shot CLIP (Radford et al., ICML 2021): nothing is trained. */
import { z } from 'zod';
import type { Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { type Parameter, bind, frozen } from '../../nn/parameter.js';
import { type FeatureInputs, type FeatureMethod, FeatureModule, classDirections } from '../feature-method.js';

/** `s · f̂ · T̂ᵀ`: features [B, d] against class texts [K, d], both normalised here. */
export function cosineLogits(features: Value, texts: Value, logitScale: number): Value {
  return f.fusedMatMul(f.l2Normalize(features), f.l2Normalize(texts), { alpha: logitScale, transB: 1 });
}

class ZeroShot extends FeatureModule {
  private readonly text: Parameter;

  constructor(inputs: FeatureInputs) {
    super(inputs);
    this.text = this.parameter('text', frozen(classDirections(inputs.text!)));
  }

  logits(features: Value): Value {
    return cosineLogits(features, bind(features.graph, this.text), this.inputs.logitScale);
  }

  override comparedWithTexts(features: Value): Value {
    return features;
  }
}

const config = z.strictObject({});

export const zeroShot: FeatureMethod<typeof config> = {
  name: 'zero-shot',
  title: 'Zero-shot',
  paper: 'https://arxiv.org/abs/2103.00020',
  summary: 'similarity of the image to the class texts; nothing is trained',
  needsText: true,
  config,
  classes: {},
  create: (inputs) => new ZeroShot(inputs).named(),
};
