/**
 * The text tower of PictoCLIP: names of things are a few words whose order says little, so a text is the sum of its
 * words (a deep averaging network: Iyyer et al., 2015).
 */
import type { Value } from '../../ir/graph.js';
import { TokenEmbedding } from '../../nn/embedding.js';
import * as f from '../../nn/functional.js';
import { LayerNorm, Linear, type Weights, below } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import type { PictoTextConfig } from './config.js';

export class PictoText extends Module {
  constructor(weights: Weights, private readonly config: PictoTextConfig) {
    super();
    const { vocab_size, hidden_size: width, intermediate_size, layer_norm_eps } = config;
    const at = (name: string): Weights => below(weights, name);
    this.child('token_embedding', new TokenEmbedding(at('token_embedding'), vocab_size, width));
    this.child('norm1', new LayerNorm(at('norm1'), width, layer_norm_eps));
    this.child('fc1', new Linear(at('fc1'), width, intermediate_size));
    this.child('fc2', new Linear(at('fc2'), intermediate_size, width));
    this.child('norm2', new LayerNorm(at('norm2'), width, layer_norm_eps));
  }

  /** ids int64 [B, T], filled up with the end token, which counts for nothing → [B, hidden_size] */
  forward(ids: Value): Value {
    const words = this.run('token_embedding', ids); // [B, T, width]
    const counted = f.sub(1, f.cast(f.equal(ids, this.config.eos_token_id), 'float32'));
    const summed = f.reduceSum(f.mul(words, f.reshape(counted, [...ids.shape, 1])), [1]);
    const x = this.run('norm1', summed);
    return this.run('norm2', f.add(x, this.run('fc2', f.gelu(this.run('fc1', x)))));
  }
}
