/** Prefix tuning with zero-initialised attention (Zhang et al., "LLaMA-Adapter", ICLR 2024, arXiv 2303.16199). */
import { z } from 'zod';
import type { Module } from '../../nn/module.js';
import type { BackboneMethod } from '../backbone-method.js';
import { findBlocks, layerNumbers, modality } from '../towers.js';
import { GatedPrefix } from './layer.js';

export const prefixTuningConfig = z.strictObject({
  modality,
  num_virtual_tokens: z.number().int().min(1).max(4096).default(10).describe('learned tokens of each layer'),
  layers_to_transform: layerNumbers.optional(), // the paper takes the last ones
});
export type PrefixTuningConfig = z.output<typeof prefixTuningConfig>;

function attachPrefixes(model: Module, config: PrefixTuningConfig): void {
  const { num_virtual_tokens: count, layers_to_transform: layers } = config;
  for (const [, block] of findBlocks(model, config.modality, layers)) {
    block.plug('prefix', new GatedPrefix(count, block.kind.width, block.kind.heads));
  }
  model.named();
}

/**
 * Optimizer, rate, decay and batch are those of the paper's section 4.1. Its 5 epochs, 2 of them warm-up, are over
 * 52 000 instructions; a few shots need more of them.
 */
export const prefixTuning: BackboneMethod<typeof prefixTuningConfig> = {
  name: 'prefix-tuning',
  title: 'Prefix tuning',
  paper: 'https://arxiv.org/abs/2303.16199',
  summary: 'every layer reads learned tokens through attention of its own, which a gate for each head opens from zero',
  needsText: false,
  config: prefixTuningConfig,
  training: {
    optimizer: 'adamw', lr: 9e-3, weight_decay: 0.02, epochs: 50, batch_size: 64, schedule: 'cosine', warmup_epochs: 2,
    augment: true,
  },
  attach: attachPrefixes,
};
