/** Computes only what is read: a Slice moves up through ops that treat the places along its axis alike. */
import { type Graph, type Node, type Value, liveNodes, producer } from '../ir/graph.js';
import type { OpAttributes, OpType } from '../ir/op-types.js';
import * as b from '../ops/build.js';
import { elementwise } from '../ops/elementwise.js';
import { numel } from '../util/tensor.js';
import { rewrite } from './rewrite.js';

/** The part [start, end) along an axis. */
interface Part {
  readonly axis: number;
  readonly start: number;
  readonly end: number;
}

/** The part of a node's first output, computed from parts of its inputs; undefined where it needs all of them. */
type Law<T extends OpType> = (node: Node<T>, part: Part) => Value | undefined;

const cut = (v: Value, { start, end }: Part, axis: number): Value => b.slice(v, axis, start, end);

/** The same op on other inputs. */
const again = (node: Node, inputs: readonly Value[]): Value => b.apply(node.op, inputs, node.attributes)[0]!;

/** An operand that is broadcast to the node's output, as far as the part needs it. */
function operand(v: Value, node: Node, part: Part): Value {
  const { shape } = node.outputs[0]!;
  const axis = part.axis - shape.length + v.shape.length;
  return axis >= 0 && v.shape[axis] === shape[part.axis] ? cut(v, part, axis) : v;
}

/** f(x, y)[p] = f(x[p], y[p]) */
const everywhere = (node: Node, part: Part): Value => again(node, node.inputs.map((v) => operand(v, node, part)));

/** (A B)[p] = A[p] B for rows p */
function rows(node: Node<'MatMul'> | Node<'FusedMatMul'>, part: Part): Value | undefined {
  const [a, c] = node.inputs as [Value, Value];
  if (part.axis !== node.outputs[0]!.shape.length - 2) return undefined;
  const { transA = 0, transBatchA = 0 } = node.attributes as Partial<OpAttributes['FusedMatMul']>;
  const axis = transA ? a.shape.length - 1 : transBatchA ? 0 : a.shape.length - 2;
  return again(node, [cut(a, part, axis), c]);
}

/** softmax(x)[p] = softmax(x[p]) across its own axis */
const across = (node: Node<'Softmax'> | Node<'LogSoftmax'>, part: Part): Value | undefined =>
  (part.axis === node.attributes.axis ? undefined : everywhere(node, part));

const laws: { readonly [T in OpType]?: Law<T> } = {
  MatMul: rows,
  FusedMatMul: rows,
  Gemm: (node, part) => {
    const [a, w, c] = node.inputs as [Value, Value, Value?];
    if (part.axis !== 0) return undefined;
    const inputs = [cut(a, part, node.attributes.transA ? 1 : 0), w];
    return again(node, c ? [...inputs, operand(c, node, part)] : inputs);
  },
  LayerNormalization: (node, part) => {
    const [x, ...affine] = node.inputs as [Value, ...Value[]];
    return part.axis < node.attributes.axis
      ? again(node, [cut(x, part, part.axis), ...affine]) : undefined;
  },
  Softmax: across,
  LogSoftmax: across,
  Transpose: ({ inputs: [x], attributes: { perm } }, part) => b.transpose(cut(x!, part, perm[part.axis]!), perm),
  // a part along the first axis is one run of elements on either side
  Reshape: ({ inputs: [x], attributes: { shape } }, { axis, start, end }) => {
    if (axis !== 0 || x!.shape.length === 0) return undefined;
    const [from, to] = [numel(x!.shape.slice(1)), numel(shape.slice(1))];
    const [first, last] = [(start * to) / from, (end * to) / from];
    if (!Number.isInteger(first) || !Number.isInteger(last)) return undefined;
    return b.reshape(b.slice(x!, 0, first, last), [end - start, ...shape.slice(1)]);
  },
};

const lawOf = (op: OpType): Law<OpType> | undefined =>
  (Object.hasOwn(elementwise, op) ? everywhere : (laws[op] as Law<OpType> | undefined));

/** What a Slice along one axis, without leaving places out, keeps. */
function partOf(node: Node, x: Value): Part | undefined {
  const { starts, ends, axes, steps } = node.attributes as OpAttributes['Slice'];
  if (axes.length !== 1 || steps[0] !== 1) return undefined;
  const dim = x.shape[axes[0]!]!;
  const place = (i: number): number => Math.min(dim, Math.max(0, i < 0 ? i + dim : i));
  return { axis: axes[0]!, start: place(starts[0]!), end: place(ends[0]!) };
}

/** How often each node's outputs are read, outputs of the graph included. */
function readings(graph: Graph): Map<Node, number> {
  const count = new Map<Node, number>();
  for (const v of [...[...liveNodes(graph)].flatMap((n) => n.inputs), ...graph.outputs.values()]) {
    const node = producer(v);
    if (node) count.set(node, (count.get(node) ?? 0) + 1);
  }
  return count;
}

/**
 * Moves every Slice up as far as it goes. It passes a node only where nothing else reads that node, so that no value is
 * computed twice. In the last layer of a tower that reads the state of one token, the queries, the output projection
 * and the MLP are computed for that token alone.
 */
export function shrink(graph: Graph): Graph {
  let present = graph;
  for (let moved = graph.nodes.some((n) => n.op === 'Slice'); moved;) {
    moved = false;
    const read = readings(present);
    present = rewrite(present, (node, [x]) => {
      const whole = node.op === 'Slice' ? producer(node.inputs[0]!) : undefined;
      if (!whole || read.get(whole) !== 1) return undefined;
      const [inner, part] = [producer(x!), partOf(node, x!)];
      const first = inner?.outputs[0] === x;
      const law = inner && first ? lawOf(inner.op) : undefined;
      // the smaller node stays in the module that built the whole one
      const smaller = inner && law && part ? x!.graph.at(inner.path, () => law(inner, part)) : undefined;
      if (!smaller) return undefined;
      moved = true;
      return [smaller];
    });
  }
  return present === graph ? graph : rewrite(present);
}
