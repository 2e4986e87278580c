/** Task residual tuning (Yu et al., CVPR 2023, arXiv 2211.10277). */
import { z } from 'zod';
import type { Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { type Parameter, bind, frozen, init, trained } from '../../nn/parameter.js';
import { type FeatureInputs, type FeatureMethod, FeatureModule, classTexts } from '../feature-method.js';
import { cosineLogits } from '../zero-shot/index.js';

const config = z.strictObject({
  alpha: z.number().default(0.5).describe('scale of the residual'),
});

/** `T' = T + α R`, R [K, d] trained from 0. */
class TaskRes extends FeatureModule {
  private readonly text: Parameter;
  private readonly residual: Parameter;

  constructor(inputs: FeatureInputs, private readonly options: z.output<typeof config>) {
    super(inputs);
    this.text = this.parameter('text', frozen(classTexts(inputs.text!)));
    this.residual = this.parameter('text_feature_residuals', trained([inputs.classes, inputs.dim], init.zeros));
  }

  logits(features: Value): Value {
    const { graph } = features;
    const texts = f.add(bind(graph, this.text), f.mul(bind(graph, this.residual), this.options.alpha));
    return cosineLogits(features, texts, this.inputs.logitScale);
  }
}

export const taskRes: FeatureMethod<typeof config> = {
  name: 'taskres',
  title: 'TaskRes',
  paper: 'https://arxiv.org/abs/2211.10277',
  summary: 'a trained residual on each class text',
  needsText: true,
  config,
  training: { optimizer: 'adam', lr: 2e-3, epochs: 100, batch_size: 256, schedule: 'cosine' },
  search: { when: 'train', published: false, grid: { alpha: [0.1, 0.25, 0.5, 1, 2] } },
  classes: {
    rows: { text_feature_residuals: 'classes' },
    note: 'it is known by its words; its residual is 0, which is where training begins, and its pictures are only kept',
  },
  create: (inputs, options) => new TaskRes(inputs, options).named(),
};
