/** The bottleneck that adapters are made of: a small network in two linear layers. */
import type { Value } from '../../ir/graph.js';
import { dropoutInTraining } from '../../nn/dropout.js';
import * as f from '../../nn/functional.js';
import { LayerNorm, Linear, type Weights, below } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Init, type Parameter, bind, init, trained } from '../../nn/parameter.js';
import type { RowPlug } from '../../nn/places.js';
import { activations } from '../../nn/transformer.js';
import { type Project, type Route, routed } from '../routing/layer.js';

export const nonLinearities = {
  ...activations,
  silu: (x: Value) => f.mul(x, f.sigmoid(x)),
  tanh: f.tanh,
} as const;
export type NonLinearity = keyof typeof nonLinearities;

export interface BottleneckOptions {
  /** Features of a token, and between the two layers. */
  width: number;
  bottleneck: number;
  nonLinearity: NonLinearity;
  /** On what lies between the two layers, in training. */
  dropout: number;
  /** The factor on what comes out, or `learnable_scalar`: one that is trained from 1 on. */
  scaling: number | 'learnable_scalar';
  /** A LayerNorm of its own in front or behind. */
  layerNorm?: 'none' | 'in' | 'out';
  /** Whether its input is added to what it makes: for places that a value passes through. */
  residual: boolean;
  /** A picture that is mixed in. */
  route?: Route | undefined;
}

/** What does not start at zero. */
const starts: Readonly<Record<string, Init>> = {
  'down_proj.weight': init.linear, 'adapter_layer_norm_before.weight': init.constant(1),
};
const fresh: Weights = (name, shape) => trained(shape, starts[name] ?? init.zeros);

/**
 * `s · (W₂ act(W₁ x + b₁) + b₂)`, to which x may be added. W₁ is drawn as PyTorch draws linear layers, all else is 0 at
 * the start, so that it starts as the identity, or as 0 without the residual; with routing behind both projections W₂ is
 * drawn, since a product of two zeros would stay zero. With routing in the bottleneck it is
 * `s · (W₂ act(route(W₁ x + b₁, W₁ v + b₁)) + b₂)`. Names are those of AdaptFormer's code.
 */
export class Bottleneck extends Module implements RowPlug {
  private readonly scale: Parameter | undefined;

  constructor(private readonly options: BottleneckOptions) {
    super();
    const { width, bottleneck, layerNorm = 'none' } = options;
    const at = (name: string): Weights => below(fresh, name);
    const drawn: Weights = (name, shape) => trained(shape, name === 'weight' ? init.linear : init.zeros);
    this.child('down_proj', new Linear(at('down_proj'), width, bottleneck));
    this.child('up_proj', new Linear(options.route?.position === 'after' ? drawn : at('up_proj'), bottleneck, width));
    if (layerNorm !== 'none') {
      this.child('adapter_layer_norm_before', new LayerNorm(at('adapter_layer_norm_before'), width));
    }
    if (options.scaling === 'learnable_scalar') this.scale = this.parameter('scale', trained([1], init.constant(1)));
  }

  /** x [rows, width] → the same shape */
  forward(x: Value): Value {
    const { layerNorm, nonLinearity, dropout, scaling, residual, route } = this.options;
    const norm = (place: 'in' | 'out', v: Value): Value =>
      (layerNorm === place ? this.run('adapter_layer_norm_before', v) : v);
    const up: Project = (rows, part) => this.run('up_proj', dropoutInTraining(
      nonLinearities[nonLinearity](rows), dropout, this.part<Linear>('down_proj').weight.name + part));
    const change = routed(norm('in', x), route, (rows) => this.run('down_proj', rows), up);
    const factor = this.scale ? bind(x.graph, this.scale) : scaling as number;
    const made = norm('out', f.mul(change, factor));
    return residual ? f.add(x, made) : made;
  }
}
