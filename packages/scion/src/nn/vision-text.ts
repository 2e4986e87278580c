/**
 * A frozen text model that sees a picture: features of any image encoder come before its words as tokens, and adapters
 * may read them (Qu, Tuytelaars, Moens, "Introducing Routing Functions to Vision-Language Parameter-Efficient
 * Fine-Tuning with Low-Rank Bottlenecks", ECCV 2024, section 4). The image encoder is no part of it: what it gives is
 * computed once.
 */
import type { Graph, Value } from '../ir/graph.js';
import * as f from './functional.js';
import { LayerNorm, Linear, type Weights } from './layers.js';
import { Module } from './module.js';
import { init, trained } from './parameter.js';
import { setRoutes } from './routes.js';
import type { TextModel } from './text-model.js';
import { assert } from '../util/errors.js';
import { int64 } from '../util/tensor.js';

/** What is seen of a picture. */
export interface Sight {
  /** Tokens of a picture: 1 where it is one pooled feature, else its patches. */
  tokens: number;
  /** Features of a token. */
  dim: number;
  /** Whether they stand before the words; where not, adapters alone read them. */
  prefix: boolean;
}

/** A classifier of answers. */
export interface AnswerHead {
  answers: number;
  /** 1: one linear layer. 2: `Linear(2d), GELU, LayerNorm, Linear`, as LXMERT's (Tan and Bansal, 2019). */
  layers: 1 | 2;
}

/** Pictures and texts of a batch. */
export interface Seen {
  /** [B, tokens, dim]; absent where nothing is seen. */
  visual?: Value | undefined;
  /** int64 [B, T] */
  ids: Value;
  /** float32 [B, T]: 1 for a token, 0 for padding, which comes last. */
  mask: Value;
}

/** As BERT's own layers start: normal with deviation 0.02, biases at 0. */
const fresh: Weights = (name, shape) => trained(shape, name.endsWith('bias') ? init.zeros : init.normal(0.02));
const freshNorm: Weights = (name, shape) => trained(shape, init.constant(name.endsWith('bias') ? 0 : 1));

/** The classifier of answers over one state. */
class AnswerClassifier extends Module {
  constructor(width: number, private readonly head: AnswerHead) {
    super();
    const inner = head.layers === 2 ? 2 * width : width;
    if (head.layers === 2) {
      this.child('dense', new Linear(fresh, width, inner));
      this.child('norm', new LayerNorm(freshNorm, inner));
    }
    this.child('out_proj', new Linear(fresh, inner, head.answers));
  }

  /** [B, width] → [B, answers] */
  forward(x: Value): Value {
    const inner = this.head.layers === 2 ? this.run('norm', f.gelu(this.run('dense', x))) : x;
    return this.run('out_proj', inner);
  }
}

export class VisionText extends Module {
  /**
   * @param sight absent where texts are read alone
   * @param head absent where answers are written, not chosen
   */
  constructor(text: TextModel, readonly sight?: Sight, readonly head?: AnswerHead) {
    super();
    this.child('text_model', text);
    if (sight && sight.dim !== text.width) {
      this.child('visual_projection', new Linear((name, shape) =>
        trained(shape, name.endsWith('bias') ? init.zeros : init.linear), sight.dim, text.width));
    }
    if (head) this.child('classifier', new AnswerClassifier(text.width, head));
    this.named();
  }

  get text(): TextModel {
    return this.part('text_model');
  }

  /** Tokens before the words. */
  get prefix(): number {
    return this.sight?.prefix ? this.sight.tokens : 0;
  }

  /** The longest text that has its place behind the picture. */
  get positions(): number {
    return this.text.positions - this.prefix;
  }

  /** Logits of the answers [B, answers]: from the state of the first word, or of the last where words see those before. */
  classify(seen: Seen): Value {
    return this.run('classifier', this.state(seen));
  }

  private state({ visual, ids, mask }: Seen): Value {
    const { text } = this;
    const { graph } = ids;
    const [batch, width] = [ids.shape[0]!, text.width];
    const row = (last: Value, at: number): Value => f.reshape(f.slice(last, 0, at, at + 1), [batch, width]);
    if (text.kind === 'decoder') {
      const { last } = this.read({ visual, ids, mask });
      const ends = f.cast(f.sub(f.reduceSum(mask, [1]), 1 - this.prefix), 'int64'); // place of the last word
      const rows = f.add(f.mul(ends, batch), f.constant(graph, int64([batch], Array.from({ length: batch }, (_, i) => i))));
      return f.gather(f.reshape(last, [-1, width]), rows);
    }
    const encoded = this.read({ visual, ids, mask });
    if (text.kind === 'encoder') return row(encoded.last, this.prefix);
    const begin = f.constant(graph, int64([batch, 1], Array.from({ length: batch }, () => text.decoderStart)));
    return row(this.inText(graph, () => text.decode(text.embed(begin), encoded).last), 0);
  }

  /**
   * Logits of the word that follows each token: of `ids`, or for an encoder-decoder of `written` int64 [B, W], which
   * answers them. Rows are [W · B, vocabulary], row = token · batch + example.
   */
  nextWords({ written, ...seen }: Seen & { written?: Value }): Value {
    const { text } = this;
    const { graph } = seen.ids;
    assert(text.kind !== 'encoder', 'an encoder writes nothing');
    const read = this.read(seen);
    if (text.kind === 'decoder') {
      const words = f.slice(read.last, 0, this.prefix, read.last.shape[0]!);
      return this.inText(graph, () => text.logits(f.reshape(words, [-1, text.width])));
    }
    assert(written, 'an encoder-decoder is asked for what follows its own words');
    return this.inText(graph, () => text.logits(f.reshape(text.decode(text.embed(written), read).last, [-1, text.width])));
  }

  /** The picture as tokens [tokens, B, width] in the width of the words; adapters read them from here on. */
  look(visual: Value): Value {
    assert(this.sight, 'a model that sees nothing is given a picture');
    const { tokens, dim } = this.sight;
    const [batch, ...rest] = visual.shape as [number, ...number[]];
    assert(rest.join() === [tokens, dim].join(), `pictures [${visual.shape.join(', ')}], expected [B, ${tokens}, ${dim}]`);
    const rows = f.transpose(visual, [1, 0, 2]);
    const seen = dim === this.text.width ? rows
      : f.reshape(this.run('visual_projection', f.reshape(rows, [tokens * batch, dim])), [tokens, batch, this.text.width]);
    setRoutes(visual.graph, { visual: seen });
    return seen;
  }

  /** The words, with the picture before them where it stands there: embedded [P + T, B, width], and their mask. */
  embed({ visual, ids, mask }: Seen): { tokens: Value; mask: Value } {
    const { graph } = ids;
    const seen = this.sight && this.look(visual!);
    const words = this.inText(graph, () => this.text.embed(ids));
    if (!seen || this.prefix === 0) return { tokens: words, mask };
    const ones = f.full(graph, 'float32', [ids.shape[0]!, this.prefix], 1);
    return { tokens: f.concat([seen, words], 0), mask: f.concat([ones, mask], 1) };
  }

  /** The text model over picture and words; of an encoder-decoder its encoder, which its adapters then know. */
  private read(seen: Seen): { last: Value; mask: Value } {
    const { text } = this;
    const { tokens, mask } = this.embed(seen);
    const { graph } = tokens;
    if (text.kind === 'decoder') return { last: this.inText(graph, () => text.decode(tokens, { mask }).last), mask };
    setRoutes(graph, { mask });
    const { last } = this.inText(graph, () => text.encode(tokens, mask));
    if (text.kind === 'encoder-decoder') setRoutes(graph, { encoder: last });
    return { last, mask };
  }

  private inText<T>(graph: Graph, body: () => T): T {
    return graph.within('text_model', body);
  }
}

