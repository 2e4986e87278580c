/**
 * AdaptFormer (Chen et al., NeurIPS 2022, arXiv 2205.13535, section 3.2): a bottleneck beside the feed-forward part of
 * every transformer layer, `x + mlp(norm x) + s · up(relu(down x))`, which reads what the norm reads. Options and
 * initial values are those of the released code. The paper adapts image encoders; `modality` says which towers here.
 */
import { z } from 'zod';
import type { BackboneMethod } from '../backbone-method.js';
import { Bottleneck } from '../bottleneck/layer.js';
import { findBlocks, layerNumbers, modality } from '../towers.js';

export const adaptFormerConfig = z.strictObject({
  ffn_num: z.number().int().min(1).max(65_536).default(64).describe('features of the bottleneck'),
  adapter_scalar: z.union([z.number().positive(), z.literal('learnable_scalar')]).default(0.1)
    .describe('factor s on what the up-projection makes, or learnable_scalar: trained from 1 on'),
  adapter_layernorm_option: z.enum(['none', 'in', 'out']).default('none')
    .describe('a LayerNorm of its own in front of the bottleneck (in) or behind it (out)'),
  dropout: z.number().min(0).lt(1).default(0.1).describe('on the bottleneck, in training'),
  layers_to_transform: layerNumbers.optional(),
  modality,
});

export const adaptFormer: BackboneMethod<typeof adaptFormerConfig> = {
  name: 'adaptformer',
  title: 'AdaptFormer',
  paper: 'https://arxiv.org/abs/2205.13535',
  summary: 'a scaled bottleneck beside the feed-forward part of every transformer layer',
  needsText: false,
  config: adaptFormerConfig,
  // the published rate is 0.1 for 256 pictures, and in proportion for other batches
  training: {
    optimizer: 'sgd', momentum: 0.9, weight_decay: 0, lr: 0.0125, epochs: 100, batch_size: 32, schedule: 'cosine',
    warmup_epochs: 20, augment: true,
  },
  attach(model, config) {
    for (const [, block] of findBlocks(model, config.modality, config.layers_to_transform)) {
      block.plug('beside_feed_forward', new Bottleneck({
        width: block.kind.width, bottleneck: config.ffn_num, nonLinearity: 'relu', dropout: config.dropout,
        scaling: config.adapter_scalar, layerNorm: config.adapter_layernorm_option, residual: false,
      }));
    }
    model.named();
  },
};
