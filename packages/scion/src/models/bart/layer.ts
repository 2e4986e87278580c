/** The layers of BART's encoder and decoder, which differ in causality and in cross-attention. */
import type { Value } from '../../ir/graph.js';
import type { KeysAndValues } from '../../nn/key-value-cache.js';
import { LayerNorm, Linear, type Weights, attention, below } from '../../nn/layers.js';
import { type AttentionPlug, Block, type BlockContext, type BlockPart, type CrossContext } from '../../nn/places.js';
import { selfAttention } from '../../nn/self-attention.js';
import { activations } from '../../nn/transformer.js';
import type { BartConfig } from './config.js';

const projections = ['q_proj', 'k_proj', 'v_proj', 'out_proj'] as const;
const norms: Readonly<Record<BlockPart, string>> = {
  attention: 'self_attn_layer_norm', cross_attention: 'encoder_attn_layer_norm', feed_forward: 'final_layer_norm',
};

/** Post-norm: `norm(x + self_attn(x))`, in the decoder `norm(x + encoder_attn(x))`, `norm(x + fc2(act(fc1(x))))`. */
export class BartLayer extends Block {
  constructor(weights: Weights, private readonly config: BartConfig, part: 'encoder' | 'decoder', layer: number) {
    const decodes = part === 'decoder';
    const { d_model: width, activation_function: act } = config;
    const hidden = config[`${part}_ffn_dim`];
    super({
      modality: 'text', cross: decodes, causal: decodes, norm: 'post', layer, layers: config[`${part}_layers`], width, hidden,
      heads: config[`${part}_attention_heads`], activation: act,
    });
    const linear = (name: string, from: number, to: number): Linear =>
      this.child(name, new Linear(below(weights, name), from, to));
    const norm = (of: BlockPart): LayerNorm =>
      this.child(norms[of], new LayerNorm(below(weights, norms[of]), width));
    for (const name of projections) linear(`self_attn.${name}`, width, width);
    norm('attention');
    if (decodes) {
      for (const name of projections) linear(`encoder_attn.${name}`, width, width);
      norm('cross_attention');
    }
    linear('fc1', width, hidden);
    linear('fc2', hidden, width);
    norm('feed_forward');
  }

  /** Keys and values of the encoder's states [tokens · batch, width], as the cross-attention reads them. */
  known(states: Value): KeysAndValues {
    return { keys: this.run('encoder_attn.k_proj', states), values: this.run('encoder_attn.v_proj', states) };
  }

  protected norm(part: BlockPart, x: Value): Value {
    return this.run(norms[part], x);
  }

  protected attend(x: Value, context: BlockContext, prefix?: AttentionPlug): Value {
    return selfAttention(x, context, this.kind.heads, (part, rows) => this.run(`self_attn.${part}`, rows), prefix);
  }

  protected override attendAcross(x: Value, { states, mask, known }: CrossContext, batch: number): Value {
    const { keys, values } = known ?? this.known(states);
    const shape = { tokens: x.shape[0]! / batch, batch, heads: this.kind.heads };
    return this.run('encoder_attn.out_proj', attention(this.run('encoder_attn.q_proj', x), keys, values, shape, mask));
  }

  protected feedForward(x: Value): Value {
    return this.run('fc2', activations[this.config.activation_function](this.run('fc1', x)));
  }
}
