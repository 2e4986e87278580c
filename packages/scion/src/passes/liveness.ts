/** An estimate of the memory that a program needs beside its inputs and constants. */
import { type Graph, type Node, type Value, liveNodes, producer } from '../ir/graph.js';
import { elementwise } from '../ops/elementwise.js';
import { byteSize, numel } from '../util/tensor.js';

export const bytesOf = (v: Value): number => numel(v.shape) * byteSize(v.dtype);

/** Ops that give the memory of their input another shape. */
const views = new Set<string>(['Reshape', 'Identity']);

/** The value whose memory a value lies in. */
export function memoryOf(v: Value): Value {
  let root = v;
  for (let node = producer(root); node && views.has(node.op); node = producer(root)) root = node.inputs[0]!;
  return root;
}

/**
 * The order in which ONNX Runtime runs the nodes (its default one): depth first from the last node that nothing reads,
 * of a node's inputs the latest first.
 */
export function executionOrder(graph: Graph): Node[] {
  const live = liveNodes(graph);
  const number = new Map(graph.nodes.map((node, i) => [node, i]));
  const read = new Set([...live].flatMap((node) => node.inputs.map(producer)));
  const stack: { node: Node; done: boolean }[] = graph.nodes
    .filter((node) => live.has(node) && !read.has(node)).map((node) => ({ node, done: false }));
  const seen = new Set<Node>();
  const order: Node[] = [];
  for (let top = stack.pop(); top; top = stack.pop()) {
    const { node } = top;
    if (top.done) order.push(node);
    if (top.done || seen.has(node)) continue;
    seen.add(node);
    stack.push({ node, done: true });
    const before = [...new Set(node.inputs.flatMap((v) => producer(v) ?? []))].filter((n) => !seen.has(n));
    before.sort((a, b) => number.get(a)! - number.get(b)!);
    stack.push(...before.map((n) => ({ node: n, done: false })));
  }
  return order;
}

/**
 * The most bytes that computed values take at one time, each from its node to its last reader, in `executionOrder`.
 * Views share the memory of what they show, and an elementwise op takes over that of an operand which it reads last.
 * What kernels take for themselves and what the allocator cannot use is not in it.
 */
export function peakBytes(graph: Graph): number {
  const order = executionOrder(graph);
  const last = new Map<Value, number>();
  order.forEach((node, i) => [...node.inputs, ...node.outputs].forEach((v) => last.set(memoryOf(v), i)));
  for (const v of graph.outputs.values()) last.set(memoryOf(v), Infinity);
  let [now, peak] = [0, 0];
  order.forEach((node, i) => {
    const operands = new Set(node.inputs.map(memoryOf).filter((v) => producer(v)));
    const dying = [...operands].filter((v) => last.get(v) === i);
    const made = views.has(node.op) ? [] : node.outputs;
    const freed = dying.reduce((sum, v) => sum + bytesOf(v), 0);
    const inPlace = Object.hasOwn(elementwise, node.op) && dying.some((v) => bytesOf(v) === bytesOf(node.outputs[0]!));
    const taken = made.reduce((sum, v) => sum + bytesOf(v), 0);
    peak = Math.max(peak, now + taken - (inPlace ? bytesOf(node.outputs[0]!) : 0));
    now += taken - freed - made.reduce((sum, v) => sum + (last.get(v) === i ? bytesOf(v) : 0), 0);
  });
  return peak;
}
