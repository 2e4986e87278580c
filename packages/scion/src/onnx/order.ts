/** The order of a graph's nodes, and whether it is a graph at all. */
import { inputError } from '../util/errors.js';
import type { OnnxNode, OnnxSummary } from './decode.js';

/** A node as messages name it. */
export const labelOf = (node: OnnxNode): string => `node "${node.name || node.outputs[0] || node.op}"`;

/**
 * Nodes in an order in which each follows those that it reads.
 * @throws ScionError of kind `input`: a value that is given twice or by nothing, or a cycle
 */
export function sortedNodes({ nodes, inputs, outputs, initializers }: OnnxSummary, path: string): OnnxNode[] {
  const given = new Set([...inputs, ...initializers].map(({ name }) => name));
  const maker = new Map<string, OnnxNode>();
  for (const node of nodes) {
    for (const name of node.outputs) {
      if (name === '') continue;
      if (maker.has(name) || given.has(name)) {
        throw inputError(path, `gives the value "${name}" twice; export it again`);
      }
      maker.set(name, node);
    }
  }
  const requireGiven = (name: string, who: string): void => {
    if (!maker.has(name) && !given.has(name)) {
      throw inputError(path, `${who} "${name}", which nothing gives; export it again`);
    }
  };
  for (const { name } of outputs) requireGiven(name, 'has an output');
  const waits = new Map<OnnxNode, number>();
  const readers = new Map<OnnxNode, OnnxNode[]>();
  for (const node of nodes) {
    const operands = node.inputs.filter((name) => name !== '');
    for (const name of operands) requireGiven(name, `${labelOf(node)} reads`);
    const before = new Set(operands.flatMap((name) => maker.get(name) ?? []));
    waits.set(node, before.size);
    for (const from of before) {
      const known = readers.get(from);
      if (known) known.push(node);
      else readers.set(from, [node]);
    }
  }
  const order = nodes.filter((n) => waits.get(n) === 0);
  for (const node of order) { // grows while it is walked
    for (const next of readers.get(node) ?? []) {
      const left = waits.get(next)! - 1;
      waits.set(next, left);
      if (left === 0) order.push(next);
    }
  }
  const stuck = nodes.find((n) => waits.get(n)! > 0);
  if (!stuck) return order;
  throw inputError(path, `${labelOf(stuck)} waits for its own result: the graph has a cycle; export it again`);
}

/** The nodes that values depend on, in the order given. */
export function neededNodes(nodes: readonly OnnxNode[], outputs: readonly string[]): OnnxNode[] {
  const wanted = new Set(outputs);
  const found: OnnxNode[] = [];
  for (const node of [...nodes].reverse()) {
    if (!node.outputs.some((name) => wanted.has(name))) continue;
    found.push(node);
    for (const name of node.inputs) wanted.add(name);
  }
  return found.reverse();
}
