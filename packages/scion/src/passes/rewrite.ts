/** The one way in which passes change a graph: it is rebuilt node by node, dead nodes left out. */
import { Graph, type Node, type Value } from '../ir/graph.js';
import { apply } from '../ops/build.js';

/** Gives the values that replace a node's outputs, built in the new graph; undefined copies the node. */
export type Rule = (node: Node, inputs: readonly Value[]) => readonly Value[] | undefined;

/** The nodes that outputs depend on. */
export function liveNodes(graph: Graph): Set<Node> {
  const live = new Set<Node>();
  const visit = (v: Value): void => {
    const stack = [v];
    for (let top = stack.pop(); top; top = stack.pop()) {
      if (top.source.kind !== 'node' || live.has(top.source.node)) continue;
      live.add(top.source.node);
      stack.push(...top.source.node.inputs);
    }
  };
  for (const v of graph.outputs.values()) visit(v);
  return live;
}

/** Copies an input or a constant of another graph. */
export function copyLeaf(v: Value, to: Graph): Value {
  if (v.source.kind === 'input') return to.input(v.source.name, v.dtype, v.shape, v.source.role);
  if (v.source.kind !== 'constant') throw new Error('not a leaf');
  const { data, name } = v.source;
  return 'path' in data ? to.external(name, v, data) : to.constant(data, data.data.length > 16 ? name : undefined);
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
