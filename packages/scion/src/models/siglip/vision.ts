/** The vision transformer of SigLIP (Zhai et al., 2023), with the names of Hugging Face's SiglipVisionModel. */
import type { Value } from '../../ir/graph.js';
import { Embedding } from '../../nn/embedding.js';
import * as f from '../../nn/functional.js';
import { LayerNorm, Linear, type Weights, attention, below } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Parameter, bind } from '../../nn/parameter.js';
import { PatchEmbedding } from '../../nn/patches.js';
import { Encoder, type ImageStates, Mlp, type TowerOutput } from '../../nn/transformer.js';
import { assert } from '../../util/errors.js';
import type { SiglipVisionConfig } from './config.js';

class VisionEmbeddings extends Module {
  constructor(weights: Weights, config: SiglipVisionConfig) {
    super();
    const { hidden_size, image_size, patch_size } = config;
    this.child('patch_embedding', new PatchEmbedding(below(weights, 'patch_embedding'), config));
    const places = Math.floor(image_size / patch_size) ** 2;
    this.child('position_embedding', new Embedding(below(weights, 'position_embedding'), places, hidden_size));
  }

  /** images [B, C, H, W] → [patches, B, width] */
  forward(images: Value): Value {
    const patches = this.part<PatchEmbedding>('patch_embedding').forward(images);
    const places = bind(images.graph, this.part<Embedding>('position_embedding').weight);
    return f.add(patches, f.reshape(places, [patches.shape[0]!, 1, patches.shape[2]!]));
  }
}

/** PyTorch's MultiheadAttention: the rows of queries, keys and values lie one after the other in one matrix. */
class PackedAttention extends Module {
  private readonly weight: Parameter;
  private readonly bias: Parameter;

  constructor(weights: Weights, private readonly width: number, private readonly heads: number) {
    super();
    this.weight = this.parameter('in_proj_weight', weights('in_proj_weight', [3 * width, width]));
    this.bias = this.parameter('in_proj_bias', weights('in_proj_bias', [3 * width]));
    this.child('out_proj', new Linear(below(weights, 'out_proj'), width, width));
  }

  /** One query of each picture, [B, width], to states [tokens, B, width] → [B, width] */
  forward(query: Value, states: Value): Value {
    const { graph } = query;
    const { width, heads } = this;
    const [tokens, batch] = states.shape as [number, number, number];
    const part = (x: Value, i: number): Value => f.gemm(
      x,
      f.slice(bind(graph, this.weight), 0, i * width, (i + 1) * width),
      f.slice(bind(graph, this.bias), 0, i * width, (i + 1) * width),
      { transB: 1 },
    );
    const rows = f.reshape(states, [tokens * batch, width]);
    const mixed = attention(part(query, 0), part(rows, 1), part(rows, 2), { tokens: 1, batch, heads });
    return this.run('out_proj', mixed);
  }
}

/** Attention pooling: a learned query reads all patches, and an MLP follows. */
class PoolingHead extends Module {
  private readonly probe: Parameter;

  constructor(weights: Weights, private readonly config: SiglipVisionConfig) {
    super();
    const { hidden_size: width, num_attention_heads: heads, layer_norm_eps } = config;
    this.probe = this.parameter('probe', weights('probe', [1, 1, width]));
    this.child('attention', new PackedAttention(below(weights, 'attention'), width, heads));
    this.child('layernorm', new LayerNorm(below(weights, 'layernorm'), width, layer_norm_eps));
    this.child('mlp', new Mlp(below(weights, 'mlp'), config));
  }

  /** states [tokens, B, width] → [B, width] */
  forward(states: Value): Value {
    const { graph } = states;
    const { hidden_size: width } = this.config;
    const query = f.expand(f.reshape(bind(graph, this.probe), [1, width]), [states.shape[1]!, width]);
    const read = graph.within('attention', () => this.part<PackedAttention>('attention').forward(query, states));
    return f.add(read, this.run('mlp', this.run('layernorm', read)));
  }
}

export class SiglipVision extends Module {
  constructor(weights: Weights, private readonly config: SiglipVisionConfig) {
    super();
    this.child('embeddings', new VisionEmbeddings(below(weights, 'embeddings'), config));
    this.child('encoder', new Encoder(below(weights, 'encoder'), config, { modality: 'vision', causal: false }));
    this.child('post_layernorm',
      new LayerNorm(below(weights, 'post_layernorm'), config.hidden_size, config.layer_norm_eps));
    this.child('head', new PoolingHead(below(weights, 'head'), config));
  }

  /** images [B, C, image_size, image_size], normalised as in preprocessor_config.json */
  forward(images: Value): TowerOutput & ImageStates {
    const { num_channels: channels, image_size: size } = this.config;
    assert(images.shape.slice(1).join() === [channels, size, size].join(),
      `images [${images.shape.join(', ')}], expected size ${size}`);
    const { graph } = images;
    const embedded = this.run('embeddings', images);
    const states = graph.within('encoder', () => this.part<Encoder>('encoder').states(embedded));
    // learned prompts come last and are not pooled
    const [all, patches] = [states.at(-1)!, embedded.shape[0]!];
    const last = this.run('post_layernorm', all.shape[0] === patches ? all : f.slice(all, 0, 0, patches));
    return { states, pooled: this.run('head', last), patches: last };
  }
}
