/** ViT (Dosovitskiy et al., 2021), by the names of Hugging Face's ViTModel and ViTForImageClassification. */
import { z } from 'zod';
import type { Value } from '../../ir/graph.js';
import { LayerNorm, Linear, type Weights, below } from '../../nn/layers.js';
import { type AttentionPlug, Block, type BlockContext, type BlockPart } from '../../nn/places.js';
import { activations } from '../../nn/transformer.js';
import { encoderFields, readModelConfig, whole } from '../config.js';
import type { Checkpoint } from '../weights.js';
import { type BesideClassifier, ImageAttention, type ImageTransformer, imageBlock, loadImageTransformer } from './transformer.js';

/** The defaults of transformers' ViTConfig. */
const schema = z.object({
  ...encoderFields(768, 12, { hidden_act: 'gelu', layer_norm_eps: 1e-12 }),
  num_channels: whole.default(3),
  image_size: whole.default(224),
  patch_size: whole.default(16),
  qkv_bias: z.boolean().default(true),
});
export type VitConfig = z.output<typeof schema>;

const supported = 'supported is "vit" (ViTModel, ViTForImageClassification)';

/** @throws ScionError of kind `input`: another architecture by its name, else every value that is wrong */
export function parseVitConfig(json: unknown, where: string): VitConfig {
  return readModelConfig(schema, json, where, 'vit', supported);
}

/** Pre-norm: `x + attention(norm x)`, then `x + output(act(intermediate(norm x)))`. */
class VitLayer extends Block {
  constructor(weights: Weights, private readonly config: VitConfig, layer: number) {
    const { hidden_size: width, intermediate_size: inner, layer_norm_eps, hidden_act: activation } = config;
    super(imageBlock(config, layer, { hidden: inner, activation }));
    for (const name of ['layernorm_before', 'layernorm_after']) {
      this.child(name, new LayerNorm(below(weights, name), width, layer_norm_eps));
    }
    this.child('attention', new ImageAttention(below(weights, 'attention'), config));
    this.child('intermediate.dense', new Linear(below(weights, 'intermediate.dense'), width, inner));
    this.child('output.dense', new Linear(below(weights, 'output.dense'), inner, width));
  }

  protected norm(part: BlockPart, x: Value): Value {
    return this.run(part === 'attention' ? 'layernorm_before' : 'layernorm_after', x);
  }

  protected attend(x: Value, { batch }: BlockContext, prefix?: AttentionPlug): Value {
    return x.graph.within('attention', () => this.part<ImageAttention>('attention').forward(x, batch, prefix));
  }

  protected feedForward(x: Value): Value {
    return this.run('output.dense', activations[this.config.hidden_act](this.run('intermediate.dense', x)));
  }
}

/**
 * The image encoder of a checkpoint; its weights stay in their files. The pooler and the classifier are not read.
 * @throws ScionError of kind `input`: wrong values in config.json, or every tensor that does not fit
 */
export function loadVit(checkpoint: Checkpoint): ImageTransformer | BesideClassifier {
  const full = parseVitConfig(checkpoint.config, `${checkpoint.path}/config.json`);
  return loadImageTransformer(checkpoint, 'vit', full, {
    layer: (w, i) => new VitLayer(w, full, i), imageProcessor: 'ViTImageProcessor', resizes: false,
  });
}
