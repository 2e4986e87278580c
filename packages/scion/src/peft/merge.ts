/** What an adapted model's weights are once the adapter is added to them. */
import type { Module } from '../nn/module.js';
import type { Parameter } from '../nn/parameter.js';
import { ScionError, assert } from '../util/errors.js';
import type { Tensor } from '../util/tensor.js';
import { type AttachContext, type Values, isMergeable, obstacleOf } from './backbone-method.js';

/** What wraps a module keeps it under this name, as in Python's PEFT. */
export const baseLayer = 'base_layer';

/** The name that a parameter of an adapted model has in the model without the adapter. */
export const baseName = (name: string): string => name.split('.').filter((part) => part !== baseLayer).join('.');

/** Whether a parameter is trained and no part of the checkpoint. */
const isNew = ({ origin }: Parameter): boolean => origin.kind === 'trained' && origin.before === undefined;

/**
 * The parameters of the model that training has changed, with the adapter added to them, by their names in the model
 * without it. Put into the checkpoint in the place of the old ones, they give the outputs of the adapted model.
 * @param model as `attach` has left it, not frozen
 * @param values of its trained parameters
 * @throws ScionError of kind `usage` that names what is no change of weights, such as bottleneck adapters and prompts
 */
export async function mergedWeights(
  model: Module, context: Pick<AttachContext, 'read'>, values: Values,
): Promise<Map<string, Tensor<'float32'>>> {
  const trained = [...model.parameters()].map(([, p]) => p).filter(({ origin }) => origin.kind === 'trained');
  assert(trained.length > 0, 'a model without trained parameters is to be merged');
  const others = unmergeable(model);
  if (others.length > 0) {
    const named = others.slice(0, 3).join(', ') + (others.length > 3 ? ` and ${others.length - 3} more` : '');
    const [why = 'they are no change of weights that the model has'] =
      [...model.modules()].flatMap(([, module]) => obstacleOf(module) ?? []);
    throw new ScionError('usage', [{
      path: 'merge',
      message: `${named} cannot be merged: ${why}; keep the adapter beside the `
        + 'model, or train a method that changes weights (lora, bitfit, layernorm-tuning, full-finetuning)',
    }]);
  }
  const merged = new Map<string, Tensor<'float32'>>();
  for (const p of trained) if (!isNew(p)) merged.set(baseName(p.name), values(p.name));
  for (const [, module] of model.modules()) {
    if (!isMergeable(module)) continue;
    for (const [p, value] of await module.merge(context, values)) merged.set(baseName(p.name), value);
  }
  return merged;
}

/** The paths of what `attach` has put into a model and what is no change of its weights. */
export function unmergeable(model: Module): string[] {
  const mergeable = [...model.modules()].filter(([, module]) => isMergeable(module)).map(([path]) => path);
  const below = (path: string, parent: string): boolean => path === parent || path.startsWith(`${parent}.`);
  const plugs: string[] = [];
  for (const [path, module] of model.modules()) {
    if ([...mergeable, ...plugs].some((parent) => below(path, parent))) continue;
    const parameters = [...module.parameters()].map(([, p]) => p);
    // the outermost module that is new as a whole is the one to name
    const whole = obstacleOf(module) !== undefined || parameters.length > 0 && parameters.every((p) => isNew(p) || p.origin.kind === 'setting');
    const own = [...module.parameters()].some(([name, p]) => !name.includes('.') && isNew(p));
    if (whole || own) plugs.push(path);
  }
  return plugs;
}
