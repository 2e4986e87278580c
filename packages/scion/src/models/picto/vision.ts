/**
 * The image tower of PictoCLIP: a small residual network of 3 × 3 convolutions in stages, as ResNet (He et al., 2016),
 * normalised before each block (He et al., 2016b) over all features of a picture, so that batches do not matter.
 */
import type { Value } from '../../ir/graph.js';
import { Conv2d, PictureNorm } from '../../nn/conv.js';
import * as f from '../../nn/functional.js';
import { type Weights, LayerNorm, below } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import type { ImageStates } from '../../nn/transformer.js';
import { assert } from '../../util/errors.js';
import type { PictoVisionConfig } from './config.js';

/** Modules that are called one after the other, by name. */
abstract class Chain extends Module {
  protected add<M extends Module>(weights: Weights, name: string, make: (weights: Weights) => M): void {
    this.child(name, make(below(weights, name)));
  }
}

const conv = (from: number, to: number, stride = 1) => (weights: Weights): Conv2d =>
  new Conv2d(weights, from, to, 3, { stride, padding: 1, bias: true });

/** `x + conv2(relu(conv1(norm x)))` over [B, channels, side, side]. */
class Block extends Chain {
  constructor(weights: Weights, channels: number, side: number, epsilon: number) {
    super();
    this.add(weights, 'norm', (w) => new PictureNorm(w, [channels, side, side], epsilon));
    this.add(weights, 'conv1', conv(channels, channels));
    this.add(weights, 'conv2', conv(channels, channels));
  }

  forward(x: Value): Value {
    return f.add(x, this.run('conv2', f.relu(this.run('conv1', this.run('norm', x)))));
  }
}

export class PictoVision extends Chain {
  /** The names of the parts in their order. */
  private readonly order: string[] = [];

  constructor(weights: Weights, private readonly config: PictoVisionConfig) {
    super();
    const { num_channels, image_size, stem_size, hidden_sizes, depths, layer_norm_eps: epsilon } = config;
    const next = (name: string, make: (weights: Weights) => Module): void => {
      this.add(weights, name, make);
      this.order.push(name);
    };
    next('stem.0', conv(num_channels, stem_size, 2));
    next('stem.1', conv(stem_size, hidden_sizes[0]!, 2));
    let side = image_size / 4;
    hidden_sizes.forEach((channels, stage) => {
      if (stage > 0) {
        const before = hidden_sizes[stage - 1]!;
        next(`stages.${stage}.norm`, (w) => new PictureNorm(w, [before, side, side], epsilon));
        next(`stages.${stage}.downsample`, conv(before, channels, 2));
        side /= 2;
      }
      for (let i = 0; i < depths[stage]!; i++) {
        next(`stages.${stage}.blocks.${i}`, (w) => new Block(w, channels, side, epsilon));
      }
    });
    this.add(weights, 'norm', (w) => new LayerNorm(w, hidden_sizes.at(-1)!, epsilon));
  }

  /** images [B, num_channels, image_size, image_size] → [B, the last of hidden_sizes] */
  forward(images: Value): Value {
    return this.pooled(this.map(images));
  }

  /** The same, and the features of every place, which the net itself averages, through its last norm. */
  imageStates(images: Value): ImageStates {
    const map = this.map(images);
    const [batch, width] = map.shape as [number, number];
    const places = f.reshape(f.transpose(map, [2, 3, 0, 1]), [-1, batch, width]);
    return { pooled: this.pooled(map), patches: this.run('norm', places) };
  }

  /** images → [B, features, side, side] */
  private map(images: Value): Value {
    const { num_channels: channels, image_size: size } = this.config;
    assert(images.shape.slice(1).join() === [channels, size, size].join(),
      `images [${images.shape.join(', ')}], expected [B, ${channels}, ${size}, ${size}]`);
    let x = images;
    for (const name of this.order) x = name === 'stem.0' ? f.relu(this.run(name, x)) : this.run(name, x);
    return x;
  }

  private pooled(map: Value): Value {
    return this.run('norm', f.reshape(f.globalAveragePool(map), map.shape.slice(0, 2)));
  }
}
