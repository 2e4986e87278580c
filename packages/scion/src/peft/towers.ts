/** The towers of a model and the transformer layers in them, told by structure and name alone. */
import { z } from 'zod';
import { type Block, type Modality, blocksOf } from '../nn/places.js';
import type { Module } from '../nn/module.js';
import type { Parameter } from '../nn/parameter.js';
import { refuse } from './backbone-method.js';

/** The towers that a method changes. A model of pictures alone has one, which `both` means too. */
export const modality = z.enum(['both', 'text', 'vision']).default('both').describe('which towers are adapted');
export type Towers = z.output<typeof modality>;

/** Numbers of layers, from 0 on; one of them may stand alone. */
export const layerNumbers = z
  .union(
    [
      z.number().int().min(0).transform((n) => [n]), z.array(z.number().int().min(0)).min(1),
      z.string().regex(/^\d+(,\d+)*$/).transform((text) => text.split(',').map(Number)),
    ],
    'expected a number of a layer, from 0 on, or a list of them',
  )
  .describe('numbers of the layers, from 0 on; all where absent');

const titles: Readonly<Record<Modality, string>> = { text: 'text tower', vision: 'image tower' };

/** The tower of a module or parameter by its path; undefined for what belongs to neither, as the factor on cosines. */
export function modalityOf(path: string): Modality | undefined {
  if (/^text_/.test(path)) return 'text';
  return path.includes('.') ? 'vision' : undefined;
}

const chosen = (of: Modality | undefined, towers: Towers): boolean =>
  of !== undefined && (towers === 'both' || of === towers);

/** Whether a parameter is a bias, by its name; a packed projection has one for several, `in_proj_bias`. */
export const isBias = (name: string): boolean => /[._]bias$/.test(name);

/** The modules of the towers, with their paths. */
export function modulesOf(model: Module, towers: Towers): [path: string, module: Module][] {
  towerParameters(model, towers);
  return [...model.modules()].filter(([path]) => path !== '' && chosen(modalityOf(`${path}.`), towers));
}

/**
 * The parameters of the towers, with their full names.
 * @throws ScionError where the model has no such tower
 */
export function towerParameters(model: Module, towers: Towers): [name: string, parameter: Parameter][] {
  const found = [...model.parameters()].filter(([name]) => chosen(modalityOf(name), towers));
  if (found.length === 0) refuse(['modality', `${towers}: this model has no ${titles[towers as Modality]}; use both`]);
  return found;
}

/** Methods that find their targets in models without transformer layers too. */
const elsewhere = 'lora, bitfit, layernorm-tuning, full-finetuning';

/**
 * The transformer layers of the towers, with their paths. For `both`, one tower with layers is enough.
 * @param key the option with the numbers of the layers, for messages
 * @throws ScionError where a tower is missing or has no transformer layers, or a number of a layer
 */
export function findBlocks(
  model: Module, towers: Towers, layers?: readonly number[], key = 'layers_to_transform',
): [path: string, block: Block][] {
  towerParameters(model, towers);
  const all = blocksOf(model);
  const blocks = all.filter(([, { kind }]) => chosen(kind.modality, towers));
  if (blocks.length === 0) {
    const where = towers === 'both' ? 'no tower of this model has' : `the ${titles[towers]} of this model has no`;
    const other = all[0]?.[1].kind.modality;
    refuse(['modality', `${towers}: ${where} transformer layers, which are what this method adapts; `
      + `use ${other ? `modality ${other}, or ` : ''}a method that needs none: ${elsewhere}`]);
  }
  if (layers === undefined) return blocks;
  checkLayers(key, layers, blocks.map(([, { kind }]) => kind.layer), 'transformer layer has this number');
  return blocks.filter(([, { kind }]) => layers.includes(kind.layer));
}

/**
 * @param none what is not the case of a layer that is missing: "no …"
 * @throws ScionError that lists the wanted layers that are not among those there
 */
export function checkLayers(key: string, wanted: readonly number[], there: readonly number[], none: string): void {
  const missing = wanted.filter((layer) => !there.includes(layer));
  if (missing.length === 0) return;
  const known = [...new Set(there)].filter((n) => n >= 0).sort((a, b) => a - b);
  refuse([key, `${missing.join(', ')}: no ${none}; `
    + (known.length > 1 ? `there are ${known.join(', ')}`
      : known.length > 0 ? `there is ${known[0]} alone` : 'what is adapted lies in no numbered layers')]);
}
