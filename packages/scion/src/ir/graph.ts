/**
 * The program that Scion compiles: a list of nodes in execution order over values of static shape.
 *
 * Nodes are hash-consed: adding the same op on the same inputs twice gives the first one's values, so that a vjp may
 * recompute an expression of the forward pass without thinking about it.
 */
import { assert } from '../util/errors.js';
import { type DType, type Shape, type Tensor } from '../util/tensor.js';
import type { OpAttributes, OpType } from './op-types.js';

export interface TypeInfo {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** A byte range of a file, read by ONNX Runtime itself; the weights never pass through JavaScript. */
export interface ExternalData {
  readonly path: string;
  readonly offset: number;
  readonly byteLength: number;
}

/**
 * When an input changes: `batch` at every step, `state` by the step itself (parameters, optimizer state), `frozen`
 * never: what depends on frozen inputs alone is computed once.
 */
export type InputRole = 'batch' | 'state' | 'frozen';

export interface Value extends TypeInfo {
  readonly graph: Graph;
  readonly id: number;
  readonly source:
    | { readonly kind: 'node'; readonly node: Node; readonly index: number }
    | { readonly kind: 'input'; readonly name: string; readonly role: InputRole }
    | { readonly kind: 'constant'; readonly name: string; readonly data: Tensor | ExternalData };
}

export interface Node<T extends OpType = OpType> {
  readonly op: T;
  readonly inputs: readonly Value[];
  readonly attributes: OpAttributes[T];
  readonly outputs: readonly Value[];
  /** The module that built this node, as a path: `vision_model.encoder.layers.0.self_attn`. */
  readonly path: string;
}

export class Graph {
  readonly nodes: Node[] = [];
  readonly inputs: Value[] = [];
  readonly constants: Value[] = [];
  readonly outputs = new Map<string, Value>();
  private readonly known = new Map<string, readonly Value[]>();
  private readonly names = new Set<string>();
  private nextId = 0;
  private path = '';

  /** An input fed by the caller under a name of its own. */
  input(name: string, dtype: DType, shape: Shape, role: InputRole = 'batch'): Value {
    assert(!this.names.has(name), `two inputs or constants named ${name}`);
    this.names.add(name);
    const value = this.value({ dtype, shape }, { kind: 'input', name, role });
    this.inputs.push(value);
    return value;
  }

  /** A constant inside the program. Small ones with equal content are shared. */
  constant(data: Tensor, name?: string): Value {
    const key = name === undefined && data.data.length <= 16
      ? `constant ${data.dtype} [${data.shape.join()}] ${Array.from(data.data as ArrayLike<number>, exact).join()}`
      : undefined;
    const found = key === undefined ? undefined : this.known.get(key);
    if (found) return found[0]!;
    let free = this.nextId;
    while (this.names.has(`constant_${free}`)) free++;
    const value = this.addConstant(name ?? `constant_${free}`, data, data);
    if (key !== undefined) this.known.set(key, [value]);
    return value;
  }

  /** A constant whose bytes stay in a file. */
  external(name: string, type: TypeInfo, data: ExternalData): Value {
    return this.addConstant(name, type, data);
  }

  private addConstant(name: string, type: TypeInfo, data: Tensor | ExternalData): Value {
    assert(!this.names.has(name), `two inputs or constants named ${name}`);
    this.names.add(name);
    const value = this.value(type, { kind: 'constant', name, data });
    this.constants.push(value);
    return value;
  }

  /** Appends a node of known output types. Callers use `apply` of `ops/`, which infers them. */
  add<T extends OpType>(
    op: T, inputs: readonly Value[], attributes: OpAttributes[T], types: readonly TypeInfo[],
  ): readonly Value[] {
    const key = `${op}(${inputs.map((v) => v.id).join()})${JSON.stringify(attributes, exactNumbers)}`;
    const found = this.known.get(key);
    if (found) return found;
    for (const v of inputs) assert(v.graph === this, `${op} mixes values of two graphs`);
    const outputs: Value[] = [];
    const node: Node<T> = { op, inputs, attributes, outputs, path: this.path };
    types.forEach((type, index) => {
      outputs.push(this.value(type, { kind: 'node', node: node as unknown as Node, index }));
    });
    this.nodes.push(node);
    this.known.set(key, outputs);
    return outputs;
  }

  output(name: string, value: Value): void {
    assert(!this.outputs.has(name), `two outputs named ${name}`);
    assert(value.graph === this, `output ${name} belongs to another graph`);
    this.outputs.set(name, value);
  }

  /** Nodes built by `body` carry this module path, below the present one. */
  within<R>(part: string, body: () => R): R {
    return this.at(this.path === '' ? part : `${this.path}.${part}`, body);
  }

  /** Nodes built by `body` carry exactly this path. */
  at<R>(path: string, body: () => R): R {
    const before = this.path;
    this.path = path;
    try {
      return body();
    } finally {
      this.path = before;
    }
  }

  private value(type: TypeInfo, source: Value['source']): Value {
    return { graph: this, id: this.nextId++, dtype: type.dtype, shape: [...type.shape], source };
  }
}

/** Keeps -0 apart from 0. */
function exact(x: number | bigint): string {
  return Object.is(x, -0) ? '-0' : String(x);
}

/** JSON writes infinities and NaN as null, and -0 as 0. */
function exactNumbers(_: string, x: unknown): unknown {
  return typeof x === 'number' && (!Number.isFinite(x) || x === 0) ? `number ${exact(x)}` : x;
}

/** The node that computes a value; undefined for inputs and constants. */
export function producer(value: Value): Node | undefined {
  return value.source.kind === 'node' ? value.source.node : undefined;
}

/** The in-memory content of a constant; undefined for anything else, external data included. */
export function constantData(value: Value): Tensor | undefined {
  return value.source.kind === 'constant' && 'data' in value.source.data ? value.source.data : undefined;
}

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
