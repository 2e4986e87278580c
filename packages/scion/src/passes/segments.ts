/** Where a program is cut for recomputation. */
import type { Node, Value } from '../ir/graph.js';
import { bytesOf, memoryOf } from './liveness.js';

/** `vision_model.encoder.layers.3` of a path below it; the innermost where layers lie in stages. */
const layer = /^(?:.*[./])?(?:stages?|layers?|blocks?|resblocks|h)\.\d+(?=[./]|$)/;

/**
 * The numbered layers among the modules that built the nodes, by the names that are usual; without any, about √n parts
 * of n nodes (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016).
 */
export function segmentsOf(nodes: readonly Node[]): Node[][] {
  const layers = new Map<string, Node[]>();
  for (const node of nodes) {
    const [path] = layer.exec(node.path) ?? [];
    if (path === undefined) continue;
    const known = layers.get(path);
    if (known) known.push(node);
    else layers.set(path, [node]);
  }
  return layers.size > 0 ? [...layers.values()] : evenSegments(nodes, Math.round(Math.sqrt(nodes.length)));
}

/** Parts that compute about as many bytes each, cut where the least crosses. */
function evenSegments(nodes: readonly Node[], count: number): Node[][] {
  const crossing = crossings(nodes);
  const sums: number[] = [];
  nodes.forEach((node, i) => sums.push((sums[i - 1] ?? 0) + sizeOf(node)));
  const total = sums.at(-1) ?? 0;
  const parts: Node[][] = [];
  let start = 0;
  for (let part = 1; part < count; part++) {
    // anywhere within half a part of the even cut
    const near = nodes.flatMap((_, i) => (i > start && Math.abs(sums[i - 1]! / total - part / count) <= 0.5 / count ? [i] : []));
    if (near.length === 0) continue;
    const cut = near.reduce((best, i) => (crossing[i]! < crossing[best]! ? i : best));
    parts.push(nodes.slice(start, cut));
    start = cut;
  }
  return [...parts, nodes.slice(start)];
}

const sizeOf = (node: Node): number =>
  node.outputs.reduce((sum, v) => sum + (memoryOf(v) === v ? bytesOf(v) : 0), 0);

/** Bytes of values computed before the i-th node that it or a later one reads. */
function crossings(nodes: readonly Node[]): number[] {
  const made = new Map<Value, number>();
  const last = new Map<Value, number>();
  nodes.forEach((node, i) => {
    for (const v of node.inputs) last.set(memoryOf(v), i);
    for (const v of node.outputs) if (memoryOf(v) === v) made.set(v, i);
  });
  const steps = new Array<number>(nodes.length + 1).fill(0);
  for (const [v, from] of made) {
    const to = last.get(v) ?? from;
    steps[from + 1]! += bytesOf(v);
    steps[to + 1]! -= bytesOf(v);
  }
  let sum = 0;
  return nodes.map((_, i) => (sum += steps[i]!));
}
