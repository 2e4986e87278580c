/** The reference evaluator: runs a graph in float64, slowly and by definition. The oracle of the tests. */
import { type Graph, type Value, constantData } from '../ir/graph.js';
import { assert } from '../util/errors.js';
import { toFloat64 } from '../util/tensor.js';
import type { RefTensor } from './def.js';
import { opDef } from './table.js';

/** Feeds are doubles by input name; gives every output by name. */
export function evaluateGraph(graph: Graph, feeds: Readonly<Record<string, Float64Array>>): Record<string, RefTensor> {
  const values = new Map<Value, RefTensor>();
  for (const v of graph.inputs) {
    if (v.source.kind !== 'input') continue;
    const data = feeds[v.source.name];
    assert(data, `no value for input ${v.source.name}`);
    values.set(v, { dtype: v.dtype, shape: v.shape, data });
  }
  for (const v of graph.constants) {
    const data = constantData(v);
    assert(data, 'the reference evaluator does not read external data');
    values.set(v, { dtype: v.dtype, shape: v.shape, data: toFloat64(data) });
  }
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((v) => values.get(v)!);
    const results = opDef(node.op).evaluate(inputs, node.attributes, node.outputs);
    node.outputs.forEach((v, i) => values.set(v, { dtype: v.dtype, shape: v.shape, data: results[i]! }));
  }
  return Object.fromEntries([...graph.outputs].map(([name, v]) => [name, values.get(v)!]));
}
