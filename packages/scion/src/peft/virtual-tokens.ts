/** Learned tokens in texts: ids below 0 stand for vectors that are trained, and a text tower sees no difference. */
import type { Value } from '../ir/graph.js';
import { TokenEmbedding } from '../nn/embedding.js';
import * as f from '../nn/functional.js';
import { Module } from '../nn/module.js';
import { type Init, type Parameter, bind, trained } from '../nn/parameter.js';
import { usageError } from '../util/errors.js';
import { baseLayer } from './merge.js';

/** The id of learned vector j. */
export const virtualId = (j: number): number => -1 - j;

/** A token table with learned rows beside it: id `-(1 + j)` is row j of `prompt_embeddings` [count, features]. */
export class VirtualTokens extends Module {
  private readonly learned: Parameter;

  constructor(base: TokenEmbedding, count: number, initial: Init) {
    super();
    this.child(baseLayer, base);
    // PEFT's name
    this.learned = this.parameter('prompt_embeddings', trained([count, base.features], initial));
  }

  /** int64 ids [...] → [..., features]. Both tables are read at every place, which costs less than one joined table. */
  forward(ids: Value): Value {
    const isLearned = f.reshape(f.less(ids, 0), [...ids.shape, 1]);
    const learned = f.gather(bind(ids.graph, this.learned), f.maximum(f.sub(-1, ids), 0));
    return f.where(isLearned, learned, this.run(baseLayer, f.maximum(ids, 0)));
  }
}

/**
 * The token table of the model's text tower, with its path.
 * @throws ScionError of kind `usage` where it has none
 */
export function tokenEmbedding(model: Module, method: string): [path: string, table: TokenEmbedding] {
  const found = [...model.modules()].find((entry): entry is [string, TokenEmbedding] =>
    entry[1] instanceof TokenEmbedding);
  if (found) return found;
  throw usageError('method', `${method}: the model has no table of token embeddings to put learned tokens into (models of `
    + 'pictures alone and ONNX graphs have none); use a CLIP, SigLIP or PictoCLIP checkpoint');
}
