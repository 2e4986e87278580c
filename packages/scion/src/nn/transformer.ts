/** Transformer encoder blocks with the names of Hugging Face's CLIP and SigLIP layers. */
import type { Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { LayerNorm, Linear, type Weights, below } from './layers.js';
import { Module } from './module.js';
import { type AttentionPlug, Block, type BlockContext, type BlockKind, type BlockPart, type Modality } from './places.js';
import { selfAttention } from './self-attention.js';

export interface EncoderConfig {
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  hidden_act: keyof typeof activations;
  layer_norm_eps: number;
}

export const activations = {
  gelu: (x: Value) => b.gelu(x),
  gelu_new: (x: Value) => b.gelu(x, 'tanh'),
  gelu_pytorch_tanh: (x: Value) => b.gelu(x, 'tanh'),
  quick_gelu: (x: Value) => b.quickGelu(x),
  relu: b.relu,
} as const;

/** What stands where a linear layer stood: the layer itself or an adapted one. */
export interface Projection extends Module {
  forward(x: Value): Value;
}

class SelfAttention extends Module {
  constructor(weights: Weights, private readonly config: EncoderConfig) {
    super();
    for (const name of ['q_proj', 'k_proj', 'v_proj', 'out_proj']) {
      this.child(name, new Linear(below(weights, name), config.hidden_size, config.hidden_size));
    }
  }

  /** x [tokens · batch, width], row = token · batch + image */
  forward(x: Value, context: BlockContext, prefix?: AttentionPlug): Value {
    return selfAttention(x, context, this.config.num_attention_heads, (part, rows) => this.run(part, rows), prefix);
  }
}

/** Two linear layers, `fc1` and `fc2`, with the activation between them. */
export class Mlp extends Module {
  constructor(
    weights: Weights,
    private readonly config: Pick<EncoderConfig, 'hidden_size' | 'intermediate_size' | 'hidden_act'>,
  ) {
    super();
    this.child('fc1', new Linear(below(weights, 'fc1'), config.hidden_size, config.intermediate_size));
    this.child('fc2', new Linear(below(weights, 'fc2'), config.intermediate_size, config.hidden_size));
  }

  forward(x: Value): Value {
    return this.run('fc2', activations[this.config.hidden_act](this.run('fc1', x)));
  }
}

/** Pre-norm: `x + attention(norm x)`, then `x + mlp(norm x)`. */
export class EncoderLayer extends Block {
  constructor(weights: Weights, config: EncoderConfig, kind: Pick<BlockKind, 'modality' | 'causal' | 'layer'>) {
    super({
      ...kind, cross: false, norm: 'pre', layers: config.num_hidden_layers, width: config.hidden_size,
      hidden: config.intermediate_size, heads: config.num_attention_heads, activation: config.hidden_act,
    });
    const norm = (name: string): LayerNorm =>
      this.child(name, new LayerNorm(below(weights, name), config.hidden_size, config.layer_norm_eps));
    norm('layer_norm1');
    this.child('self_attn', new SelfAttention(below(weights, 'self_attn'), config));
    norm('layer_norm2');
    this.child('mlp', new Mlp(below(weights, 'mlp'), config));
  }

  protected norm(part: BlockPart, x: Value): Value {
    return this.run(part === 'attention' ? 'layer_norm1' : 'layer_norm2', x);
  }

  protected attend(x: Value, context: BlockContext, prefix?: AttentionPlug): Value {
    return x.graph.within('self_attn', () => this.part<SelfAttention>('self_attn').forward(x, context, prefix));
  }

  protected feedForward(x: Value): Value {
    return this.run('mlp', x);
  }
}

/** A stack of layers under `layers.0`, `layers.1`, … */
export class Encoder extends Module {
  constructor(weights: Weights, private readonly config: EncoderConfig, kind: { modality: Modality; causal: boolean }) {
    super();
    for (let i = 0; i < config.num_hidden_layers; i++) {
      this.child(`layers.${i}`, new EncoderLayer(below(weights, `layers.${i}`), config, { ...kind, layer: i }));
    }
  }

  /** x [batch, tokens, width] → [tokens, batch, width] */
  forward(x: Value): Value {
    return this.states(b.transpose(x, [1, 0, 2])).at(-1)!;
  }

  /**
   * x [tokens, batch, width] → x and the output of every layer, each of the same shape unless an adapter adds
   * tokens, which come last. Sequence first, since attention
   * then reads its heads without transposes. `mask` [tokens, tokens] is added to the attention scores.
   */
  states(x: Value, mask?: Value): Value[] {
    const [tokens, batch, width] = x.shape as [number, number, number];
    const states = [b.reshape(x, [tokens * batch, width])];
    for (let i = 0; i < this.config.num_hidden_layers; i++) {
      const name = `layers.${i}`;
      const rows = states[i]!;
      states.push(x.graph.within(name, () => this.part<EncoderLayer>(name).forward(rows, { batch, mask })));
    }
    return states.map((rows) => b.reshape(rows, [-1, batch, width]));
  }
}

/** What a tower gives. The states are those of transformers' `hidden_states`, but [tokens, B, width]. */
export interface TowerOutput {
  /** Before the first layer and after every layer. */
  states: readonly Value[];
  /** [B, width]: the state of the one token that stands for the input, normalised. */
  pooled: Value;
}

/** What an image tower knows of pictures before any projection into a space of words. */
export interface ImageStates {
  /** [B, d] */
  pooled: Value;
  /** [n, B, d]: of every part of the pictures, row by row, normalised like `pooled`; no class token is among them. */
  patches: Value;
}
