/**
 * The encoder of BERT (Devlin et al., NAACL 2019) and of RoBERTa (Liu et al., 2019), with a head of masked-language
 * modelling where the checkpoint has one; named as in Hugging Face's models. Every text is of one segment, whose token
 * type is 0.
 */
import type { Value } from '../../ir/graph.js';
import { Embedding, TokenEmbedding } from '../../nn/embedding.js';
import * as f from '../../nn/functional.js';
import { LayerNorm, Linear, type Weights, below, paddingMask } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Parameter, bind } from '../../nn/parameter.js';
import { type AttentionPlug, Block, type BlockContext, type BlockPart } from '../../nn/places.js';
import { selfAttention } from '../../nn/self-attention.js';
import { activations } from '../../nn/transformer.js';
import { assert, inputError } from '../../util/errors.js';
import { type TextEncoder, type TextStates, checkLength } from '../../nn/text-model.js';
import type { BertConfig, BertFamily } from './config.js';

/** Words, positions and token types, added up and normalised. */
class BertEmbeddings extends Module {
  /** The table of the words, which the head may share. */
  readonly words: Parameter;

  constructor(weights: Weights, config: BertConfig, private readonly firstPosition: number) {
    super();
    const { hidden_size: width, vocab_size: words, max_position_embeddings: rows, type_vocab_size: types } = config;
    const at = (name: string): Weights => below(weights, name);
    this.words = this.child('word_embeddings', new TokenEmbedding(at('word_embeddings'), words, width)).weight;
    this.child('position_embeddings', new Embedding(at('position_embeddings'), rows, width));
    this.child('token_type_embeddings', new Embedding(at('token_type_embeddings'), types, width));
    this.child('LayerNorm', new LayerNorm(at('LayerNorm'), width, config.layer_norm_eps));
  }

  /** ids [B, T] → [T, B, width] */
  embed(ids: Value): Value {
    return this.run('word_embeddings', f.transpose(ids, [1, 0]));
  }

  /** Embedded tokens [T, B, width] → rows [T · B, width] */
  forward(tokens: Value): Value {
    const [count, , width] = tokens.shape as [number, number, number];
    const rows = (table: string, first: number, many: number): Value =>
      f.slice(bind(tokens.graph, this.part<Embedding>(table).weight), 0, first, first + many);
    const places = f.add(rows('position_embeddings', this.firstPosition, count), rows('token_type_embeddings', 0, 1));
    const sum = f.add(tokens, f.reshape(places, [count, 1, width]));
    return this.run('LayerNorm', f.reshape(sum, [-1, width]));
  }
}

const projections = {
  q_proj: 'attention.self.query', k_proj: 'attention.self.key', v_proj: 'attention.self.value',
  out_proj: 'attention.output.dense',
} as const;

/** Post-norm: `norm(x + attention(x))`, then `norm(x + output(act(intermediate(x))))`. */
class BertLayer extends Block {
  constructor(weights: Weights, private readonly config: BertConfig, layer: number) {
    const { hidden_size: width, intermediate_size: hidden, num_attention_heads: heads } = config;
    super({
      modality: 'text', cross: false, causal: false, norm: 'post', layer, layers: config.num_hidden_layers, width,
      hidden, heads, activation: config.hidden_act,
    });
    const linear = (name: string, from: number, to: number): Linear =>
      this.child(name, new Linear(below(weights, name), from, to));
    const norm = (name: string): LayerNorm =>
      this.child(name, new LayerNorm(below(weights, name), width, config.layer_norm_eps));
    for (const name of Object.values(projections)) linear(name, width, width);
    norm('attention.output.LayerNorm');
    linear('intermediate.dense', width, hidden);
    linear('output.dense', hidden, width);
    norm('output.LayerNorm');
  }

  protected norm(part: BlockPart, x: Value): Value {
    return this.run(part === 'attention' ? 'attention.output.LayerNorm' : 'output.LayerNorm', x);
  }

  protected attend(x: Value, context: BlockContext, prefix?: AttentionPlug): Value {
    const { num_attention_heads: heads } = this.config;
    return selfAttention(x, context, heads, (part, rows) => this.run(projections[part], rows), prefix);
  }

  protected feedForward(x: Value): Value {
    return this.run('output.dense', activations[this.config.hidden_act](this.run('intermediate.dense', x)));
  }
}

/** From states to logits of the words. */
class MaskedLanguageHead extends Module {
  private readonly decoder: Parameter;
  private readonly bias: Parameter;

  /** @param words the word embeddings, which are the decoder too unless the configuration unties them */
  constructor(weights: Weights, private readonly family: BertFamily, private readonly config: BertConfig, words: Parameter) {
    super();
    const { dense, norm } = family.head;
    const { hidden_size: width, vocab_size, tie_word_embeddings: tied } = config;
    this.child(dense, new Linear(below(weights, dense), width, width));
    this.child(norm, new LayerNorm(below(weights, norm), width, config.layer_norm_eps));
    const own = (name: string, shape: readonly number[]): Parameter => this.parameter(name, weights(name, shape));
    this.decoder = tied ? words : own('decoder.weight', [vocab_size, width]);
    this.bias = own(tied ? 'bias' : 'decoder.bias', [vocab_size]);
  }

  /** Rows [N, width] → [N, vocabulary] */
  forward(rows: Value): Value {
    const { dense, norm } = this.family.head;
    const activation = activations[this.family.headActivation(this.config)];
    const hidden = this.run(norm, activation(this.run(dense, rows)));
    return f.gemm(hidden, bind(rows.graph, this.decoder), bind(rows.graph, this.bias), { transB: 1 });
  }
}

export interface BertLayout {
  /** Whether the encoder's names begin with that of the architecture, as in checkpoints with any head. */
  prefixed: boolean;
  hasHead: boolean;
}

export class BertEncoder extends Module implements TextEncoder {
  readonly kind = 'encoder';
  readonly hasHead: boolean;
  /** What the encoder's names begin with. */
  private readonly prefix: string;

  constructor(
    weights: Weights, private readonly family: BertFamily, readonly config: BertConfig,
    { prefixed, hasHead }: BertLayout,
  ) {
    super();
    this.hasHead = hasHead;
    this.prefix = prefixed ? `${family.base}.` : '';
    const add = <M extends Module>(name: string, make: (weights: Weights) => M): M =>
      this.child(name, make(below(weights, name)));
    const { words } = add(this.embeddings, (w) => new BertEmbeddings(w, config, family.firstPosition(config)));
    this.layers.forEach((name, i) => add(name, (w) => new BertLayer(w, config, i)));
    if (hasHead) add(family.head.path, (w) => new MaskedLanguageHead(w, family, config, words));
  }

  get width(): number {
    return this.config.hidden_size;
  }

  get vocabulary(): number {
    return this.config.vocab_size;
  }

  get positions(): number {
    return this.config.max_position_embeddings - this.family.firstPosition(this.config);
  }

  get padToken(): number {
    return this.config.pad_token_id;
  }

  get beginToken(): number | undefined {
    return this.config.bos_token_id;
  }

  get endToken(): number | undefined {
    return [this.config.eos_token_id].flat()[0];
  }

  /** ids int64 [B, T] → the embeddings of the words [T, B, width] */
  embed(ids: Value): Value {
    return ids.graph.within(this.embeddings, () => this.part<BertEmbeddings>(this.embeddings).embed(ids));
  }

  /**
   * Embedded tokens [T, B, width] → states, the first of which is the sum of all embeddings, normalised. Positions are
   * sequential, so that padding belongs at the end.
   * @param mask float32 [B, T], 1 for a token that counts; all do where absent
   * @throws ScionError of kind `input` for texts of more tokens than the model has positions
   */
  encode(tokens: Value, mask?: Value): TextStates {
    const [count, batch, width] = tokens.shape as [number, number, number];
    checkLength(count, this.positions);
    assert(!mask || mask.shape.join() === [batch, count].join(), `mask [${mask?.shape.join()}] for ${batch} texts of ${count}`);
    const hidden = mask && paddingMask(mask, this.config.num_attention_heads);
    const states = [this.run(this.embeddings, tokens)];
    for (const name of this.layers) {
      const rows = states.at(-1)!;
      states.push(rows.graph.within(name, () => this.part<Block>(name).forward(rows, { batch, mask: hidden })));
    }
    const shaped = states.map((rows) => f.reshape(rows, [-1, batch, width]));
    return { states: shaped, last: shaped.at(-1)! };
  }

  logits(rows: Value): Value {
    const { head, modelType } = this.family;
    if (this.hasHead) return this.run(head.path, rows);
    throw inputError('', `the ${modelType} checkpoint has no head of masked-language modelling (${head.path}.*), which `
      + 'predicts words; take one that was saved with it');
  }

  private get embeddings(): string {
    return `${this.prefix}embeddings`;
  }

  private get layers(): string[] {
    return Array.from({ length: this.config.num_hidden_layers }, (_, i) => `${this.prefix}encoder.layer.${i}`);
  }
}
