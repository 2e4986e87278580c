/** The one way in which passes change a graph: it is rebuilt node by node, dead nodes left out. */
import { Graph, type Node, type Value, liveNodes } from '../ir/graph.js';
import { apply } from '../ops/build.js';

/** Gives the values that replace a node's outputs, built in the new graph; undefined copies the node. */
export type Rule = (node: Node, inputs: readonly Value[]) => readonly Value[] | undefined;

/** Copies an input or a constant of another graph. */
export function copyLeaf(v: Value, to: Graph): Value {
  if (v.source.kind === 'input') return to.input(v.source.name, v.dtype, v.shape, v.source.role);
  if (v.source.kind !== 'constant') throw new Error('not a leaf');
  const { data, name } = v.source;
  if ('path' in data) return to.external(name, v, data);
  // a name that a graph gave by itself is given anew, since values are numbered differently there
  return to.constant(data, data.data.length > 16 && !/^constant_\d+$/.test(name) ? name : undefined);
}

/** Rebuilds a graph under a rule. Inputs that nothing depends on disappear. */
export function rewrite(graph: Graph, rule: Rule = () => undefined): Graph {
  const result = new Graph();
  const live = liveNodes(graph);
  const map = new Map<Value, Value>();
  const used = new Set<Value>([...[...live].flatMap((n) => n.inputs), ...graph.outputs.values()]);
  for (const v of [...graph.inputs, ...graph.constants]) if (used.has(v)) map.set(v, copyLeaf(v, result));
  for (const node of graph.nodes) {
    if (!live.has(node)) continue;
    const inputs = node.inputs.map((v) => map.get(v)!);
    const outputs = result.at(node.path, () => rule(node, inputs) ?? apply(node.op, inputs, node.attributes));
    node.outputs.forEach((v, i) => map.set(v, outputs[i]!));
  }
  for (const [name, v] of graph.outputs) result.output(name, map.get(v)!);
  return result;
}
