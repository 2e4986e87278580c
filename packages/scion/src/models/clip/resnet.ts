/**
 * OpenAI's ResNet for CLIP (Radford et al., 2021, section 2.4; the names of its state dict): a stem of three
 * convolutions, average pooling in place of strides (He et al., 2019, "ResNet-D"), attention in place of the last pool.
 */
import type { Value } from '../../ir/graph.js';
import { Conv2d, FrozenBatchNorm2d } from '../../nn/conv.js';
import * as f from '../../nn/functional.js';
import { Linear, type Weights, attention, below } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Parameter, bind } from '../../nn/parameter.js';
import { assert } from '../../util/errors.js';

export interface ResNetConfig {
  /** Blocks in each of the four stages; [3, 4, 6, 3] is RN50. */
  layers: readonly [number, number, number, number];
  /** Channels after the stem. */
  width: number;
  num_attention_heads: number;
  image_size: number;
}

/** Every block ends with four times the channels it works in. */
const expansion = 4;

/** Width of the last stage, which the attention reads. */
const lastWidth = (config: ResNetConfig): number => config.width * 8 * expansion;

abstract class ConvModule extends Module {
  protected convolution(
    weights: Weights, names: readonly [conv: string, norm: string], inside: number, outside: number, kernel: number,
    stride = 1,
  ): void {
    const padding = (kernel - 1) / 2;
    this.child(names[0], new Conv2d(below(weights, names[0]), inside, outside, kernel, { stride, padding }));
    this.child(names[1], new FrozenBatchNorm2d(below(weights, names[1]), outside));
  }

  protected normalised(x: Value, conv: string, norm: string): Value {
    return this.run(norm, this.run(conv, x));
  }
}

const halve = (x: Value, by = 2): Value => f.averagePool(x, { kernel_shape: [by, by] });

class Bottleneck extends ConvModule {
  private readonly projects: boolean;

  constructor(weights: Weights, inside: number, planes: number, private readonly stride: number) {
    super();
    const outside = planes * expansion;
    this.convolution(weights, ['conv1', 'bn1'], inside, planes, 1);
    this.convolution(weights, ['conv2', 'bn2'], planes, planes, 3);
    this.convolution(weights, ['conv3', 'bn3'], planes, outside, 1);
    this.projects = stride > 1 || inside !== outside;
    if (this.projects) this.convolution(weights, ['downsample.0', 'downsample.1'], inside, outside, 1);
  }

  forward(x: Value): Value {
    const pooled = (v: Value): Value => (this.stride > 1 ? halve(v, this.stride) : v);
    const inner = f.relu(this.normalised(f.relu(this.normalised(x, 'conv1', 'bn1')), 'conv2', 'bn2'));
    const residual = this.normalised(pooled(inner), 'conv3', 'bn3');
    return f.relu(f.add(residual, this.projects ? this.normalised(pooled(x), 'downsample.0', 'downsample.1') : x));
  }
}

/** One query, the mean of all places, attends to itself and to every place. */
class AttentionPool extends Module {
  private readonly positions: Parameter;

  constructor(weights: Weights, private readonly config: ResNetConfig, out: number) {
    super();
    const width = lastWidth(config);
    const places = Math.floor(config.image_size / 32) ** 2;
    this.positions = this.parameter('positional_embedding', weights('positional_embedding', [places + 1, width]));
    for (const name of ['q_proj', 'k_proj', 'v_proj']) this.child(name, new Linear(below(weights, name), width, width));
    this.child('c_proj', new Linear(below(weights, 'c_proj'), width, out));
  }

  /** [B, width, h, w] → [B, out] */
  forward(x: Value): Value {
    const { graph } = x;
    const [batch, width] = x.shape as [number, number];
    const places = f.transpose(f.reshape(x, [batch, width, -1]), [2, 0, 1]); // [h · w, B, width]
    const tokens = f.add(f.concat([f.reduceMean(places, [0], 1), places], 0),
      f.reshape(bind(graph, this.positions), [-1, 1, width]));
    const rows = f.reshape(tokens, [-1, width]);
    const first = f.slice(rows, 0, 0, batch);
    const mixed = attention(this.run('q_proj', first), this.run('k_proj', rows), this.run('v_proj', rows), {
      tokens: 1, batch, heads: this.config.num_attention_heads,
    });
    return this.run('c_proj', mixed);
  }
}

export class ModifiedResNet extends ConvModule {
  constructor(weights: Weights, private readonly config: ResNetConfig, out: number) {
    super();
    const { width, layers } = config;
    this.convolution(weights, ['conv1', 'bn1'], 3, width / 2, 3, 2);
    this.convolution(weights, ['conv2', 'bn2'], width / 2, width / 2, 3);
    this.convolution(weights, ['conv3', 'bn3'], width / 2, width, 3);
    let inside = width;
    layers.forEach((blocks, stage) => {
      const planes = width * 2 ** stage;
      for (let i = 0; i < blocks; i++) {
        const name = `layer${stage + 1}.${i}`;
        this.child(name, new Bottleneck(below(weights, name), inside, planes, i === 0 && stage > 0 ? 2 : 1));
        inside = planes * expansion;
      }
    });
    this.child('attnpool', new AttentionPool(below(weights, 'attnpool'), config, out));
  }

  /** images [B, 3, image_size, image_size] → [B, out] */
  forward(images: Value): Value {
    const { image_size: size, layers } = this.config;
    assert(images.shape.slice(1).join() === [3, size, size].join(),
      `images [${images.shape.join(', ')}], expected [B, 3, ${size}, ${size}]`);
    let x = images;
    for (const i of [1, 2, 3]) x = f.relu(this.normalised(x, `conv${i}`, `bn${i}`));
    x = halve(x);
    layers.forEach((blocks, stage) => {
      for (let i = 0; i < blocks; i++) x = this.run(`layer${stage + 1}.${i}`, x);
    });
    return this.run('attnpool', x);
  }
}
