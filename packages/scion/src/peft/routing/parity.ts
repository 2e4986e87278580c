/** How the reference files `routing-*` are computed here: by the layers themselves, with the tensors of the file. */
import type { Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { FusedLinear, type Weights } from '../../nn/layers.js';
import { bindTo, init, trained } from '../../nn/parameter.js';
import type { RowPlug } from '../../nn/places.js';
import { setRoutes } from '../../nn/routes.js';
import { Bottleneck, type NonLinearity } from '../bottleneck/layer.js';
import { GroupedLoraLayer } from '../lora/grouped.js';
import type { ParityCheck, ParityInputs } from '../parity.js';
import type { Route, RoutingFunction } from './layer.js';

const routeOf = ({ text }: ParityInputs): Route => ({
  function: text('routing').replace('_', '-') as RoutingFunction, feature: 'visual', position: 'bottleneck',
});

/** The files hold [B, S, D] where Scion has [S, B, D]. */
const exchanged = (x: Value): Value => f.transpose(x, [1, 0, 2]);

/** @param values of all parameters of the layer, by their names */
function outputOf(
  layer: RowPlug, { input }: ParityInputs, values: Readonly<Record<string, Value>>,
): ReturnType<ParityCheck['build']> {
  for (const [name, parameter] of layer.parameters()) bindTo(parameter, values[name]!);
  const states = exchanged(input('hidden_states'));
  const [tokens, batch, width] = states.shape as [number, number, number];
  setRoutes(states.graph, { visual: exchanged(input('visual_states')) });
  const rows = layer.forward(f.reshape(states, [tokens * batch, width]));
  const output = exchanged(f.reshape(rows, [tokens, batch, -1]));
  return { outputs: { output }, objective: f.reduceSum(f.mul(output, input('grad_output'))) };
}

export const routingLoraParity: ParityCheck = {
  prefix: 'routing-lora',
  build(inputs) {
    const { input, number } = inputs;
    const weight = f.transpose(input('weight'), [1, 0]);
    const [outputs, width] = weight.shape as [number, number];
    const zeros: Weights = (_, shape) => trained(shape, init.zeros);
    const layer = new GroupedLoraLayer(
      new FusedLinear(zeros, width, outputs, ['q', 'k', 'v']),
      { r: number('r'), scaling: number('alpha') / number('r'), dropout: 0, init: 'uniform', route: routeOf(inputs) },
      ['q', 'v'],
    );
    return outputOf(layer, inputs, {
      'base_layer.weight': weight, 'base_layer.bias': input('bias'),
      'lora_A.weight': input('lora_A'), 'lora_B.weight': input('lora_B'),
    });
  },
};

export const routingAdapterParity: ParityCheck = {
  prefix: 'routing-adapter',
  build(inputs) {
    const { input, text, number } = inputs;
    const layer = new Bottleneck({
      width: input('hidden_states').shape[2]!, bottleneck: number('r'), dropout: 0, scaling: 1, residual: true,
      nonLinearity: text('activation').split(' ')[0] as NonLinearity, route: routeOf(inputs),
    });
    return outputOf(layer, inputs, {
      'down_proj.weight': input('down_weight'), 'down_proj.bias': input('down_bias'),
      'up_proj.weight': input('up_weight'), 'up_proj.bias': input('up_bias'),
    });
  },
};
