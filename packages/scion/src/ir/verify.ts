/** Checks that a graph is well formed: passes call it in tests, and the compiler before it emits. */
import { assert } from '../util/errors.js';
import { byteSize, numel } from '../util/tensor.js';
import type { Graph, Value } from './graph.js';
import { printType, valueName } from './print.js';

/**
 * Throws on a value used before it is computed, a foreign value, a name given twice, or an external range
 * of the wrong size.
 */
export function verifyGraph(graph: Graph): void {
  const defined = new Set<Value>([...graph.inputs, ...graph.constants]);
  for (const v of graph.constants) {
    if (v.source.kind === 'constant' && 'path' in v.source.data) {
      const expected = numel(v.shape) * byteSize(v.dtype);
      assert(v.source.data.byteLength === expected,
        `${v.source.name}: ${v.source.data.byteLength} bytes for ${printType(v)}, expected ${expected}`);
    }
  }
  for (const node of graph.nodes) {
    for (const v of node.inputs) {
      assert(defined.has(v), `${node.op} uses ${valueName(v)} before it is computed`);
    }
    for (const v of node.outputs) defined.add(v);
  }
  const leaves = new Map([...graph.inputs, ...graph.constants].map((v) => [valueName(v), v]));
  for (const [name, v] of graph.outputs) {
    assert(defined.has(v), `output ${name} is not computed`);
    assert((leaves.get(name) ?? v) === v, `output ${name} has the name of an input or constant`);
  }
}
