/** Full fine-tuning: the model itself is trained, end to end; training and rates after Wortsman et al., CVPR 2022. */
import { z } from 'zod';
import { type BackboneMethod, refuse, unfreeze } from '../backbone-method.js';
import { findBlocks, layerNumbers, modality, towerParameters } from '../towers.js';

export const fullFineTuningConfig = z.strictObject({
  layers: layerNumbers.optional()
    .describe('numbers of the transformer layers that are trained, from 0 on; the whole towers where absent'),
  logit_scale: z.boolean().default(false).describe('train the factor on cosines too'),
  modality,
});

export const fullFineTuning: BackboneMethod<typeof fullFineTuningConfig> = {
  name: 'full-finetuning',
  title: 'Full fine-tuning',
  paper: 'https://arxiv.org/abs/2109.01903',
  summary: 'all weights of the towers are trained',
  needsText: true,
  config: fullFineTuningConfig,
  // the paper: 3e-5 for batches of 512, 500 steps of warm-up; less for smaller batches
  training: {
    optimizer: 'adamw', lr: 1e-5, weight_decay: 0.1, epochs: 10, batch_size: 32, schedule: 'cosine', warmup_epochs: 1,
    augment: true,
  },
  async attach(model, { layers, modality: towers, logit_scale: scale }, context) {
    const trained = layers
      ? findBlocks(model, towers, layers, 'layers').flatMap(([, block]) => [...block.parameters()])
      : towerParameters(model, towers);
    const factor = [...model.parameters()].filter(([name]) => scale && name === 'logit_scale');
    if (scale && factor.length === 0) refuse(['logit_scale', 'true: this model has no factor on cosines; leave it out']);
    await unfreeze([...trained, ...factor].map(([, p]) => p), context);
  },
};
