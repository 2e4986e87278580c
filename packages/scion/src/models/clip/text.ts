/** The text transformer of CLIP (Radford et al., 2021), with the parameter names of Hugging Face's CLIPTextModel. */
import type { Value } from '../../ir/graph.js';
import { TextEmbeddings } from '../../nn/embedding.js';
import * as f from '../../nn/functional.js';
import { LayerNorm, type Weights, below, causalMask } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { Encoder, type TowerOutput } from '../../nn/transformer.js';
import { assert } from '../../util/errors.js';
import { int64 } from '../../util/tensor.js';
import type { ClipTextConfig } from './config.js';

export class ClipText extends Module {
  constructor(weights: Weights, private readonly config: ClipTextConfig) {
    super();
    this.child('embeddings', new TextEmbeddings(below(weights, 'embeddings'), config));
    this.child('encoder', new Encoder(below(weights, 'encoder'), config, { modality: 'text', causal: true }));
    this.child('final_layer_norm',
      new LayerNorm(below(weights, 'final_layer_norm'), config.hidden_size, config.layer_norm_eps));
  }

  /** 2 is what transformers wrote before version 4.31; its models take the largest id, which is the end's. */
  get endToken(): number | 'largest' {
    const { eos_token_id: eos } = this.config;
    return eos === 2 ? 'largest' : eos;
  }

  /** Token ids int64 [B, T], T at most max_position_embeddings. What comes after the end of a text changes nothing. */
  forward(ids: Value): TowerOutput {
    return this.encode(this.embed(ids), this.ends(ids));
  }

  /** ids [B, T] → the tokens' embeddings [T, B, width], without positions: where learned prompts are put in. */
  embed(ids: Value): Value {
    return ids.graph.within('embeddings', () => this.part<TextEmbeddings>('embeddings').tokens(ids));
  }

  /** ids [B, T] → int64 [B], the place of the token that ends each text */
  ends(ids: Value): Value {
    const end = this.endToken;
    return f.argMax(f.cast(end === 'largest' ? ids : f.equal(ids, end), 'float32'), 1);
  }

  /** Embedded tokens [T, B, width], and int64 [B], the place at which each text is read. */
  encode(tokens: Value, ends: Value): TowerOutput {
    const { graph } = tokens;
    const { max_position_embeddings: most } = this.config;
    const [count, batch, width] = tokens.shape as [number, number, number];
    assert(count <= most, `texts of ${count} tokens for a model with ${most} positions`);
    const placed = graph.within('embeddings', () => this.part<TextEmbeddings>('embeddings').place(tokens));
    const states = graph.within('encoder', () =>
      this.part<Encoder>('encoder').states(placed, causalMask(graph, count)));
    const texts = f.constant(graph, int64([batch], Array.from({ length: batch }, (_, i) => i)));
    const rows = f.add(f.mul(ends, batch), texts); // of [T · B, width]
    const read = f.gather(f.reshape(states.at(-1)!, [count * batch, width]), rows);
    const norm = this.part<LayerNorm>('final_layer_norm');
    return { states, pooled: graph.within('final_layer_norm', () => norm.forward(read)) };
  }
}
