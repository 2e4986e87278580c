/** The vision transformer of CLIP (Radford et al., 2021), with the names of Hugging Face's CLIPVisionModel. */
import type { Value } from '../../ir/graph.js';
import { LayerNorm, type Weights, below } from '../../nn/layers.js';
import * as f from '../../nn/functional.js';
import { Embedding } from '../../nn/embedding.js';
import { Module } from '../../nn/module.js';
import { type Parameter, bind } from '../../nn/parameter.js';
import { Encoder } from '../../nn/transformer.js';
import { assert } from '../../util/errors.js';
import type { ClipVisionConfig } from './config.js';

/** A kernel that moves by its own size: as a matrix product over the patches, each a row. */
class PatchEmbedding extends Module {
  readonly weight: Parameter;

  constructor(weights: Weights, private readonly config: ClipVisionConfig) {
    super();
    const { hidden_size, num_channels, patch_size } = config;
    this.weight = this.parameter('weight', weights('weight', [hidden_size, num_channels, patch_size, patch_size]));
  }

  /** images [B, C, H, W] → [patches, B, width] */
  forward(images: Value): Value {
    const { patch_size: p, hidden_size: width } = this.config;
    const [batch, channels, height, breadth] = images.shape as [number, number, number, number];
    const [rows, columns] = [Math.floor(height / p), Math.floor(breadth / p)];
    const whole = f.slice(f.slice(images, 2, 0, rows * p), 3, 0, columns * p); // a rest is left over, as by a Conv
    const patches = f.transpose(f.reshape(whole, [batch, channels, rows, p, columns, p]), [2, 4, 0, 1, 3, 5]);
    const weight = f.reshape(bind(images.graph, this.weight), [width, -1]);
    const embedded = f.gemm(f.reshape(patches, [rows * columns * batch, -1]), weight, undefined, { transB: 1 });
    return f.reshape(embedded, [rows * columns, batch, width]);
  }
}

class VisionEmbeddings extends Module {
  private readonly classEmbedding: Parameter;

  constructor(weights: Weights, config: ClipVisionConfig) {
    super();
    const { hidden_size, image_size, patch_size } = config;
    this.classEmbedding = this.parameter('class_embedding', weights('class_embedding', [hidden_size]));
    this.child('patch_embedding', new PatchEmbedding(below(weights, 'patch_embedding'), config));
    const positions = Math.floor(image_size / patch_size) ** 2 + 1;
    this.child('position_embedding', new Embedding(below(weights, 'position_embedding'), positions, hidden_size));
  }

  /** images [B, C, H, W] → [1 + patches, B, width] */
  forward(images: Value): Value {
    const { graph } = images;
    const patches = this.part<PatchEmbedding>('patch_embedding').forward(images);
    const [, batch, width] = patches.shape as [number, number, number];
    const first = f.expand(f.reshape(bind(graph, this.classEmbedding), [1, 1, width]), [1, batch, width]);
    const positions = bind(graph, this.part<Embedding>('position_embedding').weight);
    return f.add(f.concat([first, patches], 0), f.reshape(positions, [-1, 1, width]));
  }
}

/** What a tower gives. The states are those of transformers' `hidden_states`, but [tokens, B, width]. */
export interface TowerOutput {
  /** Before the first layer and after every layer. */
  states: readonly Value[];
  /** [B, width]: the state of the one token that stands for the input, normalised. */
  pooled: Value;
}

export class ClipVision extends Module {
  constructor(weights: Weights, private readonly config: ClipVisionConfig) {
    super();
    const norm = (name: string): LayerNorm =>
      this.child(name, new LayerNorm(below(weights, name), config.hidden_size, config.layer_norm_eps));
    this.child('embeddings', new VisionEmbeddings(below(weights, 'embeddings'), config));
    norm('pre_layrnorm');
    this.child('encoder', new Encoder(below(weights, 'encoder'), config, { modality: 'vision', causal: false }));
    norm('post_layernorm');
  }

  /** images [B, C, image_size, image_size], normalised as in preprocessor_config.json */
  forward(images: Value): TowerOutput {
    const { num_channels: channels, image_size: size, hidden_size: width } = this.config;
    const [batch, ...rest] = images.shape as [number, ...number[]];
    assert(rest.join() === [channels, size, size].join(), `images [${images.shape.join(', ')}], expected size ${size}`);
    const { graph } = images;
    const embedded = graph.within('embeddings', () => this.part<VisionEmbeddings>('embeddings').forward(images));
    const normal = graph.within('pre_layrnorm', () => this.part<LayerNorm>('pre_layrnorm').forward(embedded));
    const states = graph.within('encoder', () => this.part<Encoder>('encoder').states(normal));
    const first = f.reshape(f.slice(states.at(-1)!, 0, 0, 1), [batch, width]);
    const norm = this.part<LayerNorm>('post_layernorm');
    return { states, pooled: graph.within('post_layernorm', () => norm.forward(first)) };
  }
}
