/** GPT-2 (Radford et al., 2019), named as in Hugging Face's GPT2LMHeadModel. */
import type { Value } from '../../ir/graph.js';
import { Embedding, TokenEmbedding } from '../../nn/embedding.js';
import * as f from '../../nn/functional.js';
import { FusedLinear, LayerNorm, Linear, type Weights, below, decoderMask } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Parameter, bind } from '../../nn/parameter.js';
import { type AttentionPlug, Block, type BlockContext, type BlockPart } from '../../nn/places.js';
import { type AttentionPart, selfAttention } from '../../nn/self-attention.js';
import { activations } from '../../nn/transformer.js';
import { type DecodeOptions, type TextDecoder, type TextStates, checkLength } from '../../nn/text-model.js';
import type { Gpt2Config } from './config.js';

/** The thirds of `c_attn`'s output. */
const thirds = { q_proj: 0, k_proj: 1, v_proj: 2 } as const;

/** Pre-norm: `x + attn(ln_1 x)`, then `x + mlp(ln_2 x)`. */
class Gpt2Block extends Block {
  constructor(weights: Weights, private readonly config: Gpt2Config, layer: number) {
    const { n_embd: width, n_inner: hidden, n_head: heads, n_layer: layers, activation_function } = config;
    super({
      modality: 'text', cross: false, causal: true, norm: 'pre', layer, layers, width, hidden, heads,
      activation: activation_function,
    });
    const linear = (name: string, from: number, to: number): Linear =>
      this.child(name, new Linear(below(weights, name), from, to));
    const norm = (name: string): LayerNorm =>
      this.child(name, new LayerNorm(below(weights, name), width, config.layer_norm_epsilon));
    norm('ln_1');
    this.child('attn.c_attn', new FusedLinear(below(weights, 'attn.c_attn'), width, 3 * width, ['q', 'k', 'v']));
    linear('attn.c_proj', width, width);
    norm('ln_2');
    linear('mlp.c_fc', width, hidden);
    linear('mlp.c_proj', hidden, width);
  }

  protected norm(part: BlockPart, x: Value): Value {
    return this.run(part === 'attention' ? 'ln_1' : 'ln_2', x);
  }

  protected attend(x: Value, context: BlockContext, prefix?: AttentionPlug): Value {
    return selfAttention(x, context, this.config.n_head, (part, rows) => this.project(part, rows), prefix);
  }

  protected feedForward(x: Value): Value {
    return this.run('mlp.c_proj', activations[this.config.activation_function](this.run('mlp.c_fc', x)));
  }

  /** The product with `c_attn` is one node of the graph, however many of its thirds are read. */
  private project(part: AttentionPart, rows: Value): Value {
    if (part === 'out_proj') return this.run('attn.c_proj', rows);
    const { n_embd: width } = this.config;
    const third = thirds[part];
    return f.slice(this.run('attn.c_attn', rows), 1, third * width, (third + 1) * width);
  }
}

export interface Gpt2Layout {
  /** What the names of everything but the head begin with: `transformer.` or nothing. */
  prefix: string;
}

export class Gpt2 extends Module implements TextDecoder {
  readonly kind = 'decoder';
  readonly layers: number;
  private readonly prefix: string;
  /** From states to words: the word embeddings, unless they are untied. */
  private readonly head: Parameter;

  constructor(weights: Weights, readonly config: Gpt2Config, { prefix }: Gpt2Layout) {
    super();
    const { n_embd: width, vocab_size: words, n_positions, n_layer, layer_norm_epsilon: epsilon } = config;
    this.prefix = prefix;
    this.layers = n_layer;
    const add = <M extends Module>(name: string, make: (weights: Weights) => M): M =>
      this.child(`${prefix}${name}`, make(below(weights, `${prefix}${name}`)));
    const { weight } = add('wte', (w) => new TokenEmbedding(w, words, width));
    add('wpe', (w) => new Embedding(w, n_positions, width));
    for (let i = 0; i < n_layer; i++) add(`h.${i}`, (w) => new Gpt2Block(w, config, i));
    add('ln_f', (w) => new LayerNorm(w, width, epsilon));
    this.head = config.tie_word_embeddings ? weight
      : this.child('lm_head', new Linear(below(weights, 'lm_head'), width, words, false)).weight;
  }

  get width(): number {
    return this.config.n_embd;
  }

  get vocabulary(): number {
    return this.config.vocab_size;
  }

  get positions(): number {
    return this.config.n_positions;
  }

  get padToken(): number | undefined {
    return this.config.pad_token_id;
  }

  get beginToken(): number {
    return this.config.bos_token_id;
  }

  get endToken(): number {
    return [this.config.eos_token_id].flat()[0]!;
  }

  embed(ids: Value): Value {
    return this.run(`${this.prefix}wte`, f.transpose(ids, [1, 0]));
  }

  /**
   * Embedded tokens [T, B, width] → states, the first of which has the positions added. A token sees itself and those
   * before it that `mask` does not hide; with caches, one token at a time sees all that `mask` does not hide.
   * @throws ScionError of kind `input` for texts of more tokens than the model has positions
   */
  decode(tokens: Value, { mask, caches, positions }: DecodeOptions = {}): TextStates {
    const { graph } = tokens;
    const [count, batch, width] = tokens.shape as [number, number, number];
    checkLength(count, this.positions);
    const table = `${this.prefix}wpe`;
    const places = positions ? this.run(table, positions) : f.reshape(
      f.slice(bind(graph, this.part<Embedding>(table).weight), 0, 0, count), [count, 1, width]);
    const hidden = decoderMask(graph, count, this.config.n_head, mask);
    const states = [f.reshape(f.add(tokens, places), [count * batch, width])];
    for (let i = 0; i < this.layers; i++) {
      const [name, rows] = [`${this.prefix}h.${i}`, states[i]!];
      states.push(graph.within(name, () =>
        this.part<Block>(name).forward(rows, { batch, mask: hidden, cache: caches?.[i] })));
    }
    const shaped = states.map((rows) => f.reshape(rows, [-1, batch, width]));
    return { states: shaped, last: f.reshape(this.run(`${this.prefix}ln_f`, states.at(-1)!), [-1, batch, width]) };
  }

  logits(rows: Value): Value {
    return this.config.tie_word_embeddings
      ? f.gemm(rows, bind(rows.graph, this.head), undefined, { transB: 1 }) : this.run('lm_head', rows);
  }
}
