/** BART (Lewis et al., ACL 2020), named as in Hugging Face's BartForConditionalGeneration. */
import type { Value } from '../../ir/graph.js';
import { Embedding, TokenEmbedding } from '../../nn/embedding.js';
import * as f from '../../nn/functional.js';
import type { KeysAndValues } from '../../nn/key-value-cache.js';
import { LayerNorm, Linear, type Weights, below, decoderMask, paddingMask } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Parameter, bind } from '../../nn/parameter.js';
import type { BlockContext } from '../../nn/places.js';
import { setRoutes } from '../../nn/routes.js';
import { type DecodeOptions, type Encoded, type EncoderDecoder, type TextStates, checkLength } from '../../nn/text-model.js';
import type { BartConfig } from './config.js';
import { BartLayer } from './layer.js';

/** The rows of the position tables before that of the first token. */
const offset = 2;

/** Positions, the norm of the embeddings, and the layers: the encoder or the decoder. */
class BartStack extends Module {
  constructor(weights: Weights, private readonly config: BartConfig, private readonly side: 'encoder' | 'decoder') {
    super();
    const { d_model: width, max_position_embeddings: places } = config;
    this.child('embed_positions', new Embedding(below(weights, 'embed_positions'), places + offset, width));
    this.child('layernorm_embedding', new LayerNorm(below(weights, 'layernorm_embedding'), width));
    for (const [i, name] of this.names.entries()) this.child(name, new BartLayer(below(weights, name), config, side, i));
  }

  /** Embedded tokens [T, B, width] → states, the first of which are the embeddings with positions, normalised. */
  states(tokens: Value, context: (layer: number) => Omit<BlockContext, 'batch'>, positions?: Value): TextStates {
    const [count, batch, width] = tokens.shape as [number, number, number];
    checkLength(count, this.config.max_position_embeddings);
    const table = this.part<Embedding>('embed_positions');
    const places = positions ? this.run('embed_positions', f.add(positions, offset))
      : f.reshape(f.slice(bind(tokens.graph, table.weight), 0, offset, offset + count), [count, 1, width]);
    const rows = [this.run('layernorm_embedding', f.reshape(f.add(tokens, places), [count * batch, width]))];
    for (const [i, name] of this.names.entries()) {
      const x = rows[i]!;
      rows.push(x.graph.within(name, () => this.part<BartLayer>(name).forward(x, { batch, ...context(i) })));
    }
    const states = rows.map((x) => f.reshape(x, [-1, batch, width]));
    return { states, last: states.at(-1)! };
  }

  layers(): BartLayer[] {
    return this.names.map((name) => this.part<BartLayer>(name));
  }

  private get names(): string[] {
    return Array.from({ length: this.config[`${this.side}_layers`] }, (_, i) => `layers.${i}`);
  }
}

export interface BartLayout {
  /** What the names of everything but the head begin with: `model.` or nothing. */
  prefix: string;
  /** Whether there is a `final_logits_bias`. */
  hasBias: boolean;
}

export class Bart extends Module implements EncoderDecoder {
  readonly kind = 'encoder-decoder';
  readonly layers: number;
  private readonly prefix: string;
  private readonly bias: Parameter | undefined;
  private readonly words: Parameter;

  constructor(weights: Weights, readonly config: BartConfig, { prefix, hasBias }: BartLayout) {
    super();
    const { d_model: width, vocab_size: words, decoder_layers, tie_word_embeddings: tied } = config;
    this.prefix = prefix;
    this.layers = decoder_layers;
    const add = <M extends Module>(name: string, make: (weights: Weights) => M): M =>
      this.child(`${prefix}${name}`, make(below(weights, `${prefix}${name}`)));
    this.words = add('shared', (w) => new TokenEmbedding(w, words, width)).weight;
    add('encoder', (w) => new BartStack(w, config, 'encoder'));
    add('decoder', (w) => new BartStack(w, config, 'decoder'));
    if (!tied) this.child('lm_head', new Linear(below(weights, 'lm_head'), width, words, false));
    if (hasBias) {
      this.bias = this.parameter('final_logits_bias', weights('final_logits_bias', [1, words]));
      this.bias.isStatistic = true; // a buffer of transformers', which is never trained
    }
  }

  get width(): number {
    return this.config.d_model;
  }

  get vocabulary(): number {
    return this.config.vocab_size;
  }

  get positions(): number {
    return this.config.max_position_embeddings;
  }

  get padToken(): number {
    return this.config.pad_token_id;
  }

  get beginToken(): number {
    return this.config.bos_token_id;
  }

  get endToken(): number {
    return [this.config.eos_token_id].flat()[0]!;
  }

  get decoderStart(): number {
    return this.config.decoder_start_token_id;
  }

  embed(ids: Value): Value {
    const words = this.run(`${this.prefix}shared`, f.transpose(ids, [1, 0]));
    return this.config.scale_embedding ? f.mul(words, Math.sqrt(this.width)) : words;
  }

  /** @throws ScionError of kind `input` for texts of more tokens than the model has positions */
  encode(tokens: Value, mask?: Value): TextStates {
    const hidden = mask && paddingMask(mask, this.config.encoder_attention_heads);
    return this.within('encoder', tokens, (stack) => stack.states(tokens, () => ({ mask: hidden })));
  }

  /**
   * A token sees itself and those before it that `mask` does not hide; with caches, one token at a time sees all that
   * `mask` does not hide.
   * @throws ScionError of kind `input` for texts of more tokens than the model has positions
   */
  decode(tokens: Value, encoded: Encoded, { mask, caches, positions }: DecodeOptions = {}): TextStates {
    const { graph } = tokens;
    setRoutes(graph, { encoder: encoded.last });
    const { decoder_attention_heads: heads } = this.config;
    const hidden = decoderMask(graph, tokens.shape[0]!, heads, mask);
    const states = f.reshape(encoded.last, [-1, this.width]);
    const padding = encoded.mask && paddingMask(encoded.mask, heads);
    return this.within('decoder', tokens, (stack) => stack.states(tokens, (layer) => ({
      mask: hidden, cache: caches?.[layer], cross: { states, mask: padding, known: encoded.known?.[layer] },
    }), positions));
  }

  known(encoded: Encoded): KeysAndValues[] {
    const states = f.reshape(encoded.last, [-1, this.width]);
    return this.within('decoder', states, (stack) => stack.layers().map((layer, i) =>
      states.graph.within(`layers.${i}`, () => layer.known(states))));
  }

  logits(rows: Value): Value {
    const { graph } = rows;
    const bias = this.bias && f.reshape(bind(graph, this.bias), [-1]);
    if (this.config.tie_word_embeddings) return f.gemm(rows, bind(graph, this.words), bias, { transB: 1 });
    const logits = this.run('lm_head', rows);
    return bias ? f.add(logits, bias) : logits;
  }

  private within<R>(name: 'encoder' | 'decoder', { graph }: Value, body: (stack: BartStack) => R): R {
    const path = `${this.prefix}${name}`;
    return graph.within(path, () => body(this.part<BartStack>(path)));
  }
}
