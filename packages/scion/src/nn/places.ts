/**
 * Where adapters stand in a transformer. A block describes itself, so that a method finds its places without knowing
 * any model: what it reads (modality, kind of attention), and where it lies.
 */
import type { Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { Module } from './module.js';
import { setRoutes } from './routes.js';

export type Modality = 'text' | 'vision';

export interface BlockKind {
  modality: Modality;
  /** Whether it attends to another sequence too, between its self-attention and its feed-forward part. */
  cross: boolean;
  /** Whether a token sees only those before it. */
  causal: boolean;
  /** `pre`: `x + f(norm x)`. `post`: `norm(x + f(x))`. */
  norm: 'pre' | 'post';
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

/** Keys and values that were computed before. */
export interface KeyValueCache {
  /** Keys and values [tokens · batch, width] of new tokens → those of all tokens so far, the new ones included. */
  extend(keys: Value, values: Value): { keys: Value; values: Value };
}

/** The sequence that cross-attention reads. */
export interface CrossContext {
  /** [tokens · batch, width] */
  states: Value;
  /** Added to the scores; broadcasts to [batch · heads, queries, keys]. */
  mask?: Value | undefined;
  /** Keys and values of the states, where they were computed before. */
  known?: { keys: Value; values: Value } | undefined;
}

/** What a block reads beside its rows. */
export interface BlockContext {
  batch: number;
  /** Added to the scores of self-attention; broadcasts to [batch · heads, queries, keys]. */
  mask?: Value | undefined;
  cache?: KeyValueCache | undefined;
  cross?: CrossContext | undefined;
}

/** A function of rows [tokens · batch, width], in the order of `attention`. */
export interface RowPlug extends Module {
  forward(x: Value): Value;
}

/**
 * Rows [tokens · batch, width] → rows of as many tokens or more; what is more comes at the end. A mask of padding lets every
 * token see it, and a causal one is refused (`attention`).
 */
export interface TokenPlug extends Module {
  forward(x: Value, batch: number): Value;
}

/** Adds to what attention has mixed, from its queries and its own projections. */
export interface AttentionPlug extends Module {
  forward(queries: Value, project: (name: 'k_proj' | 'v_proj', x: Value) => Value, batch: number): Value;
}

/** The parts of a block, in their order; each has a norm of its own. */
export type BlockPart = 'attention' | 'cross_attention' | 'feed_forward';
type PartPlace = `${BlockPart}_${'pre_norm' | 'post_norm' | 'output'}`;

/**
 * - `tokens`: the block's input, before anything else (`TokenPlug`);
 * - `<part>_output`: what comes out of the part, before it is added to its input (`RowPlug`);
 * - `<part>_pre_norm`, `<part>_post_norm`: what goes into the part's norm, and what comes out of it (`RowPlug`);
 * - `beside_feed_forward`: takes the input of the feed-forward part before its norm, is added to its output (`RowPlug`);
 * - `prefix`: within the self-attention (`AttentionPlug`).
 */
export type BlockPlace = 'tokens' | 'prefix' | 'beside_feed_forward' | PartPlace;

/**
 * A transformer layer with places for adapters: self-attention, in some cross-attention, and a feed-forward part, each
 * with its norm before or behind it and the sum with its input. Rows are [tokens · batch, width],
 * row = token · batch + example.
 */
export abstract class Block extends Module {
  constructor(readonly kind: BlockKind) {
    super();
  }

  protected abstract norm(part: BlockPart, x: Value): Value;
  /** Self-attention of rows that are normalised where the norm comes before. */
  protected abstract attend(x: Value, context: BlockContext, prefix?: AttentionPlug): Value;
  protected abstract feedForward(x: Value): Value;
  /** Only of blocks whose kind says `cross`. */
  protected attendAcross?(x: Value, context: CrossContext, batch: number): Value;

  forward(x: Value, context: BlockContext): Value {
    const { batch, cross } = context;
    setRoutes(x.graph, { batch });
    let rows = this.through<TokenPlug>('tokens', x, (plug) => plug.forward(x, batch));
    rows = this.sub('attention', rows, (h) => this.attend(h, context, this.plugged('prefix')));
    if (cross && this.kind.cross) rows = this.sub('cross_attention', rows, (h) => this.attendAcross!(h, cross, batch));
    return this.sub('feed_forward', rows, (h) => this.feedForward(h));
  }

  override plug(place: BlockPlace, module: Module): void {
    super.plug(place, module);
  }

  private sub(part: BlockPart, x: Value, body: (x: Value) => Value): Value {
    const norm = (h: Value): Value => this.at(`${part}_post_norm`, this.norm(part, this.at(`${part}_pre_norm`, h)));
    const { norm: order } = this.kind;
    let sum = b.add(x, this.at(`${part}_output`, body(order === 'pre' ? norm(x) : x)));
    if (part === 'feed_forward') {
      sum = this.through<RowPlug>('beside_feed_forward', sum, (plug) => b.add(sum, plug.forward(x)));
    }
    return order === 'pre' ? sum : norm(sum);
  }

  private at(place: BlockPlace, x: Value): Value {
    return this.through<RowPlug>(place, x, (plug) => plug.forward(x));
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
