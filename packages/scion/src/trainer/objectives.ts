/** What whole models are trained for, from the beginning: each a choice among classes, scored by cross entropy. */
import type { Graph, Value } from '../ir/graph.js';
import * as f from '../nn/functional.js';
import type { Module } from '../nn/module.js';
import type { TextDecoder, TextEncoder } from '../nn/text-model.js';
import type { Tensor } from '../util/tensor.js';
import type { DualEncoder } from './encode.js';

/** Rows to tell apart. */
export interface Choice {
  /** [N, K] */
  logits: Value;
  /** int64 [N]: the right one of each row. */
  targets: Value;
  /** [N]: 0 for a row that does not count; all count alike where absent. */
  weights?: Value;
}

/** Of a batch, the tensors by name. */
export type Batch<B> = { readonly [K in keyof B]: Tensor };

export interface Objective<B extends Batch<B>> {
  /** Its parameters are `trained`. */
  readonly model: Module;
  /** The inputs are named and shaped as those of `like`. */
  choice(graph: Graph, like: B): Choice;
}

export interface ContrastiveBatch {
  /** [B, 3, H, W] */
  images: Tensor<'float32'>;
  /** Token ids [S, T]. */
  ids: Tensor<'int64'>;
  /** [B]: for each picture the row of its text. */
  targets: Tensor<'int64'>;
}

/**
 * Every picture of a batch against many texts, one of which is its own: the image-to-text half of CLIP's loss (Radford
 * et al. 2021, section 2.3), with texts beyond the batch.
 */
export function contrastive(model: DualEncoder & Module): Objective<ContrastiveBatch> {
  return {
    model,
    choice: (graph, like) => {
      const images = model.imageFeatures(graph.input('images', 'float32', like.images.shape));
      const texts = model.textFeatures(graph.input('ids', 'int64', like.ids.shape));
      const cosines = f.fusedMatMul(f.l2Normalize(images), f.l2Normalize(texts), { transB: 1 });
      return { logits: f.mul(cosines, model.scale(graph)), targets: graph.input('targets', 'int64', like.targets.shape) };
    },
  };
}

export interface MaskedBatch {
  /** Token ids [B, T], some of them hidden. */
  ids: Tensor<'int64'>;
  /** [B, T]: 1 for a token that counts, 0 for padding. */
  mask: Tensor<'float32'>;
  /** [N]: the hidden tokens, as token · B + text. */
  places: Tensor<'int64'>;
  /** [N]: what they were. */
  targets: Tensor<'int64'>;
  /** [N]: 0 for places that fill up the batch. */
  weights: Tensor<'float32'>;
}

/** Masked-language modelling (Devlin et al. 2019, section 3.1): the hidden tokens from all others. */
export function maskedLanguageModelling(model: TextEncoder): Objective<MaskedBatch> {
  return {
    model,
    choice: (graph, like) => {
      const mask = graph.input('mask', 'float32', like.mask.shape);
      const { last } = model.encode(model.embed(graph.input('ids', 'int64', like.ids.shape)), mask);
      const hidden = f.gather(rows(last), graph.input('places', 'int64', like.places.shape)); // [N, width]
      return {
        logits: model.logits(hidden),
        targets: graph.input('targets', 'int64', like.targets.shape),
        weights: graph.input('weights', 'float32', like.weights.shape),
      };
    },
  };
}

export interface CausalBatch {
  /** Token ids [B, T]. */
  ids: Tensor<'int64'>;
  /** [T, B]: the token after each. */
  targets: Tensor<'int64'>;
  /** [T, B]: 0 for what fills up a text. */
  weights: Tensor<'float32'>;
}

/** Language modelling (Radford et al. 2019, section 2): every token from those before it. */
export function causalLanguageModelling(model: TextDecoder): Objective<CausalBatch> {
  return {
    model,
    choice: (graph, like) => {
      const { last } = model.decode(model.embed(graph.input('ids', 'int64', like.ids.shape)));
      return {
        logits: model.logits(rows(last)), // [T · B, words]
        targets: f.reshape(graph.input('targets', 'int64', like.targets.shape), [-1]),
        weights: f.reshape(graph.input('weights', 'float32', like.weights.shape), [-1]),
      };
    },
  };
}

/** [T, B, width] → [T · B, width] */
const rows = (tokens: Value): Value => f.reshape(tokens, [-1, tokens.shape[2]!]);
