/** Layers over pictures [batch, channels, height, width]. */
import type { Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import type { Shape } from '../util/tensor.js';
import type { Weights } from './layers.js';
import { Module } from './module.js';
import { type Parameter, bind } from './parameter.js';

/** A square kernel, without bias unless asked for: a normalisation behind it would take it away. */
export class Conv2d extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;

  constructor(
    weights: Weights, readonly inChannels: number, readonly outChannels: number, readonly kernel: number,
    readonly options: { stride?: number; padding?: number; bias?: boolean } = {},
  ) {
    super();
    this.weight = this.parameter('weight', weights('weight', [outChannels, inChannels, kernel, kernel]));
    this.bias = options.bias ? this.parameter('bias', weights('bias', [outChannels])) : undefined;
  }

  forward(x: Value): Value {
    const { stride = 1, padding = 0 } = this.options;
    return b.conv(x, bind(x.graph, this.weight), this.bias && bind(x.graph, this.bias), {
      strides: [stride, stride], pads: [padding, padding, padding, padding],
    });
  }

  /** The result of a convolution [B, C, H, W] in the order in which `forward` gives it. */
  arrange(y: Value): Value {
    return y;
  }

  /** The shape in which a value for each output channel is broadcast over what `forward` gives. */
  get perChannel(): Shape {
    return [1, this.outChannels, 1, 1];
  }
}

/** Batch normalisation by the statistics of pretraining, which stay as they are. */
export class FrozenBatchNorm2d extends Module {
  private readonly values: readonly Parameter[];

  constructor(weights: Weights, channels: number, readonly epsilon = 1e-5) {
    super();
    this.values = ['weight', 'bias', 'running_mean', 'running_var'].map((name) =>
      this.parameter(name, weights(name, [channels])));
    for (const statistic of this.values.slice(2)) statistic.isStatistic = true;
  }

  forward(x: Value): Value {
    const [weight, bias, mean, variance] = this.values.map((p) => bind(x.graph, p)) as [Value, Value, Value, Value];
    return b.batchNormalization(x, weight, bias, mean, variance, this.epsilon);
  }
}

/** Normalisation over all features [channels, height, width] of a picture, as PyTorch's LayerNorm over three axes. */
export class PictureNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;

  constructor(weights: Weights, shape: readonly [channels: number, height: number, width: number], readonly epsilon = 1e-5) {
    super();
    this.weight = this.parameter('weight', weights('weight', shape));
    this.bias = this.parameter('bias', weights('bias', shape));
  }

  forward(x: Value): Value {
    return b.layerNormalization(x, bind(x.graph, this.weight), bind(x.graph, this.bias), this.epsilon, 1);
  }
}
