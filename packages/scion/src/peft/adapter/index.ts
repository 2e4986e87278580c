/**
 * Bottleneck adapters in transformer layers: serial ones after both parts of a layer (Houlsby et al., ICML 2019, arXiv
 * 1902.00751, section 2.1) or after the feed-forward part alone (Pfeiffer et al., EACL 2021, arXiv 2005.00247, section
 * 3 and appendix A), and parallel ones (He et al., ICLR 2022, arXiv 2110.04366, sections 3.3 and 4).
 *
 * Those papers adapt layers that normalise what has been added up. In the layers of CLIP, which begin with their norms:
 * - `houlsby`: `x + A(attention(norm x))`, then `x + A(mlp(norm x))`, A(h) = h + up(act(down h)): on what comes out of
 *   a part, after its output projection and before it is added to the part's input, as in the paper's figure 2;
 * - `pfeiffer`: the second of these alone;
 * - `parallel`: `x + mlp(norm x) + s · up(act(down x))`: x is what the layer hands on beside the part, before the norm,
 *   as AdaptFormer and the `adapters` library read it.
 *
 * Otherwise than with Houlsby et al. the up-projection starts at 0, not near it, so that training starts from the model
 * itself, and LayerNorms stay as they are (`layernorm-tuning` trains them).
 */
import { z } from 'zod';
import type { Block, BlockPart, BlockPlace } from '../../nn/places.js';
import { type BackboneMethod, refuse } from '../backbone-method.js';
import { Bottleneck, type NonLinearity, nonLinearities } from '../bottleneck/layer.js';
import { routesOfLayers, routingOptions } from '../routing/index.js';
import { findBlocks, layerNumbers, modality } from '../towers.js';

interface Placement {
  /** The parts of a layer that something is put after, or beside. */
  parts: readonly BlockPart[];
  /** What the paper uses, unless the recipe says otherwise. */
  reductionFactor: number;
  nonLinearity: NonLinearity;
  scaling: number;
}

/** 64 of BERT-large's 1024 features are 1/16, 512 of BART-large's are 1/2. Houlsby's code has GELU. */
const placements = {
  houlsby: {
    parts: ['attention', 'feed_forward'], reductionFactor: 16, nonLinearity: 'gelu', scaling: 1,
  },
  pfeiffer: { parts: ['feed_forward'], reductionFactor: 16, nonLinearity: 'relu', scaling: 1 },
  parallel: { parts: ['feed_forward'], reductionFactor: 2, nonLinearity: 'relu', scaling: 4 },
} as const satisfies Record<string, Placement>;

/** What a serial adapter reads of a part, as the end of the name of its place. */
const positions = { post_module: 'output', pre_norm: 'pre_norm', post_norm: 'post_norm' } as const;

/** What the papers use at each placement, for the help. */
const published = (of: (p: Placement) => string | number): string =>
  `default: ${Object.entries(placements).map(([name, p]) => `${of(p)} (${name})`).join(', ')}`;
const names = <T extends object>(table: T): [keyof T & string] => Object.keys(table) as [keyof T & string];

export const adapterConfig = z.strictObject({
  placement: z.enum(names(placements)).default('houlsby')
    .describe('houlsby: after attention and feed-forward; pfeiffer: after feed-forward; parallel: beside feed-forward'),
  position: z.enum(names(positions)).default('post_module')
    .describe('of a part: on what comes out of it, or before or after its norm; not with parallel'),
  reduction_factor: z.number().positive().optional()
    .describe(`features of a token over those of the bottleneck; ${published((p) => p.reductionFactor)}`),
  bottleneck_dim: z.number().int().min(1).max(65_536).optional()
    .describe('features of the bottleneck, in the place of reduction_factor'),
  non_linearity: z.enum(['model', ...names(nonLinearities)]).optional()
    .describe(`between down- and up-projection, model: that of the layer; ${published((p) => p.nonLinearity)}`),
  scaling: z.number().positive().optional()
    .describe(`factor on what the up-projection makes; ${published((p) => p.scaling)}`),
  dropout: z.number().min(0).lt(1).default(0).describe('on the bottleneck, in training'),
  layers_to_transform: layerNumbers.optional(),
  modality,
  ...routingOptions,
});

function activationOf({ kind }: Block, name: NonLinearity | 'model'): NonLinearity {
  if (name !== 'model') return name;
  if (Object.hasOwn(nonLinearities, kind.activation)) return kind.activation as NonLinearity;
  return refuse(['non_linearity', `model: adapters do not have its activation ${kind.activation}; there are `
    + names(nonLinearities).join(', ')]);
}

export const adapter: BackboneMethod<typeof adapterConfig> = {
  name: 'adapter',
  title: 'Adapter',
  paper: 'https://arxiv.org/abs/1902.00751',
  summary: 'bottlenecks of two linear layers, after or beside the parts of every transformer layer',
  needsText: false,
  config: adapterConfig,
  training: {
    optimizer: 'adam', lr: 3e-4, epochs: 20, batch_size: 32, schedule: 'linear', warmup_epochs: 2, augment: true,
  },
  attach(model, config) {
    const { reduction_factor: given, bottleneck_dim: dim, dropout } = config;
    if (given !== undefined && dim !== undefined) {
      refuse(['bottleneck_dim',
        `${dim}: reduction_factor ${given} says the width of the bottleneck too; give one of them`]);
    }
    const { placement, position } = config;
    if (placement === 'parallel' && position !== 'post_module') {
      refuse(['position', `${position}: the parallel placement is beside a part; use placement houlsby or pfeiffer`]);
    }
    const { parts, ...usual } = placements[placement];
    const places = parts.map((part): BlockPlace =>
      (placement === 'parallel' ? `beside_${part as 'feed_forward'}` : `${part}_${positions[position]}`));
    const factor = given ?? usual.reductionFactor;
    const blocks = findBlocks(model, config.modality, config.layers_to_transform).map(([, block]) => block);
    const routeOf = routesOfLayers(blocks, config);
    for (const block of blocks) {
      const { width } = block.kind;
      for (const place of places) {
        block.plug(place, new Bottleneck({
          width, bottleneck: dim ?? Math.max(1, Math.floor(width / factor)), dropout,
          nonLinearity: activationOf(block, config.non_linearity ?? usual.nonLinearity),
          scaling: config.scaling ?? usual.scaling, residual: placement !== 'parallel', route: routeOf(block),
        }));
      }
    }
    model.named();
  },
};
