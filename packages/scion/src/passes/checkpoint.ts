/**
 * Trades time for memory: what the backward pass reads of a segment's inner values is not kept but computed again from
 * what enters the segment, once the cotangents have come to it (Chen et al., "Training Deep Nets with Sublinear Memory
 * Cost", 2016). Every value is the same to the bit, since the same ops run on the same inputs.
 */
import { Graph, type Node, type Value, producer } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { after, canWait, oneAfter } from './gate.js';
import { Flow } from './flow.js';
import { bytesOf, memoryOf } from './liveness.js';
import { copyLeaf } from './rewrite.js';
import { segmentsOf } from './segments.js';

/** What is computed again of one segment. */
interface Plan {
  values: ReadonlySet<Value>;
  /** Backward nodes that read these. */
  readers: readonly Node[];
  /** Kept in their place: what the second computation starts from. */
  border: ReadonlySet<Value>;
  /** Backward values that must be there before. */
  gate: readonly Value[];
}

/**
 * Recomputes what saves memory. Segments lie in the forward pass, in its order; by default they are the numbered layers
 * of the module paths. What crosses from one segment to the next is kept, and so is the uppermost segment, whose
 * backward part comes first.
 */
export function checkpoint(graph: Graph, segments?: readonly (readonly Node[])[]): Graph {
  const flow = new Flow(graph);
  const parts = (segments ?? segmentsOf(flow.forward)).map((nodes) => new Set(nodes.filter((n) => flow.isForward(n))));
  const plans: Plan[] = [];
  for (const part of [...parts].reverse()) {
    const plan = planOf(part, new Set(parts.filter((p) => p !== part).flatMap((p) => [...p])), flow, plans);
    if (plan) plans.push(plan);
  }
  return plans.length === 0 ? graph : rebuild(graph, flow, plans);
}

/** Plans the recomputation of a segment, after those above it; undefined where it saves nothing. */
function planOf(
  segment: ReadonlySet<Node>, others: ReadonlySet<Node>, flow: Flow, above: readonly Plan[],
): Plan | undefined {
  const inner = (v: Value): boolean => {
    const node = producer(v);
    return node !== undefined && segment.has(node) && !flow.isOutput(v)
      && flow.readersOf(v).every((n) => segment.has(n) || flow.isLate(n));
  };
  const needed = [...segment].flatMap((n) => n.outputs).filter((v) => inner(v) && flow.lateReadersOf(v).length > 0);
  const readers = needed.flatMap((v) => flow.lateReadersOf(v));
  const values = new Set(needed);
  const border = new Set<Value>();
  for (const v of values) { // grows while it is walked
    for (const operand of producer(v)!.inputs) (inner(operand) ? values : border).add(operand);
  }
  if (!saves(needed, border, flow, above)) return undefined;

  // what waits for this segment cannot be waited for
  const waiting = flow.behind(readers, (v) => above.flatMap((p) => (p.gate.includes(v) ? p.readers : [])));
  const following = flow.behind(segment);
  const early = [...following].filter((n) => flow.isLate(n) && !waiting.has(n));
  const isUppermost = !early.some((n) => n.inputs.some((v) => others.has(producer(v)!)));
  if (isUppermost) return undefined;
  const usable = new Set(early.flatMap((n) => n.outputs).filter((v) => v.dtype === 'float32'));
  const entering = [...waiting].flatMap((n) => n.inputs).filter((v) => usable.has(v));
  if (entering.length === 0) return undefined;
  // as long as a parameter's gradient is not computed, what it is computed from is kept
  const gradients = [...usable].filter((v) => flow.isGradient(v) && !above.some((p) => p.gate.includes(v)));
  return { values, readers, border, gate: [...new Set([...entering, ...gradients])] };
}

/** Whether the values that need not be kept are larger than those that must be kept in their place. */
function saves(needed: readonly Value[], border: ReadonlySet<Value>, flow: Flow, above: readonly Plan[]): boolean {
  const size = (values: readonly Value[]): number =>
    [...new Set(values.map(memoryOf))].reduce((sum, v) => sum + bytesOf(v), 0);
  const kept = (v: Value): boolean =>
    producer(v) === undefined || flow.lateReadersOf(v).length > 0 || above.some((p) => p.border.has(v));
  return size(needed) > size([...border].filter((v) => !kept(v)));
}

function rebuild(graph: Graph, flow: Flow, plans: readonly Plan[]): Graph {
  const result = new Graph();
  const map = new Map<Value, Value>();
  const used = new Set<Value>([...flow.nodes.flatMap((n) => n.inputs), ...graph.outputs.values()]);
  for (const v of [...graph.inputs, ...graph.constants]) if (used.has(v)) map.set(v, copyLeaf(v, result));

  const planned = new Map(plans.flatMap((plan) => [...plan.values].map((v) => [v, plan] as const)));
  const again = new Map<Value, Value>(); // old value → its second computation
  const first = (v: Value): Value => {
    if (!map.has(v)) build(producer(v)!); // what a gate waits for may come later in the list
    return map.get(v)!;
  };
  const second = (v: Value): Value => {
    const plan = planned.get(v);
    if (!plan) return first(v);
    if (!again.has(v)) compute(producer(v)!, plan);
    return again.get(v)!;
  };
  const build = (node: Node): void => {
    const inputs = node.inputs.map(flow.isLate(node) ? second : first);
    const outputs = result.at(node.path, () => b.apply(node.op, inputs, node.attributes));
    node.outputs.forEach((v, i) => map.set(v, outputs[i]!));
  };
  const compute = (node: Node, plan: Plan): void => {
    const inputs = node.inputs.map(second);
    const outputs = result.at(`${node.path}/backward/recompute`, () => {
      if (inputs.every((v, i) => v === map.get(node.inputs[i]!))) {
        // the smallest, since it is copied
        const [smallest] = inputs.map((_, i) => i).filter((i) => canWait(inputs[i]!))
          .sort((i, k) => bytesOf(inputs[i]!) - bytesOf(inputs[k]!));
        if (smallest !== undefined) inputs[smallest] = after(oneAfter(plan.gate.map(first)), inputs[smallest]!);
      }
      return b.apply(node.op, inputs, node.attributes);
    });
    node.outputs.forEach((v, i) => again.set(v, outputs[i]!));
  };
  for (const node of flow.nodes) if (!map.has(node.outputs[0]!)) build(node);
  for (const [name, v] of graph.outputs) result.output(name, first(v));
  return result;
}
