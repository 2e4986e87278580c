/** The text transformer of SigLIP (Zhai et al., 2023), with the parameter names of Hugging Face's SiglipTextModel. */
import type { Value } from '../../ir/graph.js';
import { TextEmbeddings } from '../../nn/embedding.js';
import * as f from '../../nn/functional.js';
import { LayerNorm, Linear, type Weights, below } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { Encoder, type TowerOutput } from '../../nn/transformer.js';
import { assert } from '../../util/errors.js';
import type { SiglipTextConfig } from './config.js';

export class SiglipText extends Module {
  constructor(weights: Weights, private readonly config: SiglipTextConfig) {
    super();
    const { hidden_size: width, projection_size, layer_norm_eps } = config;
    this.child('embeddings', new TextEmbeddings(below(weights, 'embeddings'), config));
    this.child('encoder', new Encoder(below(weights, 'encoder'), config, { modality: 'text', causal: false }));
    this.child('final_layer_norm', new LayerNorm(below(weights, 'final_layer_norm'), width, layer_norm_eps));
    this.child('head', new Linear(below(weights, 'head'), width, projection_size));
  }

  /**
   * Token ids int64 [B, T]. Every token sees every other one, padding too, and the last is read: texts are to be filled
   * up to max_position_embeddings tokens with the pad token, as in training.
   */
  forward(ids: Value): TowerOutput {
    return this.encode(this.embed(ids));
  }

  /** ids [B, T] → the tokens' embeddings [T, B, width], without positions: where learned prompts are put in. */
  embed(ids: Value): Value {
    return ids.graph.within('embeddings', () => this.part<TextEmbeddings>('embeddings').tokens(ids));
  }

  /** Embedded tokens [T, B, width] */
  encode(tokens: Value): TowerOutput {
    const { graph } = tokens;
    const { max_position_embeddings: most } = this.config;
    const [count, batch, width] = tokens.shape as [number, number, number];
    assert(count <= most, `texts of ${count} tokens for a model with ${most} positions`);
    const placed = graph.within('embeddings', () => this.part<TextEmbeddings>('embeddings').place(tokens));
    const states = graph.within('encoder', () => this.part<Encoder>('encoder').states(placed));
    const last = f.reshape(f.slice(states.at(-1)!, 0, count - 1, count), [batch, width]);
    return { states, pooled: this.run('head', this.run('final_layer_norm', last)) };
  }
}
