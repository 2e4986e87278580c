/** A small model of texts for the tests of routing: blocks of any kind, with separate and with fused projections. */
import type { Value } from '../../../ir/graph.js';
import * as f from '../../../nn/functional.js';
import { FusedLinear, LayerNorm, Linear, type Weights } from '../../../nn/layers.js';
import { Module } from '../../../nn/module.js';
import { frozen } from '../../../nn/parameter.js';
import { Block, type BlockContext, type BlockKind, type BlockPart } from '../../../nn/places.js';
import { Random } from '../../../util/random.js';
import { float32, numel } from '../../../util/tensor.js';

export const width = 6;

export type Kind = Partial<Pick<BlockKind, 'modality' | 'causal' | 'cross' | 'activation'>>;

/** Attention that reads each token alone: q ∘ k + v of the separate projections and of the fused one. */
class TextBlock extends Block {
  constructor(weights: Weights, kind: Kind, layer: number, layers: number) {
    super({
      modality: 'text', causal: false, cross: false, activation: 'gelu_new', ...kind,
      norm: 'pre', layer, layers, width, hidden: 2 * width, heads: 1,
    });
    for (const name of ['q_proj', 'k_proj', 'v_proj']) this.child(name, new Linear(weights, width, width));
    this.child('c_attn', new FusedLinear(weights, width, 3 * width, ['q', 'k', 'v']));
    this.child('fc1', new Linear(weights, width, 2 * width));
    this.child('fc2', new Linear(weights, 2 * width, width));
    for (const name of ['attention', 'feed_forward']) this.child(`norm.${name}`, new LayerNorm(weights, width));
  }

  protected norm(part: BlockPart, x: Value): Value {
    return this.run(`norm.${part}`, x);
  }

  protected attend(x: Value, _: BlockContext): Value {
    const [q, k, v] = ['q_proj', 'k_proj', 'v_proj'].map((name) => this.run(name, x)) as [Value, Value, Value];
    const [fq, fk, fv] = f.split(this.run('c_attn', x), [width, width, width], 1) as [Value, Value, Value];
    return f.add(f.add(f.mul(q, k), v), f.add(f.mul(fq, fk), fv));
  }

  protected feedForward(x: Value): Value {
    return this.run('fc2', f.relu(this.run('fc1', x)));
  }
}

/** `layers.0`, `layers.1`: one block of each kind. */
export class TextModel extends Module {
  constructor(private readonly kinds: readonly Kind[] = [{}, {}]) {
    super();
    const random = Random.seeded(3);
    const weights: Weights = (_, shape) =>
      frozen(float32(shape, Float32Array.from({ length: numel(shape) }, () => 0.5 * random.normal())));
    // as in models, where the tower of a module is told by its path
    kinds.forEach((kind, i) => this.child(`text_model.layers.${i}`, new TextBlock(weights, kind, i, kinds.length)));
    this.named();
  }

  /** x [tokens · batch, width] → the same shape */
  forward(x: Value, batch: number): Value {
    return this.kinds.reduce((rows, _, i) => {
      const name = `text_model.layers.${i}`;
      return x.graph.within(name, () => this.part<TextBlock>(name).forward(rows, { batch }));
    }, x);
  }
}
