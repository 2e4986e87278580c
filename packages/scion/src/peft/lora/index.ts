/** LoRA (Hu et al., ICLR 2022, arXiv 2106.09685), with the options and defaults of Python's PEFT. */
import { z } from 'zod';
import { FusedLinear, Linear } from '../../nn/layers.js';
import type { Module } from '../../nn/module.js';
import type { Parameter } from '../../nn/parameter.js';
import { nearest } from '../../util/errors.js';
import { type AttachContext, type BackboneMethod, refuse, unfreeze } from '../backbone-method.js';
import { type Route } from '../routing/layer.js';
import { blockAt, routesOfLayers, routingOptions } from '../routing/index.js';
import { type Adaptable, byPattern, endsWith, findTargets, nameList } from '../targets.js';
import { layerNumbers, towerParameters } from '../towers.js';
import { GroupedLoraLayer } from './grouped.js';
import { DoraLayer, LoraLayer, rowNorms } from './layer.js';

const count = z.number().int().min(1).max(65_536);
const pattern = (of: z.ZodNumber) => z.record(z.string(), of).default({});

/** The options that Python's PEFT has too. */
export const peftOptions = z.strictObject({
  r: count.default(8).describe('rank'),
  lora_alpha: z.number().positive().default(8).describe('the update is scaled by lora_alpha / r'),
  lora_dropout: z.number().min(0).lt(1).default(0).describe('on what enters A, in training'),
  target_modules: nameList.default(['q_proj', 'v_proj'])
    .describe('ends of paths (q_proj,v_proj), a regular expression on whole paths, or all-linear'),
  exclude_modules: nameList.optional().describe('modules that are left out, named like target_modules'),
  bias: z.enum(['none', 'all', 'lora_only']).default('none').describe('which biases are trained too'),
  rank_pattern: pattern(count).describe('r by end of path'),
  alpha_pattern: pattern(z.number().positive()).describe('lora_alpha by end of path'),
  layers_to_transform: layerNumbers.optional(),
  use_rslora: z.boolean().default(false).describe('scale by lora_alpha / √r'),
  use_dora: z.boolean().default(false).describe('train the norms of the weight rows apart from their directions'),
  modules_to_save: z.union([z.array(z.string().min(1)), nameList]).transform((given) => [given].flat()).default([]).describe('modules that are trained whole, by end of path'),
  init_lora_weights: z.union([z.boolean(), z.literal('gaussian')]).default(true)
    .describe('true: A uniform (Kaiming) and B zero; gaussian: A normal with deviation 1/r'),
});

export const loraConfig = peftOptions.extend({
  ...routingOptions,
  fused_parts: nameList.transform((given) => [given].flat()).optional()
    .describe('projections in a fused one (q,v of c_attn) that get factors of their own; default with routing: q,v'),
});
export type LoraConfig = z.output<typeof loraConfig>;

/**
 * Puts LoRA layers into the tree.
 * @param options `strict`: whether keys of patterns that match no target are refused; PEFT ignores them
 */
export async function attachLora(
  model: Module, config: LoraConfig, context: Pick<AttachContext, 'read'>, { strict = true } = {},
): Promise<void> {
  const { r, lora_alpha: alpha, lora_dropout: dropout, use_rslora: rs } = config;
  if (config.init_lora_weights === false) {
    refuse(['init_lora_weights', 'false: random B and A would change the model before training; use true or gaussian']);
  }
  const saved = modulesToSave(model, config.modules_to_save);
  // as in PEFT: what is trained whole gets no low-rank update beside
  const targets = findTargets(model, config).filter(([, module]) => !saved.has(module.weight));
  if (targets.length === 0) refuse(['modules_to_save', 'all targets lie in these modules, and none is left for LoRA']);
  const paths = targets.map(([path]) => path);
  const rankOf = byPattern('rank_pattern', config.rank_pattern, r, paths, strict);
  const alphaOf = byPattern('alpha_pattern', config.alpha_pattern, alpha, paths, strict);
  const routeOf = routesOfTargets(model, targets, config);
  const partsOf = fusedParts(targets, config);
  for (const [path, module] of targets) {
    const [rank, scale] = [rankOf(path), alphaOf(path)];
    const options = {
      r: rank, scaling: scale / (rs ? Math.sqrt(rank) : rank), dropout,
      init: config.init_lora_weights === 'gaussian' ? 'gaussian' : 'uniform', route: routeOf(path),
    } as const;
    const parts = partsOf(module);
    let layer: LoraLayer;
    if (config.use_dora) layer = new DoraLayer(module, options, rowNorms(await context.read(module.weight)));
    else layer = parts ? new GroupedLoraLayer(module as FusedLinear, options, parts) : new LoraLayer(module, options);
    model.replace(path, () => layer);
  }
  await unfreeze([...saved, ...biases(model, config.bias, targets.map(([, module]) => module))], context);
  model.named();
}

type Targets = readonly [path: string, module: Adaptable][];

/** What is routed in a target. */
function routesOfTargets(model: Module, targets: Targets, config: LoraConfig): (path: string) => Route | undefined {
  if (config.routing !== 'none' && config.use_dora) {
    refuse(['use_dora', `true: DoRA changes a weight, which has no bottleneck for routing ${config.routing}; use one`]);
  }
  const at = blockAt(model);
  const linear = targets.filter(([, module]) => module instanceof Linear);
  const routeOf = routesOfLayers([...new Set(linear.flatMap(([path]) => at(path) ?? []))], config);
  return (path) => routeOf(at(path));
}

/** The parts of a fused projection that get factors of their own; undefined where PEFT's plain form is meant. */
function fusedParts(targets: Targets, config: LoraConfig): (module: Adaptable) => string[] | undefined {
  const { fused_parts: given, routing, use_dora: dora } = config;
  const fused = targets.flatMap(([, module]) => (module instanceof FusedLinear ? [module] : []));
  if (given && dora) refuse(['use_dora', 'true: DoRA has no factors for parts of a projection; leave out fused_parts']);
  if (given && fused.length === 0) {
    refuse(['fused_parts', `${given.join(', ')}: no target is a fused projection; leave it out, and name projections in `
      + 'target_modules']);
  }
  const wanted = given ?? (routing === 'none' ? undefined : ['q', 'v']);
  for (const { projections } of wanted ? fused : []) {
    const unknown = wanted!.filter((part) => !projections.includes(part));
    if (unknown.length === 0) continue;
    refuse(['fused_parts', `${unknown.join(', ')}: there are ${projections.join(', ')} in the fused projection`]);
  }
  return (module) => (wanted && module instanceof FusedLinear
    ? module.projections.filter((part) => wanted.includes(part)) : undefined);
}

function modulesToSave(model: Module, wanted: readonly string[]): Set<Parameter> {
  const all = [...model.modules()].filter(([path]) => path !== '');
  return new Set(wanted.flatMap((name) => {
    const found = all.filter(([path]) => endsWith(path, name));
    if (found.length === 0) {
      const ends = [...new Set(all.map(([path]) => path.split('.').at(-1)!))];
      refuse(['modules_to_save',
        `${JSON.stringify(name)} is the end of no module's path; there are ${nearest(name, ends).join(', ')}`]);
    }
    return found.flatMap(([, module]) => [...module.parameters()].map(([, p]) => p));
  }));
}

function biases(model: Module, which: LoraConfig['bias'], targets: readonly Adaptable[]): Parameter[] {
  if (which === 'none') return [];
  if (which === 'lora_only') return targets.flatMap(({ bias }) => (bias ? [bias] : []));
  return towerParameters(model, 'both').filter(([name]) => /(^|\.)bias$/.test(name)).map(([, p]) => p);
}

export const lora: BackboneMethod<typeof loraConfig> = {
  name: 'lora',
  title: 'LoRA',
  paper: 'https://arxiv.org/abs/2106.09685',
  summary: 'low-rank updates of linear layers and convolutions in both towers',
  needsText: false,
  config: loraConfig,
  training: { optimizer: 'adamw', lr: 1e-3, epochs: 30, batch_size: 32, schedule: 'cosine', augment: true },
  attach: (model, config, context) => attachLora(model, config, context),
};

/** The few-shot recipe of Zanella and Ben Ayed (CVPRW 2024, arXiv 2405.18541). */
export const clipLora: BackboneMethod<typeof loraConfig> = {
  ...lora,
  name: 'clip-lora',
  title: 'CLIP-LoRA',
  paper: 'https://arxiv.org/abs/2405.18541',
  summary: 'LoRA of rank 2 on queries, keys and values of both towers, trained 500 steps for each shot',
  config: loraConfig.extend({
    r: loraConfig.shape.r.unwrap().default(2),
    lora_alpha: loraConfig.shape.lora_alpha.unwrap().default(1),
    lora_dropout: loraConfig.shape.lora_dropout.unwrap().default(0.25),
    use_rslora: loraConfig.shape.use_rslora.unwrap().default(true), // as its code: lora_alpha / √r
    target_modules: nameList.default(['q_proj', 'k_proj', 'v_proj']),
  }),
  training: {
    optimizer: 'adamw', lr: 2e-4, weight_decay: 0.01, epochs: 50, steps_per_shot: 500, batch_size: 32,
    schedule: 'cosine', augment: true,
  },
};
