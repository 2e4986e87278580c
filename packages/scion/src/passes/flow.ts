/** Who reads what in a training step, and on which side of the loss it lies. */
import { type Graph, type Node, type Value, liveNodes, producer } from '../ir/graph.js';
import { isBackward } from './gate.js';

export class Flow {
  /** Nodes that outputs depend on, in the graph's order. */
  readonly nodes: readonly Node[];
  /** Those that come before the loss and change from step to step. */
  readonly forward: readonly Node[];
  private readonly ahead: ReadonlySet<Node>;
  private readonly late = new Set<Node>();
  private readonly readers = new Map<Value, Node[]>();
  private readonly outputs: ReadonlySet<Value>;

  constructor(graph: Graph) {
    const live = liveNodes(graph);
    this.nodes = graph.nodes.filter((n) => live.has(n));
    this.outputs = new Set(graph.outputs.values());
    const still = new Set<Value>(graph.constants);
    for (const v of graph.inputs) if (v.source.kind === 'input' && v.source.role === 'frozen') still.add(v);
    for (const node of this.nodes) {
      for (const v of new Set(node.inputs)) {
        const known = this.readers.get(v);
        if (known) known.push(node);
        else this.readers.set(v, [node]);
      }
      if (isBackward(node) || node.inputs.some((v) => this.late.has(producer(v)!))) this.late.add(node);
      if (node.inputs.every((v) => still.has(v))) node.outputs.forEach((v) => still.add(v));
    }
    this.forward = this.nodes.filter((n) => !this.late.has(n) && !n.outputs.every((v) => still.has(v)));
    this.ahead = new Set(this.forward);
  }

  isForward(node: Node): boolean {
    return this.ahead.has(node);
  }
  /** Backward nodes and all that depends on one, the optimizer too. */
  isLate(node: Node): boolean {
    return this.late.has(node);
  }
  isOutput(v: Value): boolean {
    return this.outputs.has(v);
  }
  readersOf(v: Value): readonly Node[] {
    return this.readers.get(v) ?? [];
  }
  lateReadersOf(v: Value): Node[] {
    return this.readersOf(v).filter((n) => this.late.has(n));
  }

  /** Whether a value is what the backward pass hands to the optimizer or the caller. */
  isGradient(v: Value): boolean {
    const node = producer(v);
    return node !== undefined && isBackward(node)
      && (this.isOutput(v) || this.readersOf(v).some((n) => !isBackward(n)));
  }

  /** Nodes that depend on some, those included; `more` gives what else waits for a value. */
  behind(start: Iterable<Node>, more: (v: Value) => readonly Node[] = () => []): Set<Node> {
    const found = new Set(start);
    for (const node of found) { // grows while it is walked
      for (const v of node.outputs) for (const next of [...this.readersOf(v), ...more(v)]) found.add(next);
    }
    return found;
  }
}
