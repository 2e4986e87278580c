/**
 * Full fine-tuning: the model itself is trained, end to end, all but the factor on cosines. Rates after Wortsman et al.
 * (CVPR 2022), who train the image encoder with a linear head; here both towers are trained, by the cosine.
 */
import { z } from 'zod';
import { type BackboneMethod, unfreeze } from '../backbone-method.js';
import { findBlocks, layerNumbers, modality, towerParameters } from '../towers.js';

export const fullFineTuningConfig = z.strictObject({
  layers: layerNumbers.optional()
    .describe('numbers of the transformer layers that are trained, from 0 on; the whole towers where absent'),
  modality,
});

export const fullFineTuning: BackboneMethod<typeof fullFineTuningConfig> = {
  name: 'full-finetuning',
  title: 'Full fine-tuning',
  paper: 'https://arxiv.org/abs/2109.01903',
  summary: 'all weights of the towers are trained',
  needsText: false,
  config: fullFineTuningConfig,
  // the paper: 3e-5 for batches of 512, 500 steps of warm-up; less for smaller batches
  training: {
    optimizer: 'adamw', lr: 1e-5, weight_decay: 0.1, epochs: 10, batch_size: 32, schedule: 'cosine', warmup_epochs: 1,
    augment: true,
  },
  async attach(model, { layers, modality: towers }, context) {
    const trained = layers
      ? findBlocks(model, towers, layers, 'layers').flatMap(([, block]) => [...block.parameters()])
      : towerParameters(model, towers);
    await unfreeze(trained.map(([, p]) => p), context);
  },
};
