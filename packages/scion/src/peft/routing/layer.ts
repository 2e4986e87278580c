/**
 * Routing functions (Qu, Tuytelaars and Moens, ECCV 2024, arXiv 2403.09377): linear operations without trained numbers
 * that mix a feature of the picture into the low-rank bottleneck of an adapter of the text.
 */
import type { Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { type Routes, routesOf } from '../../nn/routes.js';
import { assert } from '../../util/errors.js';
import { refuse } from '../backbone-method.js';

/** Texts t [S, B, r] and what is routed, v [n, B, r] → [S, B, r] */
type Mix = (t: Value, v: Value) => Value;

/** The functions that take one row of each example take the mean of several, as of the patches of a picture. */
const one = (v: Value): Value => (v.shape[0] === 1 ? v : f.reduceMean(v, [0], 1));

const sumOfProducts = (a: Value, b: Value): Value => f.reduceSum(f.mul(a, b), [2], 1);

/** a keysᵀ values by example, with the transpose over the n rows. */
function attend(a: Value, keys: Value, values: Value): Value {
  if (keys.shape[0] === 1) return f.mul(sumOfProducts(a, keys), values);
  const scores = f.fusedMatMul(a, keys, { transBatchA: 1, transBatchB: 1, transB: 1 }); // [B, S, n]
  return f.transpose(f.fusedMatMul(scores, values, { transBatchB: 1 }), [1, 0, 2]);
}

/**
 * `x_t x_tᵀ x'_v` as the authors' code computes it: what stands for x_tᵀ is x_t [S, r] of an example read as [r, S], row
 * by row, without a transpose. All rows of x'_v are v, so that its product with x'_v is the sums of its rows times v.
 */
function self(t: Value, v: Value): Value {
  const [tokens, batch, r] = t.shape as [number, number, number];
  const sums = f.reduceSum(f.reshape(f.transpose(t, [1, 0, 2]), [batch, r, tokens]), [2]);
  return f.mul(sumOfProducts(t, f.reshape(sums, [1, batch, r])), one(v));
}

/** By the names of the options, in the paper's notation: x_t of the text, x_v of the picture, x'_v of it for every token. */
export const routingFunctions = {
  /** x_t + x'_v */
  'add': (t, v) => f.add(t, one(v)),
  /** x_t ∘ x'_v */
  'mul': (t, v) => f.mul(t, one(v)),
  /** x_t x''_v, where x''_v is r rows of x_v: the sum of the text's features, times x_v */
  'expand': (t, v) => f.mul(f.reduceSum(t, [2], 1), one(v)),
  /** x_t x_vᵀ x_v */
  'attend': (t, v) => attend(t, v, v),
  /** relu(x_t) relu(x_v)ᵀ x_v */
  'attend-relu': (t, v) => attend(f.relu(t), f.relu(v), v),
  self,
} as const satisfies Record<string, Mix>;
export type RoutingFunction = keyof typeof routingFunctions;

/** `visual`: the picture. `text`: the mean of the layer's own tokens. `encoder`: the mean of the encoder's states. */
export const routingFeatures = ['visual', 'text', 'encoder'] as const;
export type RoutingFeature = (typeof routingFeatures)[number];

export interface Route {
  function: RoutingFunction;
  feature: RoutingFeature;
  /** Between the two projections, or behind both. */
  position: 'bottleneck' | 'after';
}

/** A projection of rows; `part` tells the dropout of what is routed from that of the text. */
export type Project = (rows: Value, part: '' | '.routed') => Value;

/**
 * `up(route(down x, down v))`: text and feature go through the same projections.
 * @param x [tokens · batch, width], row = token · batch + example
 * @param route none: `up(down x)`
 * @throws ScionError of kind `usage` where the graph has no such feature, or one of another width
 */
export function routed(x: Value, route: Route | undefined, down: Project, up: Project): Value {
  if (!route) return up(down(x, ''), '');
  const feature = featureOf(x, route);
  const [rows, batch, width] = feature.shape as [number, number, number];
  if (width !== x.shape[1]) {
    refuse(['routing', `${route.function}: the ${route.feature} feature has ${width} numbers and the adapted layer reads `
      + `${x.shape[1]}, but both go through the same down-projection; adapt layers that read ${width} numbers`]);
  }
  const v = f.reshape(feature, [rows * batch, width]);
  const mix = (t: Value, u: Value): Value => {
    const split = (z: Value): Value => f.reshape(z, [-1, batch, z.shape[1]!]);
    return f.reshape(routingFunctions[route.function](split(t), split(u)), t.shape);
  };
  const [t, u] = [down(x, ''), down(v, '.routed')];
  return route.position === 'bottleneck' ? up(mix(t, u), '') : mix(up(t, ''), up(u, '.routed'));
}

/** [n, B, d] of a graph for rows x [tokens · B, d] */
function featureOf(x: Value, { function: name, feature: kind }: Route): Value {
  const routes = routesOf(x.graph);
  if (kind === 'text') {
    const { batch } = routes;
    assert(batch !== undefined, 'rows outside of a block have no known batch');
    return meanOfTokens(f.reshape(x, [-1, batch, x.shape[1]!]), routes);
  }
  const feature = routes[kind] ?? refuse(['routing', `${name}: ${absent[kind]}, or set routing: none`]);
  const examples = feature.shape[1]!;
  assert(x.shape[0]! % examples === 0 && (routes.batch ?? examples) === examples,
    `a ${kind} feature of ${examples} examples for ${x.shape[0]} rows of a batch of ${routes.batch}`);
  return kind === 'encoder' ? meanOfTokens(feature, routes) : feature;
}

const absent: Readonly<Record<Exclude<RoutingFeature, 'text'>, string>> = {
  visual: 'needs a picture beside each text, which this model does not have; train a model of both together (tasks vqa '
    + 'and caption)',
  encoder: 'needs the states of an encoder, which this model does not have; set routing_feature: visual',
};

/** [T, B, d] → [1, B, d]; padding does not count. */
function meanOfTokens(tokens: Value, { mask }: Routes): Value {
  if (!mask) return f.reduceMean(tokens, [0], 1);
  const [count, batch] = tokens.shape as [number, number];
  assert(mask.shape.join() === [batch, count].join(),
    `a mask [${mask.shape.join(', ')}] for ${count} tokens of ${batch} examples`);
  const weights = f.reshape(f.transpose(mask, [1, 0]), [count, batch, 1]);
  const sum = f.reduceSum(f.mul(tokens, weights), [0], 1);
  return f.div(sum, f.maximum(f.reduceSum(weights, [0], 1), 1));
}
