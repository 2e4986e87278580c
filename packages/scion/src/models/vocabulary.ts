/** How many tokens a text tower knows, from the program that it builds. */
import { Graph, type Value, producer } from '../ir/graph.js';
import type { DualBackbone } from './index.js';

/** Rows of the table that token ids are looked up in; undefined where they go another way. */
export function vocabularySize(backbone: DualBackbone): number | undefined {
  const graph = new Graph();
  const ids = graph.input('ids', 'int64', [2, backbone.textLength]);
  backbone.textFeatures(ids);
  const isIds = (v: Value): boolean => {
    const node = producer(v);
    return v === ids || (['Cast', 'Expand', 'Reshape', 'Transpose'].includes(node?.op ?? '') && isIds(node!.inputs[0]!));
  };
  const lookup = graph.nodes.find(({ op, inputs }) => op === 'Gather' && isIds(inputs[1]!));
  return lookup?.inputs[0]!.shape[0];
}
