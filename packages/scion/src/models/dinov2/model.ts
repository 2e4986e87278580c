/** DINOv2 (Oquab et al., 2024), by the names of Hugging Face's Dinov2Model and Dinov2ForImageClassification. */
import { z } from 'zod';
import type { Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { LayerNorm, Linear, type Weights, below } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Parameter, bind } from '../../nn/parameter.js';
import { type AttentionPlug, Block, type BlockContext, type BlockPart } from '../../nn/places.js';
import { Mlp } from '../../nn/transformer.js';
import { encoderFields, readModelConfig, whole } from '../config.js';
import {
  type BesideClassifier, ImageAttention, type ImageTransformer, imageBlock, loadImageTransformer,
} from '../vit/transformer.js';
import type { Checkpoint } from '../weights.js';

const { intermediate_size: _, ...encoder } = encoderFields(768, 12, { hidden_act: 'gelu', layer_norm_eps: 1e-6 });
/** The defaults of transformers' Dinov2Config. */
const schema = z.object({
  ...encoder,
  mlp_ratio: whole.default(4),
  use_swiglu_ffn: z.boolean().default(false),
  num_channels: whole.default(3),
  image_size: whole.default(224),
  patch_size: whole.default(14),
  qkv_bias: z.boolean().default(true),
});
export type Dinov2Config = z.output<typeof schema>;

const supported = 'supported is "dinov2" (Dinov2Model, Dinov2ForImageClassification)';

/** @throws ScionError of kind `input`: another architecture by its name, else every value that is wrong */
export function parseDinov2Config(json: unknown, where: string): Dinov2Config {
  return readModelConfig(schema, json, where, 'dinov2', supported);
}

/** A learned factor for each feature. */
class LayerScale extends Module {
  private readonly factors: Parameter;

  constructor(weights: Weights, width: number) {
    super();
    this.factors = this.parameter('lambda1', weights('lambda1', [width]));
  }

  forward(x: Value): Value {
    return f.mul(x, bind(x.graph, this.factors));
  }
}

/** `weights_out(silu(a) · b)`, a and b the halves of `weights_in(x)` (Shazeer, 2020). */
class SwiGlu extends Module {
  private readonly inner: number;

  constructor(weights: Weights, { hidden_size: width, mlp_ratio }: Dinov2Config) {
    super();
    this.inner = 8 * Math.ceil(Math.floor(width * mlp_ratio * 2 / 3) / 8);
    this.child('weights_in', new Linear(below(weights, 'weights_in'), width, 2 * this.inner));
    this.child('weights_out', new Linear(below(weights, 'weights_out'), this.inner, width));
  }

  forward(x: Value): Value {
    const both = this.run('weights_in', x);
    const gate = f.slice(both, 1, 0, this.inner);
    return this.run('weights_out', f.mul(f.mul(gate, f.sigmoid(gate)), f.slice(both, 1, this.inner, 2 * this.inner)));
  }
}

/** Pre-norm with layer scale: `x + scale1(attention(norm1 x))`, then `x + scale2(mlp(norm2 x))`. */
class Dinov2Layer extends Block {
  constructor(weights: Weights, config: Dinov2Config, layer: number) {
    const { hidden_size: width, layer_norm_eps, mlp_ratio } = config;
    const activation = config.use_swiglu_ffn ? 'swiglu' : config.hidden_act;
    super(imageBlock(config, layer, { hidden: width * mlp_ratio, activation }));
    const at = (name: string): Weights => below(weights, name);
    this.child('norm1', new LayerNorm(at('norm1'), width, layer_norm_eps));
    this.child('attention', new ImageAttention(at('attention'), config));
    this.child('layer_scale1', new LayerScale(at('layer_scale1'), width));
    this.child('norm2', new LayerNorm(at('norm2'), width, layer_norm_eps));
    this.child('mlp', config.use_swiglu_ffn
      ? new SwiGlu(at('mlp'), config) : new Mlp(at('mlp'), { ...config, intermediate_size: width * mlp_ratio }));
    this.child('layer_scale2', new LayerScale(at('layer_scale2'), width));
  }

  protected norm(part: BlockPart, x: Value): Value {
    return this.run(part === 'attention' ? 'norm1' : 'norm2', x);
  }

  protected attend(x: Value, { batch }: BlockContext, prefix?: AttentionPlug): Value {
    return this.run('layer_scale1', x.graph.within('attention', () =>
      this.part<ImageAttention>('attention').forward(x, batch, prefix)));
  }

  protected feedForward(x: Value): Value {
    return this.run('layer_scale2', this.run('mlp', x));
  }
}

/**
 * The image encoder of a checkpoint; its weights stay in their files. The classifier is not read.
 * @throws ScionError of kind `input`: wrong values in config.json, or every tensor that does not fit
 */
export function loadDinov2(checkpoint: Checkpoint): ImageTransformer | BesideClassifier {
  const full = parseDinov2Config(checkpoint.config, `${checkpoint.path}/config.json`);
  return loadImageTransformer(checkpoint, 'dinov2', full, {
    layer: (w, i) => new Dinov2Layer(w, full, i), imageProcessor: 'BitImageProcessor', resizes: true,
  });
}
