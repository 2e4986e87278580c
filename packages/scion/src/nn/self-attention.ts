/** Self-attention of a block whose four projections have names of their own. */
import type { Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { attention } from './layers.js';
import type { AttentionPlug, BlockContext } from './places.js';

export type AttentionPart = 'q_proj' | 'k_proj' | 'v_proj' | 'out_proj';

/**
 * @param x [tokens · batch, width], row = token · batch + example
 * @param project rows through the block's projection of this name
 */
export function selfAttention(
  x: Value, { batch, mask, cache }: BlockContext, heads: number, project: (part: AttentionPart, x: Value) => Value,
  prefix?: AttentionPlug,
): Value {
  const queries = project('q_proj', x);
  const own = { keys: project('k_proj', x), values: project('v_proj', x) };
  const { keys, values } = cache ? cache.extend(own.keys, own.values) : own;
  const mixed = attention(queries, keys, values, { tokens: x.shape[0]! / batch, batch, heads }, mask);
  const more = prefix && x.graph.within('prefix', () => prefix.forward(queries, project, batch));
  return project('out_proj', more ? b.add(mixed, more) : mixed);
}
