/** Splits off what does not change from step to step, to be computed once before training. */
import { Graph, type Node, type Value, liveNodes } from '../ir/graph.js';
import { assert } from '../util/errors.js';
import { copyLeaf, rewrite } from './rewrite.js';

export interface Hoisted {
  /** Computes the frozen values; undefined where there is nothing to compute. */
  prologue: Graph | undefined;
  /** The step, with the prologue's outputs as frozen inputs of the same names. */
  step: Graph;
}

/**
 * A node is hoisted where it depends on frozen inputs and constants alone, and on at least one frozen input: what
 * depends on constants alone ONNX Runtime folds by itself, so either side computes what it needs of that.
 * @param mayMove which nodes may be hoisted at all
 */
export function hoistFrozen(graph: Graph, mayMove: (node: Node) => boolean = () => true): Hoisted {
  const live = liveNodes(graph);
  const nodes = graph.nodes.filter((n) => live.has(n));
  const still = new Map<Value, boolean>(); // value → depends on a frozen input
  for (const v of graph.constants) still.set(v, false);
  for (const v of graph.inputs) if (v.source.kind === 'input' && v.source.role === 'frozen') still.set(v, true);
  const unchanging = new Set<Node>(); // hoisted ones, and those that depend on constants alone
  const hoisted = new Set<Node>();
  for (const n of nodes) {
    if (!mayMove(n) || !n.inputs.every((v) => still.has(v))) continue;
    const frozen = n.inputs.some((v) => still.get(v));
    n.outputs.forEach((v) => still.set(v, frozen));
    unchanging.add(n);
    if (frozen) hoisted.add(n);
  }
  // what the step, or the caller, still needs of the hoisted part
  const border = new Set<Value>();
  const isHoisted = (v: Value): boolean => v.source.kind === 'node' && hoisted.has(v.source.node);
  for (const n of nodes) if (!hoisted.has(n)) n.inputs.filter(isHoisted).forEach((v) => border.add(v));
  for (const v of graph.outputs.values()) if (isHoisted(v)) border.add(v);

  const part = (keep: (n: Node) => boolean, outputs: Iterable<readonly [string, Value]>): Graph => {
    const result = new Graph();
    const map = new Map<Value, Value>();
    const get = (v: Value): Value => {
      let copy = map.get(v);
      if (!copy) {
        assert(v.source.kind !== 'node' || border.has(v), 'a hoisted value is not on the border');
        copy = v.source.kind === 'node'
          ? result.input(borderName(v), v.dtype, v.shape, 'frozen')
          : copyLeaf(v, result);
        map.set(v, copy);
      }
      return copy;
    };
    for (const n of nodes.filter(keep)) {
      const inputs = n.inputs.map(get);
      const copies = result.at(n.path, () => result.add(n.op, inputs, n.attributes, n.outputs));
      n.outputs.forEach((v, i) => map.set(v, copies[i]!));
    }
    for (const [name, v] of outputs) result.output(name, get(v));
    return rewrite(result); // drops what only the other side needs
  };
  return {
    prologue: hoisted.size ? part((n) => unchanging.has(n), [...border].map((v) => [borderName(v), v])) : undefined,
    step: part((n) => !hoisted.has(n), graph.outputs),
  };
}

const borderName = (v: Value): string => `hoisted.${v.id}`;
