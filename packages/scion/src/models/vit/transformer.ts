/** What Hugging Face's image transformers ViT and DINOv2 share, by its names: embeddings, attention, the stack. */
import type { Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { LayerNorm, Linear, type Weights, below } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Parameter, bind } from '../../nn/parameter.js';
import { PatchEmbedding, interpolatePlaces } from '../../nn/patches.js';
import type { AttentionPlug, Block, BlockKind } from '../../nn/places.js';
import { selfAttention } from '../../nn/self-attention.js';
import type { ImageStates, TowerOutput } from '../../nn/transformer.js';
import { assert } from '../../util/errors.js';
import { type Checkpoint, fromCheckpoint } from '../weights.js';

export interface ImageTransformerConfig {
  hidden_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  layer_norm_eps: number;
  qkv_bias: boolean;
  num_channels: number;
  image_size: number;
  patch_size: number;
}

/** How a layer of an image transformer describes itself. */
export function imageBlock(
  { num_hidden_layers: layers, hidden_size: width, num_attention_heads: heads }: ImageTransformerConfig, layer: number,
  feedForward: Pick<BlockKind, 'hidden' | 'activation'>,
): BlockKind {
  return { modality: 'vision', cross: false, causal: false, norm: 'pre', layer, layers, width, heads, ...feedForward };
}

class ImageEmbeddings extends Module {
  private readonly classToken: Parameter;
  private readonly places: Parameter;

  constructor(weights: Weights, private readonly config: ImageTransformerConfig) {
    super();
    const { hidden_size: width, image_size, patch_size } = config;
    this.classToken = this.parameter('cls_token', weights('cls_token', [1, 1, width]));
    const count = Math.floor(image_size / patch_size) ** 2 + 1;
    this.places = this.parameter('position_embeddings', weights('position_embeddings', [1, count, width]));
    const name = 'patch_embeddings.projection';
    this.child(name, new PatchEmbedding(below(weights, name), config));
  }

  /** images [B, C, H, W] → [1 + patches, B, width]; the first place is the class token's */
  forward(images: Value): Value {
    const { graph } = images;
    const { hidden_size: width, patch_size } = this.config;
    const [batch, , height, breadth] = images.shape as [number, number, number, number];
    const patches = this.part<PatchEmbedding>('patch_embeddings.projection').forward(images);
    const first = f.expand(bind(graph, this.classToken), [1, batch, width]);
    const [, count] = this.places.shape as [number, number, number];
    const places = f.reshape(bind(graph, this.places), [count, width]);
    const grid = interpolatePlaces(
      f.slice(places, 0, 1, count), Math.floor(height / patch_size), Math.floor(breadth / patch_size));
    const all = f.concat([f.slice(places, 0, 0, 1), grid], 0);
    return f.add(f.concat([first, patches], 0), f.reshape(all, [all.shape[0]!, 1, width]));
  }
}

/** The names of the projections. */
const projections = {
  q_proj: 'attention.query', k_proj: 'attention.key', v_proj: 'attention.value', out_proj: 'output.dense',
} as const;

export class ImageAttention extends Module {
  constructor(weights: Weights, private readonly config: ImageTransformerConfig) {
    super();
    const { hidden_size: width, qkv_bias } = config;
    for (const [part, name] of Object.entries(projections)) {
      this.child(name, new Linear(below(weights, name), width, width, part === 'out_proj' || qkv_bias));
    }
  }

  /** x [tokens · batch, width], row = token · batch + image */
  forward(x: Value, batch: number, prefix?: AttentionPlug): Value {
    return selfAttention(
      x, { batch }, this.config.num_attention_heads, (part, rows) => this.run(projections[part], rows), prefix);
  }
}

export interface ImageTransformerOptions {
  layer: (weights: Weights, number: number) => Block;
  imageProcessor: string;
  /** Whether pictures of other sizes are taken too: their places are interpolated. */
  resizes: boolean;
}

/** A transformer over patches and a class token, whose last state, normalised, is the feature. */
export class ImageTransformer extends Module {
  constructor(
    weights: Weights, readonly config: ImageTransformerConfig,
    private readonly options: ImageTransformerOptions,
  ) {
    super();
    this.child('embeddings', new ImageEmbeddings(below(weights, 'embeddings'), config));
    this.layers().forEach((name, i) => this.child(name, options.layer(below(weights, name), i)));
    this.child('layernorm', new LayerNorm(below(weights, 'layernorm'), config.hidden_size, config.layer_norm_eps));
  }

  /** What prepares its pictures, unless preprocessor_config.json says otherwise. */
  get imageProcessor(): string {
    return this.options.imageProcessor;
  }

  /** Pictures are square, with this many pixels on a side. */
  get imageSize(): number {
    return this.config.image_size;
  }

  /** Where pictures of other sizes are taken too, the least side: one patch. */
  get leastSize(): number | undefined {
    return this.options.resizes ? this.config.patch_size : undefined;
  }

  /** images [B, C, H, W] → [B, hidden_size], the normalised last state of the class token */
  imageFeatures(images: Value): Value {
    return this.forward(images).pooled;
  }

  /** images [B, C, H, W], normalised as in preprocessor_config.json */
  forward(images: Value): TowerOutput {
    const { graph } = images;
    const { num_channels: channels, image_size: size, hidden_size: width } = this.config;
    const [batch, ...rest] = images.shape as [number, number, number, number];
    const fits = this.leastSize === undefined ? rest.join() === [channels, size, size].join()
      : rest[0] === channels && Math.min(rest[1], rest[2]) >= this.leastSize;
    assert(fits, `images [${images.shape.join(', ')}], expected size ${size}`);
    const embedded = this.run('embeddings', images);
    const states = [f.reshape(embedded, [-1, width])];
    for (const name of this.layers()) {
      states.push(graph.within(name, () => this.part<Block>(name).forward(states.at(-1)!, { batch })));
    }
    const first = f.slice(states.at(-1)!, 0, 0, batch); // the rows of the class token
    const pooled = this.run('layernorm', first);
    return { states: states.map((rows) => f.reshape(rows, [-1, batch, width])), pooled };
  }

  /** images [B, C, H, W] → the last states, normalised */
  imageStates(images: Value): ImageStates {
    const { states, pooled } = this.forward(images);
    const { patch_size: side } = this.config;
    const patches = Math.floor(images.shape[2]! / side) * Math.floor(images.shape[3]! / side);
    return { pooled, patches: this.run('layernorm', f.slice(states.at(-1)!, 0, 1, 1 + patches)) };
  }

  private layers(): string[] {
    return Array.from({ length: this.config.num_hidden_layers }, (_, i) => `encoder.layer.${i}`);
  }
}

/** The same below a name, as where a checkpoint has a classifier beside it, which is not read. */
export class BesideClassifier extends Module {
  constructor(weights: Weights, private readonly name: string, make: (weights: Weights) => ImageTransformer) {
    super();
    this.child(name, make(below(weights, name)));
  }

  get base(): ImageTransformer {
    return this.part(this.name);
  }

  get imageProcessor(): string {
    return this.base.imageProcessor;
  }

  get imageSize(): number {
    return this.base.imageSize;
  }

  get leastSize(): number | undefined {
    return this.base.leastSize;
  }

  /** images [B, C, H, W] → [B, hidden_size] */
  imageFeatures(images: Value): Value {
    return images.graph.within(this.name, () => this.base.imageFeatures(images));
  }

  imageStates(images: Value): ImageStates {
    return images.graph.within(this.name, () => this.base.imageStates(images));
  }
}

/**
 * The image encoder of a checkpoint, whose names begin with `name` where a classifier stands beside it.
 * @throws ScionError of kind `input`: every tensor that does not fit
 */
export function loadImageTransformer(
  { path, tensors }: Checkpoint, name: string, config: ImageTransformerConfig, options: ImageTransformerOptions,
): ImageTransformer | BesideClassifier {
  const make = (weights: Weights): ImageTransformer => new ImageTransformer(weights, config, options);
  return fromCheckpoint<ImageTransformer | BesideClassifier>(tensors, path, (weights) =>
    (tensors.has(`${name}.embeddings.cls_token`) ? new BesideClassifier(weights, name, make) : make(weights)));
}
