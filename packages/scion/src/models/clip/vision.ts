/** The vision transformer of CLIP (Radford et al., 2021), with the names of Hugging Face's CLIPVisionModel. */
import type { Value } from '../../ir/graph.js';
import { LayerNorm, type Weights, below } from '../../nn/layers.js';
import * as f from '../../nn/functional.js';
import { Embedding } from '../../nn/embedding.js';
import { Module } from '../../nn/module.js';
import { type Parameter, bind } from '../../nn/parameter.js';
import { PatchEmbedding } from '../../nn/patches.js';
import { Encoder, type ImageStates, type TowerOutput } from '../../nn/transformer.js';
import { assert } from '../../util/errors.js';
import type { ClipVisionConfig } from './config.js';

class VisionEmbeddings extends Module {
  private readonly classEmbedding: Parameter;

  constructor(weights: Weights, config: ClipVisionConfig) {
    super();
    const { hidden_size, image_size, patch_size } = config;
    this.classEmbedding = this.parameter('class_embedding', weights('class_embedding', [hidden_size]));
    this.child('patch_embedding', new PatchEmbedding(below(weights, 'patch_embedding'), config, false));
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
    const embedded = this.run('embeddings', images);
    const normal = this.run('pre_layrnorm', embedded);
    const states = graph.within('encoder', () => this.part<Encoder>('encoder').states(normal));
    const first = f.reshape(f.slice(states.at(-1)!, 0, 0, 1), [batch, width]);
    return { states, pooled: this.run('post_layernorm', first) };
  }

  /** The same, and the patches through the last norm, which CLIP itself does not read. */
  imageStates(images: Value): ImageStates {
    const { states, pooled } = this.forward(images);
    const patches = Math.floor(this.config.image_size / this.config.patch_size) ** 2;
    return { pooled, patches: this.run('post_layernorm', f.slice(states.at(-1)!, 0, 1, 1 + patches)) };
  }
}
