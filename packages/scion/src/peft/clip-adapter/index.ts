/** CLIP-Adapter (Gao et al., IJCV 2024, arXiv 2110.04544), the visual adapter. */
import { z } from 'zod';
import type { Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { type Parameter, bind, frozen, init, trained } from '../../nn/parameter.js';
import { type FeatureInputs, type FeatureMethod, FeatureModule, classTexts } from '../feature-method.js';
import { cosineLogits } from '../zero-shot/index.js';

const config = z.strictObject({
  ratio: z.number().min(0).max(1).default(0.2).describe('λ, the share of the adapted feature'),
  reduction: z.number().int().min(1).default(4).describe('width of the bottleneck: d / reduction'),
});

/** `f' = λ · relu(relu(f W1) W2) + (1 - λ) f`, without biases. */
class ClipAdapter extends FeatureModule {
  private readonly text: Parameter;
  private readonly down: Parameter;
  private readonly up: Parameter;

  constructor(inputs: FeatureInputs, private readonly options: z.output<typeof config>) {
    super(inputs);
    const hidden = Math.max(1, Math.floor(inputs.dim / options.reduction));
    this.text = this.parameter('text', frozen(classTexts(inputs.text!)));
    this.down = this.parameter('fc.0.weight', trained([hidden, inputs.dim], init.linear));
    this.up = this.parameter('fc.2.weight', trained([inputs.dim, hidden], init.linear));
  }

  logits(features: Value): Value {
    const text = bind(features.graph, this.text);
    return cosineLogits(this.comparedWithTexts(features), text, this.inputs.logitScale);
  }

  override comparedWithTexts(features: Value): Value {
    const { graph } = features;
    const hidden = f.relu(f.fusedMatMul(features, bind(graph, this.down), { transB: 1 }));
    const adapted = f.relu(f.fusedMatMul(hidden, bind(graph, this.up), { transB: 1 }));
    const { ratio } = this.options;
    return f.add(f.mul(adapted, ratio), f.mul(features, 1 - ratio));
  }
}

export const clipAdapter: FeatureMethod<typeof config> = {
  name: 'clip-adapter',
  title: 'CLIP-Adapter',
  paper: 'https://arxiv.org/abs/2110.04544',
  summary: 'a bottleneck on the image feature, mixed with the feature itself',
  needsText: true,
  config,
  training: { optimizer: 'adam', lr: 1e-3, epochs: 100, batch_size: 256, schedule: 'cosine' },
  search: { when: 'train', published: false, grid: { ratio: [0.1, 0.2, 0.4, 0.6, 0.8] } },
  classes: { note: 'it is known by its words; the bottleneck has not seen its pictures' },
  create: (inputs, options) => new ClipAdapter(inputs, options).named(),
};
