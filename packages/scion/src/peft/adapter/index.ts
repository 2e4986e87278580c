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
import type { BlockPlace } from '../../nn/places.js';
import { type BackboneMethod, refuse } from '../backbone-method.js';
import { Bottleneck, type NonLinearity, nonLinearities } from '../bottleneck/layer.js';
import { findBlocks, layerNumbers, modality } from '../towers.js';

interface Placement {
  places: readonly BlockPlace[];
  /** What the paper uses, unless the recipe says otherwise. */
  reductionFactor: number;
  nonLinearity: NonLinearity;
  scaling: number;
}

/** 64 of BERT-large's 1024 features are 1/16, 512 of BART-large's are 1/2. Houlsby's code has GELU. */
const placements = {
  houlsby: {
    places: ['attention_output', 'feed_forward_output'], reductionFactor: 16, nonLinearity: 'gelu', scaling: 1,
  },
  pfeiffer: { places: ['feed_forward_output'], reductionFactor: 16, nonLinearity: 'relu', scaling: 1 },
  parallel: { places: ['beside_feed_forward'], reductionFactor: 2, nonLinearity: 'relu', scaling: 4 },
} as const satisfies Record<string, Placement>;

/** What the papers use at each placement, for the help. */
const published = (of: (p: Placement) => string | number): string =>
  `default: ${Object.entries(placements).map(([name, p]) => `${of(p)} (${name})`).join(', ')}`;
const names = <T extends object>(table: T): [keyof T & string] => Object.keys(table) as [keyof T & string];

export const adapterConfig = z.strictObject({
  placement: z.enum(names(placements)).default('houlsby')
    .describe('houlsby: after attention and feed-forward; pfeiffer: after feed-forward; parallel: beside feed-forward'),
  reduction_factor: z.number().positive().optional()
    .describe(`features of a token over those of the bottleneck; ${published((p) => p.reductionFactor)}`),
  bottleneck_dim: z.number().int().min(1).max(65_536).optional()
    .describe('features of the bottleneck, in the place of reduction_factor'),
  non_linearity: z.enum(names(nonLinearities)).optional()
    .describe(`between down- and up-projection; ${published((p) => p.nonLinearity)}`),
  scaling: z.number().positive().optional()
    .describe(`factor on what the up-projection makes; ${published((p) => p.scaling)}`),
  dropout: z.number().min(0).lt(1).default(0).describe('on the bottleneck, in training'),
  layers_to_transform: layerNumbers.optional(),
  modality,
});

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
    const { places, ...usual } = placements[config.placement];
    const factor = given ?? usual.reductionFactor;
    for (const [, block] of findBlocks(model, config.modality, config.layers_to_transform)) {
      const { width } = block.kind;
      for (const place of places) {
        block.plug(place, new Bottleneck({
          width, bottleneck: dim ?? Math.max(1, Math.floor(width / factor)), dropout,
          nonLinearity: config.non_linearity ?? usual.nonLinearity, scaling: config.scaling ?? usual.scaling,
          residual: place !== 'beside_feed_forward',
        }));
      }
    }
    model.named();
  },
};
