/** Tables that are looked up by index. */
import type { Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { type Weights, below } from './layers.js';
import { Module } from './module.js';
import { type Parameter, bind } from './parameter.js';

export class Embedding extends Module {
  readonly weight: Parameter;

  constructor(weights: Weights, readonly count: number, readonly features: number) {
    super();
    this.weight = this.parameter('weight', weights('weight', [count, features]));
  }

  /** int64 indices [...] → [..., features] */
  forward(indices: Value): Value {
    return b.gather(bind(indices.graph, this.weight), indices);
  }
}

/** The embeddings of a text's tokens, as learned prompts look for them. */
export class TokenEmbedding extends Embedding {}

/** Token embeddings plus those of their places, with the names of Hugging Face's CLIPTextEmbeddings. */
export class TextEmbeddings extends Module {
  constructor(weights: Weights, config: { hidden_size: number; vocab_size: number; max_position_embeddings: number }) {
    super();
    const { hidden_size: width, vocab_size: words, max_position_embeddings: places } = config;
    this.child('token_embedding', new TokenEmbedding(below(weights, 'token_embedding'), words, width));
    this.child('position_embedding', new Embedding(below(weights, 'position_embedding'), places, width));
  }

  /** ids [B, T] → [T, B, width] */
  tokens(ids: Value): Value {
    return this.part<Embedding>('token_embedding').forward(b.transpose(ids, [1, 0]));
  }

  /** tokens [T, B, width] → the same with their positions added */
  place(tokens: Value): Value {
    const [count, , width] = tokens.shape as [number, number, number];
    const { weight } = this.part<Embedding>('position_embedding');
    return b.add(tokens, b.reshape(b.slice(bind(tokens.graph, weight), 0, 0, count), [count, 1, width]));
  }
}
