/** From the graph of an ONNX file to the IR: the file is read once, and built into as many programs as are wanted. */
import type { ExternalData, Graph, TypeInfo, Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { type Issue, ScionError, inputError } from '../util/errors.js';
import { type Tensor, arrayOver, numel, sameShape, toFloat32, toFloat64 } from '../util/tensor.js';
import { Call } from './convert/call.js';
import { converterOf, opsets, refusal } from './convert/index.js';
import type { OnnxInitializer, OnnxNode, OnnxSummary, OnnxValue } from './decode.js';
import { computed } from './dtypes.js';
import { type ImportedLayers, type ImportedLinear, type ImportedNorm, findLayers } from './layers.js';
import { constantsOf } from './lookup.js';
import { modulePath } from './module-path.js';
import { labelOf, neededNodes, sortedNodes } from './order.js';

/** How many constants of files a graph has, which number their names. */
const labelled = new WeakMap<Graph, number>();

/** A call of a layer, handed to whoever may put something else in its place. */
export interface LayerCall {
  /** Of the layer, as `linears` and `norms` have it. */
  readonly path: string;
  /** What goes in, [..., features]. */
  readonly x: Value;
  /** What the file computes from it, the bias included. */
  readonly output: () => Value;
}

/** Gives what stands for the layer's output; undefined leaves the layer as it is. */
export type ReplaceLayer = (call: LayerCall) => Value | undefined;

export interface BuildOptions {
  /** Names of outputs; all where absent. Only what these need is built. */
  outputs?: readonly string[];
  replace?: ReplaceLayer;
}

/** A constant whose bytes are in a file. */
export interface StoredConstant extends TypeInfo, ExternalData {}

/** Where the file and its parts lie; links resolved, since ONNX Runtime reads the bytes from there. */
export interface ImportPlaces {
  /** The file as the user named it, for messages. */
  readonly path: string;
  /** The file itself, for constants that stay in it. */
  readonly file: string;
  /** By location, the files beside it that hold constants. */
  readonly external: ReadonlyMap<string, string>;
}

/**
 * A graph that was imported. Its symbolic axes get the sizes of the values it is built on; what follows from shapes
 * alone is computed meanwhile. Half precision is computed in float32.
 */
export class ImportedModel {
  readonly inputs: ReadonlyMap<string, OnnxValue>;
  readonly outputs: ReadonlyMap<string, OnnxValue>;
  /** Linear layers, products with a matrix of the file, by module path in the order of the graph. */
  readonly linears: ReadonlyMap<string, ImportedLinear>;
  /** Layer normalisations, by module path. */
  readonly norms: ReadonlyMap<string, ImportedNorm>;
  /** How many products there are whose weights are quantised. */
  readonly quantised: number;
  private readonly constants: ReadonlyMap<string, OnnxInitializer>;
  /** The same and those in nodes. */
  private readonly held: ReadonlyMap<string, OnnxInitializer>;
  private readonly nodes: readonly OnnxNode[];
  private readonly uses: ImportedLayers['uses'];
  private readonly bound = new WeakMap<Graph, Map<OnnxInitializer, Value>>();

  /** @throws ScionError of kind `input`: an op set that is not read, or no graph at all (a cycle, missing values) */
  constructor(private readonly summary: OnnxSummary, private readonly places: ImportPlaces) {
    this.constants = new Map(summary.initializers.map((t) => [t.name, t]));
    this.held = constantsOf(summary);
    // older files list constants among the inputs, as values that may be overridden
    this.inputs = new Map(summary.inputs.filter((v) => !this.constants.has(v.name)).map((v) => [v.name, v]));
    this.outputs = new Map(summary.outputs.map((v) => [v.name, v]));
    const opset = summary.opsets[''] ?? summary.opsets['ai.onnx'] ?? 0;
    if (opset < opsets.oldest || opset > opsets.newest) {
      throw inputError(places.path,
        `is of opset ${opset}, expected ${opsets.oldest} to ${opsets.newest}; export it with opset_version=18`);
    }
    this.nodes = sortedNodes(summary, places.path);
    ({ linears: this.linears, norms: this.norms, uses: this.uses, quantised: this.quantised }
      = findLayers({ ...summary, nodes: this.nodes }));
  }

  /** The first constant of one element whose name matches. */
  scalar(name: RegExp): number | undefined {
    for (const { name: own, dtype, data, shape } of this.constants.values()) {
      if (dtype && numel(shape) === 1 && !('location' in data) && name.test(own)) {
        return toFloat64({ dtype, shape, data: arrayOver(dtype, data) })[0];
      }
    }
    return undefined;
  }

  /**
   * Adds the graph to a program. `feeds` are its inputs by name, of static shape; those that the outputs do not depend
   * on may be left out. Gives the outputs by name.
   * @throws ScionError of kind `input`: feeds or outputs that do not fit, every kind of op that is not read, with a
   *   node's name, or a node that does not fit its inputs
   */
  build(graph: Graph, feeds: Readonly<Record<string, Value>>, options: BuildOptions = {}): Record<string, Value> {
    const { outputs = [...this.outputs.keys()], replace } = options;
    const needed = neededNodes(this.nodes, this.known(outputs));
    this.requireSupport(needed);
    const values = new Map<string, Value>();
    const read = new Set([...needed.flatMap((n) => n.inputs), ...outputs]);
    const sizes = new Map<string, number>();
    for (const [name, type] of this.inputs) {
      if (read.has(name)) values.set(name, this.fed(type, feeds[name], sizes));
    }
    for (const name of read) {
      const constant = this.constants.get(name);
      if (constant) values.set(name, this.bind(graph, constant));
    }
    for (const node of needed) {
      graph.at(modulePath(node) || node.name || node.outputs[0]!, () => {
        const results = this.convert(graph, node, values, replace);
        node.outputs.forEach((name, i) => {
          if (name !== '' && results[i]) values.set(name, results[i]);
        });
      });
    }
    return Object.fromEntries(outputs.map((name) => [name, values.get(name)!]));
  }

  private convert(
    graph: Graph, node: OnnxNode, values: ReadonlyMap<string, Value>, replace: ReplaceLayer | undefined,
  ): readonly Value[] {
    const operands = node.inputs.map((name) => (name === '' ? undefined : values.get(name)));
    const opset = this.summary.opsets[node.domain] ?? this.summary.opsets['ai.onnx'] ?? 1;
    const call = new Call(graph, node, opset, operands, (t) => this.bind(graph, t));
    try {
      const convert = (): readonly Value[] => [converterOf(node)!(call)].flat();
      const use = replace && this.uses.get(node);
      const given = use && replace({ path: use.path, x: values.get(use.x)!, output: () => convert()[0]! });
      if (!given) return convert();
      this.requireShape(given, use.path, values.get(use.x)!);
      return [given];
    } catch (error) {
      if (error instanceof ScionError) throw error;
      const why = (error as Error).message.replaceAll('defect in Scion: ', '');
      throw inputError(this.places.path, `${labelOf(node)} (${node.op}): ${why}; this model cannot be read`,
        { cause: error });
    }
  }

  private requireShape({ shape }: Value, path: string, x: Value): void {
    const features = this.linears.get(path)?.outFeatures ?? this.norms.get(path)!.features;
    const expected = [...x.shape.slice(0, -1), features];
    if (sameShape(shape, expected)) return;
    throw new Error(`the replacement of ${path} has shape [${shape.join(', ')}], expected [${expected.join(', ')}]`);
  }

  /** The value of a constant in a graph, made at its first use. */
  private bind(graph: Graph, constant: OnnxInitializer): Value {
    const bound = this.bound.get(graph) ?? new Map<OnnxInitializer, Value>();
    this.bound.set(graph, bound);
    let value = bound.get(constant);
    if (!value) bound.set(constant, value = this.constantValue(graph, constant));
    return value;
  }

  private constantValue(graph: Graph, constant: OnnxInitializer): Value {
    // names of a file may be those of another file, or of Scion's own
    const count = (labelled.get(graph) ?? 0) + 1;
    labelled.set(graph, count);
    const label = `onnx${count}.${constant.name}`;
    const data = this.place(constant);
    if ('path' in data) {
      const { dtype, shape, ...bytes } = data;
      return b.cast(graph.external(label, { dtype, shape }, bytes), computed(dtype));
    }
    const widened = computed(data.dtype) === data.dtype ? data : toFloat32(data);
    return graph.constant(widened, numel(data.shape) > 16 ? label : undefined);
  }

  /** What a constant of the file is: the place of its bytes, or a small one itself. */
  constant(name: string): Tensor | StoredConstant {
    return this.place(this.held.get(name)!);
  }

  private place({ name, dtype, shape, data }: OnnxInitializer): Tensor | StoredConstant {
    if (!dtype) {
      throw inputError(`${this.places.path}: ${name}`, 'has an element type that Scion does not read; export the model '
        + 'with float32, float16 or 8-bit weights');
    }
    if (!('location' in data)) return { dtype, shape, data: arrayOver(dtype, data) };
    const path = data.location === '' ? this.places.file : this.places.external.get(data.location)!;
    const { offset, byteLength } = data;
    return { dtype, shape, path, offset, byteLength };
  }

  /** Checks an input against what the file declares; axes of one name have one size. */
  private fed(type: OnnxValue, value: Value | undefined, sizes: Map<string, number>): Value {
    const declared = `${type.dtype ?? 'another type'}[${type.shape.join(', ')}]`;
    if (!value) throw inputError(this.places.path, `needs its input "${type.name}", ${declared}`);
    const fits = value.shape.length === type.shape.length && value.shape.every((size, i) => {
      const axis = type.shape[i]!;
      if (typeof axis === 'number') return axis <= 0 || axis === size;
      const known = axis === '?' || axis === '' ? size : sizes.get(axis) ?? size;
      sizes.set(axis, known);
      return known === size;
    });
    if (!fits || !type.dtype || value.dtype !== computed(type.dtype)) {
      const fixedBatch = typeof type.shape[0] === 'number' && type.shape[0] !== value.shape[0];
      const named = [...sizes].filter(([axis]) => type.shape.includes(axis)).map(([axis, size]) => `${axis} ${size}`);
      const sized = named.length > 0 ? ` (${named.join(', ')})` : '';
      throw inputError(this.places.path, `takes "${type.name}" as ${declared}${sized}, not ${value.dtype}`
        + `[${value.shape.join(', ')}]${fixedBatch ? '; export it with a symbolic batch axis' : ''}`);
    }
    return value;
  }

  private known(outputs: readonly string[]): readonly string[] {
    const unknown = outputs.find((name) => !this.outputs.has(name));
    if (unknown === undefined) return outputs;
    throw inputError(this.places.path, `has no output "${unknown}"; it has ${[...this.outputs.keys()].join(', ')}`);
  }

  private requireSupport(nodes: readonly OnnxNode[]): void {
    const unknown = new Map<string, OnnxNode[]>();
    for (const node of nodes) {
      const key = `${node.domain}:${node.op}`;
      if (!converterOf(node)) unknown.set(key, [...(unknown.get(key) ?? []), node]);
    }
    const issues: Issue[] = [...unknown.values()].map((same) => ({
      path: this.places.path,
      message: `${labelOf(same[0]!)} ${refusal(same[0]!)}${same.length > 1 ? ` (and ${same.length - 1} more)` : ''}`,
    }));
    if (issues.length > 0) throw new ScionError('input', issues);
  }
}
