/**
 * Models of texts: what composites, tasks and generation read of them. Tokens are [T, B, width], sequence first, as
 * everywhere in the towers; a mask of tokens is float32 [B, T], 1 for a token that counts and 0 for padding.
 */
import type { Value } from '../ir/graph.js';
import { inputError } from '../util/errors.js';
import * as f from './functional.js';
import type { Module } from './module.js';
import type { KeyValueCache } from './places.js';

/** The states of a stack: before the first layer and after every layer, each [T, B, width]. */
export interface TextStates {
  readonly states: readonly Value[];
  /** What the model hands on, [T, B, width]: the last state, normalised where the model has a last norm. */
  readonly last: Value;
}

interface TextBase extends Module {
  /** Features of a token. */
  readonly width: number;
  /** Number of token ids. */
  readonly vocabulary: number;
  /** Tokens of the longest sequence. */
  readonly positions: number;
  /** Ids that stand for padding, and for the begin and the end of a text, as config.json names them. */
  readonly padToken: number | undefined;
  readonly beginToken: number | undefined;
  readonly endToken: number | undefined;
  /** ids int64 [B, T] → the embeddings of the words [T, B, width], without positions: where other tokens are put before. */
  embed(ids: Value): Value;
}

/** BERT, RoBERTa. */
export interface TextEncoder extends TextBase {
  readonly kind: 'encoder';
  /** Whether it has a head of masked-language modelling. */
  readonly hasHead: boolean;
  /** Embedded tokens → states; positions count from the first token on. */
  encode(tokens: Value, mask?: Value): TextStates;
  /**
   * Rows [N, width] of `last` → logits of the words [N, vocabulary].
   * @throws ScionError of kind `input` where the checkpoint had no head
   */
  logits(rows: Value): Value;
}

/** Of each layer, in their order. */
export type Caches = readonly KeyValueCache[];

export interface DecodeOptions {
  /** Of all tokens that are attended to [B, keys]: with a cache, of the earlier ones too. */
  mask?: Value | undefined;
  caches?: Caches | undefined;
  /** int64 [T, B]: the positions of the tokens, which count from 0 on where absent. */
  positions?: Value | undefined;
}

/** GPT-2. */
export interface TextDecoder extends TextBase {
  readonly kind: 'decoder';
  /** How many layers, each with a cache of its own. */
  readonly layers: number;
  decode(tokens: Value, options?: DecodeOptions): TextStates;
  /** Rows [N, width] of `last` → logits of the next words [N, vocabulary]. */
  logits(rows: Value): Value;
}

/** What a decoder reads of its encoder. */
export interface Encoded {
  /** [T, B, width] */
  last: Value;
  /** Of its tokens [B, T]. */
  mask?: Value | undefined;
  /** Keys and values of each decoder layer's cross-attention, where they were computed before. */
  known?: readonly { keys: Value; values: Value }[] | undefined;
}

/** BART. */
export interface EncoderDecoder extends TextBase {
  readonly kind: 'encoder-decoder';
  /** How many layers the decoder has, each with a cache of its own. */
  readonly layers: number;
  /** The id that every output begins with. */
  readonly decoderStart: number;
  encode(tokens: Value, mask?: Value): TextStates;
  decode(tokens: Value, encoded: Encoded, options?: DecodeOptions): TextStates;
  /** Keys and values of each decoder layer's cross-attention, computed once for a generation. */
  known(encoded: Encoded): readonly { keys: Value; values: Value }[];
  logits(rows: Value): Value;
}

export type TextModel = TextEncoder | TextDecoder | EncoderDecoder;

/** What a loss of masked-language modelling reads: the places that were masked, and padding of weight 0. */
export interface MaskedWords {
  /** int64 [N]: rows of the last state as [T · B, width], row = token · B + text. */
  rows: Value;
  /** int64 [N]: the ids that stood there. */
  labels: Value;
  /** float32 [N]; all count alike where absent. */
  weights?: Value | undefined;
}

/** Cross entropy of the words at masked places, from the last state [T, B, width]: a scalar. */
export function maskedLanguageLoss(model: TextEncoder, last: Value, { rows, labels, weights }: MaskedWords): Value {
  const logits = model.logits(f.gather(f.reshape(last, [-1, model.width]), rows));
  return f.crossEntropy(logits, labels, weights && { weights });
}

/** @throws ScionError of kind `input` for texts of more tokens than a model has positions */
export function checkLength(tokens: number, positions: number): void {
  if (tokens <= positions) return;
  throw inputError('', `texts of ${tokens} tokens for a model with ${positions} positions; cut them to ${positions}`);
}
