/**
 * LayerNorm tuning (Zhao et al., ICLR 2024, arXiv 2312.11420, section 3; PEFT's LNTuning): the weights and biases of
 * all LayerNorms are trained, those over whole pictures among them. Batch normalisation is none.
 */
import { z } from 'zod';
import { PictureNorm } from '../../nn/conv.js';
import { LayerNorm } from '../../nn/layers.js';
import { type BackboneMethod, refuse, unfreeze } from '../backbone-method.js';
import { modality, modulesOf } from '../towers.js';

export const layerNormTuningConfig = z.strictObject({ modality });

export const layerNormTuning: BackboneMethod<typeof layerNormTuningConfig> = {
  name: 'layernorm-tuning',
  title: 'LayerNorm tuning',
  paper: 'https://arxiv.org/abs/2312.11420',
  summary: 'the weights and biases of LayerNorms are trained',
  needsText: false,
  config: layerNormTuningConfig,
  // published for language models alone; this is the training of LoRA here
  training: { optimizer: 'adamw', lr: 1e-3, epochs: 30, batch_size: 32, schedule: 'cosine', augment: true },
  async attach(model, { modality: towers }, context) {
    const norms = modulesOf(model, towers).flatMap(([, module]) =>
      (module instanceof LayerNorm || module instanceof PictureNorm ? [module] : []));
    if (norms.length === 0) {
      refuse(['modality', `${towers}: there is no LayerNorm in what it names (batch normalisation is another kind); `
        + 'use another tower, or a method that needs none: lora, bitfit, full-finetuning']);
    }
    await unfreeze(norms.flatMap(({ weight, bias }) => [weight, bias]), context);
  },
};
