/** Algebra that saves passes over memory: each rule names the law that it applies. */
import { Graph, type Node, type Value, constantData, producer } from '../ir/graph.js';
import type { OpAttributes, OpType } from '../ir/op-types.js';
import * as b from '../ops/build.js';
import { isFloat } from '../ops/elementwise.js';
import { evaluateGraph } from '../ops/evaluate.js';
import { inferTypes } from '../ops/table.js';
import { fromFloat64, numel, sameShape, toFloat64 } from '../util/tensor.js';
import { type Rule, rewrite } from './rewrite.js';

const is = <T extends OpType>(v: Value, op: T): Node<T> | undefined => {
  const node = producer(v);
  return node?.op === op ? (node as unknown as Node<T>) : undefined;
};

/** The number that a constant holds in every element. */
function uniform(v: Value): number | undefined {
  const expanded = is(v, 'Expand');
  const data = constantData(expanded ? expanded.inputs[0]! : v);
  if (!data || data.data.length !== 1 || !isFloat(data)) return undefined;
  return toFloat64(data)[0];
}

/** Whether float32 holds a product of constant factors: neither one that overflows nor one that vanishes. */
const holds = (factor: number): boolean => Number.isFinite(Math.fround(factor)) && Math.abs(factor) >= 2 ** -126;

/** Elementwise ops broadcast by themselves: an expanded operand is used as it was, where the shape stays the same. */
function unexpand(node: Node, inputs: readonly Value[]): readonly Value[] | undefined {
  const slim = inputs.map((v) => is(v, 'Expand')?.inputs[0] ?? v);
  if (slim.every((v, i) => v === inputs[i])) return undefined;
  const [type] = inferTypes(node.op, slim, node.attributes);
  return sameShape(type!.shape, node.outputs[0]!.shape) ? b.apply(node.op, slim, node.attributes) : undefined;
}

/** A constant factor and what it multiplies. */
function scaled(v: Value): { value: Value; factor: number } | undefined {
  const node = is(v, 'Mul');
  if (!node) return undefined;
  const [x, y] = node.inputs as [Value, Value];
  const [fx, fy] = [uniform(x), uniform(y)];
  if (fy !== undefined && sameShape(x.shape, v.shape)) return { value: x, factor: fy };
  if (fx !== undefined && sameShape(y.shape, v.shape)) return { value: y, factor: fx };
  return undefined;
}

type Product = OpAttributes['FusedMatMul'];

/** How often a value is read, outputs of the graph included. */
function uses(v: Value): number {
  return [...v.graph.nodes.flatMap((n) => n.inputs), ...v.graph.outputs.values()].filter((u) => u === v).length;
}

/** A product of any kind as FusedMatMul's attributes. */
function product(node: Node): Product | undefined {
  if (!isFloat(node.outputs[0]!)) return undefined; // FusedMatMul takes nothing else
  const none = { alpha: 1, transA: 0, transB: 0, transBatchA: 0, transBatchB: 0 } as const;
  if (node.op === 'MatMul') return none;
  return node.op === 'FusedMatMul' ? (node.attributes as Product) : undefined;
}

const rules: Partial<Record<OpType, Rule>> = {
  Mul: (node, inputs) => {
    const [x, y] = inputs as [Value, Value];
    const [fx, fy] = [uniform(x), uniform(y)];
    const [rest, factor] = fy !== undefined ? [x, fy] : [y, fx];
    if (factor !== undefined && sameShape(rest.shape, node.outputs[0]!.shape)) {
      if (factor === 1) return [rest]; // x · 1 = x
      const inner = scaled(rest);
      const chain = inner && inner.factor * factor;
      if (chain !== undefined && holds(chain)) return [b.mul(inner!.value, chain)]; // (x · a) · b = x · (a b)
      const fused = producer(rest);
      const attributes = fused && product(fused);
      // (A B) · a = a A B, free inside the product, unless A B is computed for others too
      if (attributes && holds(attributes.alpha * factor) && uses(node.inputs[rest === x ? 0 : 1]!) === 1) {
        return [b.fusedMatMul(fused.inputs[0]!, fused.inputs[1]!, { ...attributes, alpha: attributes.alpha * factor })];
      }
    }
    return unexpand(node, inputs);
  },
  Div: (node, inputs) => {
    const factor = uniform(inputs[1]!);
    return factor !== undefined && holds(1 / factor) && sameShape(inputs[0]!.shape, node.outputs[0]!.shape)
      ? [b.mul(inputs[0]!, 1 / factor)] // x / a = x · (1/a)
      : unexpand(node, inputs);
  },
  Add: (node, inputs) => {
    const [x, y] = inputs as [Value, Value];
    if (uniform(y) === 0 && sameShape(x.shape, node.outputs[0]!.shape)) return [x]; // x + 0 = x
    if (uniform(x) === 0 && sameShape(y.shape, node.outputs[0]!.shape)) return [y];
    return unexpand(node, inputs);
  },
  Sub: unexpand,
  Where: unexpand,
  Neg: (_, [x]) => {
    const inner = is(x!, 'Neg');
    return inner && [inner.inputs[0]!]; // -(-x) = x
  },
  Transpose: (node, [x]) => {
    const inner = is(x!, 'Transpose');
    const { perm } = node.attributes as OpAttributes['Transpose'];
    if (inner) return [b.transpose(inner.inputs[0]!, perm.map((p) => inner.attributes.perm[p]!))];
    return undefined;
  },
  Reshape: (node, [x]) => {
    const inner = is(x!, 'Reshape');
    const { shape } = node.attributes as OpAttributes['Reshape'];
    return inner && [b.reshape(inner.inputs[0]!, shape)];
  },
  Expand: (node, [x]) => {
    const inner = is(x!, 'Expand');
    return inner && [b.expand(inner.inputs[0]!, node.outputs[0]!.shape)];
  },
  Gemm: absorbTransposes,
  MatMul: absorbTransposes,
  FusedMatMul: absorbTransposes,
};

/** A matrix product reads a transposed operand in place. */
function absorbTransposes(node: Node, inputs: readonly Value[]): readonly Value[] | undefined {
  const gemm = node.op === 'Gemm' ? node.attributes as OpAttributes['Gemm'] : undefined;
  const fused = gemm ? undefined : product(node);
  if (!gemm && (!fused || fused.transBatchA || fused.transBatchB)) return undefined;
  const flags = { transA: 0, transB: 0, ...gemm, ...fused } as Pick<OpAttributes['Gemm'], 'transA' | 'transB'>;
  const operands = inputs.map((v, i) => {
    if (i > 1) return v; // what Gemm adds
    const inner = is(v, 'Transpose');
    const swapsLast = inner && inner.attributes.perm.every((p, k, all) =>
      p === (k === all.length - 1 ? k - 1 : k === all.length - 2 ? k + 1 : k));
    if (!swapsLast) return v;
    const key = i === 0 ? 'transA' : 'transB';
    flags[key] = flags[key] ? 0 : 1;
    return inner.inputs[0]!;
  });
  if (operands.every((v, i) => v === inputs[i])) return undefined;
  return [gemm ? b.gemm(operands[0]!, operands[1]!, operands[2], flags)
    : b.fusedMatMul(operands[0]!, operands[1]!, flags)];
}

/** Ops on small constants are computed now. */
function fold(node: Node, inputs: readonly Value[]): readonly Value[] | undefined {
  const limit = 4096;
  if (inputs.length === 0 || !inputs.every((v) => constantData(v))) return undefined;
  if (node.op === 'Expand' || node.outputs.some((v) => numel(v.shape) > limit || !/float32|int64|bool/.test(v.dtype))) {
    return undefined;
  }
  const small = new Graph();
  const outputs = b.apply(node.op, inputs.map((v) => small.constant(constantData(v)!)), node.attributes);
  outputs.forEach((v, i) => small.output(String(i), v));
  const values = evaluateGraph(small, {});
  // doubles are exact up to 2^53 only; an integer division by 0 is no number at all
  const exact = (v: Value, data: Float64Array): boolean =>
    v.dtype !== 'int64' || data.every((x) => Number.isSafeInteger(Math.trunc(x)));
  if (!inputs.every((v) => exact(v, toFloat64(constantData(v)!)))) return undefined;
  if (!outputs.every((v, i) => exact(v, values[i]!.data))) return undefined;
  const graph = inputs[0]!.graph;
  return node.outputs.map((v, i) => graph.constant(fromFloat64(v.dtype, v.shape, values[String(i)]!.data)));
}

/** Applies all rules until nothing changes any more (a few rounds at most). */
export function simplify(graph: Graph): Graph {
  let present = rewrite(graph);
  for (let round = 0; round < 8; round++) {
    let changes = 0;
    present = rewrite(present, (node, inputs) => {
      const result = fold(node, inputs) ?? rules[node.op]?.(node, inputs);
      if (result) changes++;
      return result;
    });
    if (changes === 0) break;
  }
  return present;
}
