/** Tables that are looked up by index. */
import type { Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import type { Weights } from './layers.js';
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
