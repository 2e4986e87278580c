/** Layers as graph builders. Activations are matrices [rows, features]; rows are tokens or images. */
import type { Graph, Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { assert, usageError } from '../util/errors.js';
import { type Shape, float32 } from '../util/tensor.js';
import { Module } from './module.js';
import { type Parameter, bind } from './parameter.js';

/** Makes the parameter of a layer from its name within the layer and its shape: from a file, or freshly drawn. */
export type Weights = (name: string, shape: Shape) => Parameter;

/** The weights of a child, below a name. */
export const below = (weights: Weights, prefix: string): Weights => (name, shape) => weights(`${prefix}.${name}`, shape);

/** `x Wᵀ + b`, W [out, in] as PyTorch stores it. */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;

  constructor(weights: Weights, readonly inFeatures: number, readonly outFeatures: number, bias = true) {
    super();
    this.weight = this.parameter('weight', weights('weight', [outFeatures, inFeatures]));
    this.bias = bias ? this.parameter('bias', weights('bias', [outFeatures])) : undefined;
  }

  /** x [rows, in] → [rows, out] */
  forward(x: Value): Value {
    return b.gemm(x, bind(x.graph, this.weight), this.bias && bind(x.graph, this.bias), { transB: 1 });
  }
}

/** Several projections of the same input in one weight, one after the other, as GPT-2's `c_attn`. */
export class FusedLinear extends Linear {
  /** @param projections their names, in their order; each has the same number of outputs */
  constructor(
    weights: Weights, inFeatures: number, outFeatures: number, readonly projections: readonly string[], bias = true,
  ) {
    super(weights, inFeatures, outFeatures, bias);
    assert(outFeatures % projections.length === 0, `${outFeatures} outputs for ${projections.length} projections`);
  }
}

export class LayerNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;

  constructor(weights: Weights, features: number, readonly epsilon = 1e-5) {
    super();
    this.weight = this.parameter('weight', weights('weight', [features]));
    this.bias = this.parameter('bias', weights('bias', [features]));
  }

  forward(x: Value): Value {
    return b.layerNormalization(x, bind(x.graph, this.weight), bind(x.graph, this.bias), this.epsilon);
  }
}

/**
 * Multi-head scaled dot-product attention over rows in sequence-first order (row = token · batch + image), so that
 * heads are read in place by FusedMatMul's transBatch and only the result is transposed.
 * q [tokens · batch, width], k and v likewise, of as many tokens or others → [tokens · batch, width]. `mask` is added
 * to the scores, and broadcasts to [batch · heads, queries, keys]; keys behind those that it knows are seen.
 * @throws ScionError of kind `usage` for such keys where the mask differs between queries, as a causal one does
 */
export function attention(
  q: Value, k: Value, v: Value, shape: { tokens: number; batch: number; heads: number }, mask?: Value,
): Value {
  const { tokens, batch, heads } = shape;
  const width = q.shape[1]!;
  const split = (x: Value): Value => b.reshape(x, [-1, batch * heads, width / heads]); // [tokens, batch · heads, d]
  const scores = b.fusedMatMul(split(q), split(k), {
    alpha: 1 / Math.sqrt(width / heads), transBatchA: 1, transBatchB: 1, transB: 1,
  }); // [batch · heads, queries, keys]
  const probabilities = b.softmax(mask ? b.add(scores, widened(mask, scores.shape[2]!)) : scores);
  const mixed = b.fusedMatMul(probabilities, split(v), { transBatchB: 1 }); // [batch · heads, queries, d]
  return b.reshape(b.transpose(mixed, [1, 0, 2]), [tokens * batch, width]);
}

/** A mask once an adapter has put tokens behind the others: [… 1, fewer keys] → [… 1, keys]. */
function widened(mask: Value, keys: number): Value {
  const [queries, known] = mask.shape.slice(-2) as [number, number];
  if (known >= keys) return mask;
  if (queries === 1) return b.pad(mask, [...mask.shape.flatMap(() => [0, 0]).slice(1), keys - known]);
  throw usageError('', `${keys - known} tokens are put behind the ${known} of a causal model, where no other token sees them; `
    + 'put learned tokens in front of the text, or use a method that adds none');
}

/** A mask [tokens, tokens] for `attention` that hides from every token those after it. */
export function causalMask(graph: Graph, tokens: number): Value {
  const hidden = Float32Array.from({ length: tokens * tokens }, (_, i) =>
    (i % tokens > Math.floor(i / tokens) ? -1e9 : 0));
  return b.constant(graph, float32([tokens, tokens], hidden));
}

/**
 * A mask for `attention` that hides padding: of tokens, float32 [B, T], 1 for one that counts and 0 for padding →
 * [B · heads, 1, T], row = text · heads + head.
 */
export function paddingMask(mask: Value, heads: number): Value {
  const [batch, tokens] = mask.shape as [number, number];
  const hidden = b.reshape(b.mul(b.sub(1, mask), -1e9), [batch, 1, tokens]);
  return b.reshape(b.expand(hidden, [batch, heads, tokens]), [batch * heads, 1, tokens]);
}

/**
 * What a decoder's self-attention adds to its scores: of `tokens` that see those before them alone, and of what `mask`
 * [B, keys] hides besides. A single token sees all that is not hidden.
 */
export function decoderMask(graph: Graph, tokens: number, heads: number, mask?: Value): Value | undefined {
  const padding = mask && paddingMask(mask, heads);
  if (tokens === 1) return padding;
  assert(!mask || mask.shape[1] === tokens, `${tokens} tokens at once and a mask of ${mask?.shape[1]} keys`);
  const causal = causalMask(graph, tokens);
  return padding ? b.add(causal, padding) : causal;
}
