/** The options of routing functions, which methods with a low-rank bottleneck share, and the layers that are routed. */
import { z } from 'zod';
import type { Module } from '../../nn/module.js';
import { type Block, blocksOf } from '../../nn/places.js';
import { refuse } from '../backbone-method.js';
import { checkLayers, layerNumbers } from '../towers.js';
import { type Route, type RoutingFunction, routingFeatures, routingFunctions } from './layer.js';

const names = Object.keys(routingFunctions) as RoutingFunction[];

export const routingOptions = {
  routing: z.enum(['none', ...names]).default('none')
    .describe('how the picture is mixed into the bottleneck: x_t + x_v, x_t ∘ x_v, …'),
  routing_feature: z.enum(routingFeatures).optional()
    .describe('visual (default): the picture; text: the mean of the layer\'s tokens; encoder: that of the encoder\'s states'),
  routing_position: z.enum(['bottleneck', 'after']).optional()
    .describe('bottleneck (default): between the projections; after: behind both, for comparisons, as it hurts'),
  layers_to_route: layerNumbers.optional(),
} as const;
/** They say nothing without a function. */
const details = ['routing_feature', 'routing_position', 'layers_to_route'] as const;
export type RoutingConfig = z.output<z.ZodObject<typeof routingOptions>>;

/**
 * What is routed in a layer; undefined where it stays as it is. Layers of pictures are never routed. Nor are those
 * that cannot have the feature: `text` and `self` read all tokens of a text, which a token of a causal layer must not
 * see, and `encoder` is there in layers that attend to one.
 * @param adapted the layers with adapters
 * @throws ScionError of kind `usage` where no layer is left, or a number of a layer is not among them
 */
export function routesOfLayers(
  adapted: readonly Block[], options: RoutingConfig,
): (block?: Block) => Route | undefined {
  const { routing, routing_feature: feature = 'visual', routing_position: position = 'bottleneck' } = options;
  const { layers_to_route: layers } = options;
  if (routing === 'none') {
    const given = details.filter((key) => options[key] !== undefined);
    if (given.length === 0) return () => undefined;
    return refuse(...given.map((key): [string, string] =>
      [key, `${String(options[key])}: nothing is routed with routing none; leave it out, or use routing ${names.join(', ')}`]));
  }
  const texts = adapted.filter(({ kind }) => kind.modality === 'text');
  if (texts.length === 0) {
    refuse(['routing', `${routing}: no transformer layer of a text model is adapted; routing mixes pictures into texts`]);
  }
  const whole = feature === 'text' || routing === 'self';
  const fitting = texts.filter(({ kind }) => !(whole && kind.causal) && (feature !== 'encoder' || kind.cross));
  if (fitting.length === 0 && whole) {
    const [option, value] = routing === 'self' ? ['routing', routing] : ['routing_feature', feature];
    refuse([option, `${value}: reads all tokens of a text, and in every adapted layer a token sees only those before it; `
      + 'use another one']);
  }
  if (fitting.length === 0) {
    refuse(['routing_feature', `${feature}: no adapted layer attends to an encoder; use visual or text`]);
  }
  if (layers) {
    const there = fitting.map(({ kind }) => kind.layer);
    checkLayers('layers_to_route', layers, there, 'layer that can be routed has this number');
  }
  const chosen = new Set(fitting.filter(({ kind }) => layers?.includes(kind.layer) ?? true));
  return (block) => (block && chosen.has(block) ? { function: routing, feature, position } : undefined);
}

/** The layer that a module lies in, by its path. */
export function blockAt(model: Module): (path: string) => Block | undefined {
  const blocks = blocksOf(model);
  return (path) => blocks.find(([parent]) => path.startsWith(`${parent}.`))?.[1];
}
