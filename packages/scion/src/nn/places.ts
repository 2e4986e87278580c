/**
 * Where adapters stand in a transformer. A block describes itself, so that a method finds its places without knowing
 * any model: what it reads (modality, kind of attention), and where it lies.
 */
import type { Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { Module } from './module.js';

export type Modality = 'text' | 'vision';

export interface BlockKind {
  modality: Modality;
  attention: 'self' | 'cross';
  /** Whether a token sees only those before it. */
  causal: boolean;
  /** Number of the block in its tower, from 0 on, and how many there are. */
  layer: number;
  layers: number;
  /** Features of a token. */
  width: number;
  /** Features inside the feed-forward part. */
  hidden: number;
  heads: number;
  activation: string;
}

/** A function of rows [tokens · batch, width], in the order of `attention`. */
export interface RowPlug extends Module {
  forward(x: Value): Value;
}

/** Rows [tokens · batch, width] → rows of as many tokens or more; what is more comes at the end. */
export interface TokenPlug extends Module {
  forward(x: Value, batch: number): Value;
}

/** Adds to what attention has mixed, from its queries and its own projections. */
export interface AttentionPlug extends Module {
  forward(queries: Value, project: (name: 'k_proj' | 'v_proj', x: Value) => Value, batch: number): Value;
}

/**
 * - `tokens`: the block's input, before anything else (`TokenPlug`);
 * - `attention_output`, `feed_forward_output`: what comes out of the part, before it is added to its input (`RowPlug`);
 * - `beside_feed_forward`: takes the input of the feed-forward part before its norm, is added to its output (`RowPlug`);
 * - `prefix`: within the attention (`AttentionPlug`).
 */
export const blockPlaces = ['tokens', 'attention_output', 'feed_forward_output', 'beside_feed_forward', 'prefix'] as const;
export type BlockPlace = (typeof blockPlaces)[number];

/**
 * A transformer layer with places for adapters: `y = x + attend(x)`, then `y + feedForward(y)`, where both parts begin
 * with their norm. Rows are [tokens · batch, width], row = token · batch + image.
 */
export abstract class Block extends Module {
  constructor(readonly kind: BlockKind) {
    super();
  }

  /** @param mask [tokens, tokens], added to the attention's scores */
  protected abstract attend(x: Value, batch: number, mask?: Value, prefix?: AttentionPlug): Value;
  protected abstract feedForward(x: Value): Value;

  forward(x: Value, batch: number, mask?: Value): Value {
    const rows = this.through<TokenPlug>('tokens', x, (plug) => plug.forward(x, batch));
    const read = this.attend(rows, batch, mask, this.plugged('prefix'));
    const attended = b.add(rows, this.through<RowPlug>('attention_output', read, (plug) => plug.forward(read)));
    const fed = this.feedForward(attended);
    const out = b.add(attended, this.through<RowPlug>('feed_forward_output', fed, (plug) => plug.forward(fed)));
    return this.through<RowPlug>('beside_feed_forward', out, (plug) => b.add(out, plug.forward(attended)));
  }

  override plug(place: BlockPlace, module: Module): void {
    super.plug(place, module);
  }

  /** What the plug of a place makes, or x where none stands there. */
  private through<P extends Module>(place: BlockPlace, x: Value, use: (plug: P) => Value): Value {
    const plug = this.plugged<P>(place);
    return plug ? x.graph.within(place, () => use(plug)) : x;
  }
}

/** All blocks below a module, with their paths. */
export function blocksOf(model: Module): [path: string, block: Block][] {
  return [...model.modules()].flatMap(([path, module]): [string, Block][] =>
    (module instanceof Block ? [[path, module]] : []));
}
