/** Tip-Adapter and Tip-Adapter-F (Zhang et al., ECCV 2022, arXiv 2207.09519). */
import { z } from 'zod';
import type { Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { type Parameter, bind, frozen, setting, trained } from '../../nn/parameter.js';
import { float32 } from '../../util/tensor.js';
import { type FeatureInputs, type FeatureMethod, FeatureModule, classDirections, normaliseRows } from '../feature-method.js';
import { cosineLogits } from '../zero-shot/index.js';

const config = z.strictObject({
  alpha: z.number().min(0).default(1).describe('weight of the cache against the text logits'),
  beta: z.number().positive().default(5.5).describe('sharpness of the cache'),
});

/** `logits = s f̂ T̂ᵀ + α · exp(-β (1 - f̂ Fᵀ)) L` (equation 6), F the cache keys [N, d], L their labels [N, K]. */
class TipAdapter extends FeatureModule {
  private readonly text: Parameter;
  private readonly keys: Parameter;
  private readonly values: Parameter;
  private readonly alpha: Parameter;
  private readonly beta: Parameter;

  constructor(inputs: FeatureInputs, { alpha, beta }: z.output<typeof config>, tuned: boolean) {
    super(inputs);
    const { support, classes } = inputs;
    const start = normaliseRows(support.features);
    const labels = new Float32Array(support.labels.length * classes);
    support.labels.forEach((label, row) => { labels[row * classes + label] = 1; });
    this.text = this.parameter('text', frozen(classDirections(inputs.text!)));
    this.keys = this.parameter('keys', tuned ? trained(start.shape, () => start) : frozen(start));
    this.values = this.parameter('values', frozen(float32([support.labels.length, classes], labels)));
    this.alpha = this.parameter('alpha', setting(alpha));
    this.beta = this.parameter('beta', setting(beta));
  }

  logits(features: Value): Value {
    const { graph } = features;
    const affinity = f.fusedMatMul(f.l2Normalize(features), bind(graph, this.keys), { transB: 1 }); // [B, N]
    const weights = f.exp(f.mul(f.sub(affinity, 1), bind(graph, this.beta)));
    const cache = f.matmul(weights, bind(graph, this.values)); // [B, K]
    return f.add(
      cosineLogits(features, bind(graph, this.text), this.inputs.logitScale),
      f.mul(cache, bind(graph, this.alpha)));
  }
}

/** The ranges of the official search: α to 3, β to 7 for most data sets, more widely spread here. */
const search = {
  when: 'evaluate',
  published: true,
  grid: {
    alpha: [0, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32],
    beta: [0.5, 1, 1.5, 2, 3, 4, 5.5, 7, 9, 12, 16, 22, 30],
  },
} as const;

export const tipAdapter: FeatureMethod<typeof config> = {
  name: 'tip-adapter',
  title: 'Tip-Adapter',
  paper: 'https://arxiv.org/abs/2207.09519',
  summary: 'a cache of the training features votes beside the class texts; nothing is trained, α and β are searched',
  needsText: true,
  config,
  search,
  classes: {},
  create: (inputs, options) => new TipAdapter(inputs, options, false).named(),
};

export const tipAdapterF: FeatureMethod<typeof config> = {
  name: 'tip-adapter-f',
  title: 'Tip-Adapter-F',
  paper: 'https://arxiv.org/abs/2207.09519',
  summary: "Tip-Adapter with the cache's keys trained; α and β are searched afterwards",
  needsText: true,
  config,
  training: { optimizer: 'adamw', lr: 1e-3, eps: 1e-4, epochs: 20, batch_size: 256, schedule: 'cosine' },
  search,
  classes: {
    rows: { keys: 'support' },
    note: 'its keys are the features of its pictures, as in tip-adapter; those of the other classes are tuned',
  },
  create: (inputs, options) => new TipAdapter(inputs, options, true).named(),
};
