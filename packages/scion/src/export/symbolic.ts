/**
 * From programs of static shapes to one with open axes: the program is built at three sizes, and every number that
 * differs between the three is computed from the shapes of the inputs instead. A number must be a fixed multiple of
 * one axis or of a product of axes at all three sizes, or one axis with a fixed number added; anything else is refused.
 */
import { create, equals } from '@bufbuild/protobuf';
import {
  AttributeProtoSchema, AttributeProto_AttributeType as Kind, type ModelProto, type NodeProto, NodeProtoSchema,
  type TensorProto, TensorProtoSchema, TensorProto_DataLocation as Location, type ValueInfoProto,
} from '../onnx/generated/onnx_pb.js';
import { onnxTypes } from '../onnx/dtypes.js';
import { type Tensor, bytesOf, fromFloat64, int64, toFloat64 } from '../util/tensor.js';
import { type Listed, listed, patternOf } from './pattern.js';

/** Why a program cannot have open axes. */
export class FixedSize extends Error {}

function refuse(message: string): never {
  throw new FixedSize(message);
}

function must(condition: unknown, message: string): asserts condition {
  if (!condition) refuse(message);
}

/** An axis whose length is left open: its name in the model, the input that has it, and the lengths it is built at. */
export interface OpenAxis {
  readonly name: string;
  readonly input: string;
  readonly axis: number;
  readonly sizes: readonly [number, number, number];
  /** How much longer it is than that axis of the input, where it is inside of the program alone: words behind a picture. */
  readonly plus?: number;
}

/** `factor` times the lengths of `axes`, and `plus`; a plain number where there are no axes. */
interface Size {
  readonly factor: number;
  readonly axes: readonly OpenAxis[];
  readonly plus?: number;
}

/** The size that has three lengths at the three sizes of the axes. */
type SizeOf = (lengths: readonly number[]) => Size;

/**
 * One model with open axes from the same program at three sizes of them.
 * @param models built with the first, second and third length of every axis
 */
export function withOpenAxes(models: readonly [ModelProto, ModelProto, ModelProto], axes: readonly OpenAxis[]): void {
  const [first] = models;
  const graphs = models.map((m) => m.graph!);
  const [graph] = graphs as [NonNullable<ModelProto['graph']>];
  const sizeOf = sizes(axes);
  const tensors = graphs.map((g) => new Map(g.initializer.map((t) => [t.name, t])));
  const shapes = new ShapeNodes();
  must(graphs.every((g) => g.node.length === graph.node.length), 'the program is another one at another size');

  graph.node.forEach((node, n) => {
    const nodes = graphs.map((g) => g.node[n]!);
    must(nodes.every((other) => sameOp(node, other)), `${node.name} is another op at another size`);
    node.input.forEach((name, i) => {
      const found = nodes.map((other, m) => tensors[m]!.get(other.input[i]!));
      if (!found[0]) {
        must(nodes.every((other) => other.input[i] === name), `${node.name} reads another value at another size`);
        return;
      }
      const same = found.every((t) => t && sameTensor(t, found[0]!));
      if (!same) node.input[i] = shapes.replace(node, i, found as TensorProto[], sizeOf);
    });
  });
  for (const which of ['input', 'output'] as const) {
    graph[which].forEach((_, i) => nameAxes(graphs.map((g) => g[which][i]!), sizeOf));
  }
  graph.node.unshift(...shapes.nodes);
  graph.initializer.push(...shapes.constants);
  const used = new Set([...graph.node.flatMap((n) => n.input), ...graph.output.map((v) => v.name)]);
  graph.initializer = graph.initializer.filter(({ name }) => used.has(name));
  const domains = new Set(graph.node.map((n) => n.domain));
  first.opsetImport = first.opsetImport.filter(({ domain }) => domains.has(domain));
}

function sameOp(a: NodeProto, c: NodeProto): boolean {
  return a.opType === c.opType && a.output.join() === c.output.join() && a.input.length === c.input.length
    && a.attribute.length === c.attribute.length
    && a.attribute.every((attribute, i) => equals(AttributeProtoSchema, attribute, c.attribute[i]!));
}

function sameTensor(a: TensorProto, c: TensorProto): boolean {
  const place = (t: TensorProto): string => t.externalData.map(({ key, value }) => `${key}=${value}`).join();
  return a.dataType === c.dataType && a.dims.join() === c.dims.join() && place(a) === place(c)
    && a.rawData.length === c.rawData.length && a.rawData.every((byte, i) => byte === c.rawData[i]);
}

function sizes(axes: readonly OpenAxis[]): SizeOf {
  const products = axes.reduce<OpenAxis[][]>((all, axis) => [...all, ...all.map((some) => [...some, axis])], [[]]);
  return (lengths) => {
    for (const product of products) {
      const unit = [0, 1, 2].map((m) => product.reduce((n, { sizes: s }) => n * s[m]!, 1));
      const factor = lengths[0]! / unit[0]!;
      const fits = Number.isInteger(factor) && lengths.every((n, m) => n === factor * unit[m]!);
      if (fits) return { factor, axes: product };
    }
    for (const axis of axes) {
      const plus = lengths[0]! - axis.sizes[0];
      if (lengths.every((n, m) => n === axis.sizes[m]! + plus)) return { factor: 1, axes: [axis], plus };
    }
    refuse(`the lengths ${lengths.join(', ')} are no multiple of ${axes.map((a) => a.name).join(', ')}`);
  };
}

/** Names the open axes of an input or output, given as it is at the three sizes. */
function nameAxes(values: readonly ValueInfoProto[], sizeOf: SizeOf): void {
  const dims = values.map((v) => (v.type!.value.case === 'tensorType' ? v.type!.value.value.shape!.dim : []));
  dims[0]!.forEach((dim, i) => {
    const size = sizeOf(dims.map((d) => Number(d[i]!.value.value)));
    if (size.axes.length > 0) dim.value = { case: 'dimParam', value: label(size) };
  });
}

/** The nodes that compute lengths from the shapes of the inputs; each is made once. */
class ShapeNodes {
  readonly nodes: NodeProto[] = [];
  readonly constants: TensorProto[] = [];
  private readonly made = new Set<string>();

  /** The value that stands where a node read constants that differ: a list of lengths, or what follows a pattern. */
  replace(node: NodeProto, input: number, found: readonly TensorProto[], sizeOf: SizeOf): string {
    const where = `input ${input} of ${node.name}`;
    const alike = ({ dataType, dims }: TensorProto): boolean =>
      dataType === found[0]!.dataType && dims.length === found[0]!.dims.length;
    const inside = found.every((f) => f.dataLocation !== Location.EXTERNAL && alike(f));
    must(inside, `${where} is another one at another size`);
    const all = found.map(listed);
    const [t] = all as [Listed];
    const sameLength = all.every(({ values }) => values.length === t.values.length);
    if (t.dtype === 'int64' && t.shape.length <= 1 && sameLength) {
      const list = Array.from(t.values, (_, i) => sizeOf(all.map(({ values }) => values[i]!)));
      return t.shape.length === 0 ? this.scalar(list[0]!) : this.list(list, node.opType === 'Reshape' && input === 1);
    }
    return this.patterned(all, sizeOf) ?? refuse(`${where} depends on the size in a way that no shape gives`);
  }

  /** A constant that is the same along some axes and follows one rule along the others; undefined where it is not. */
  private patterned(all: readonly Listed[], sizeOf: SizeOf): string | undefined {
    const pattern = patternOf(all);
    if (!pattern) return undefined;
    const { dtype, shape: { length: rank } } = all[0]!;
    const lengths = Array.from({ length: rank }, (_, axis) => sizeOf(all.map(({ shape }) => shape[axis]!)));
    const whole = `shape(${lengths.map(label).join()})`;
    const along = (axis: number): string => this.node('Reshape', [this.range(lengths[axis]!),
      this.constant(lengths.map((_, i) => (i === axis ? -1 : 1)))], `${label(lengths[axis]!)}/range/${axis} of ${rank}`);
    const spread = (value: string): string =>
      this.node('Expand', [value, this.list(lengths, false)], `${value}/${whole}`);
    if (pattern.kind === 'same') return spread(this.tensor(pattern.values));
    if (pattern.kind === 'range') {
      const row = along(pattern.axis);
      return spread(dtype === 'int64' ? row
        : this.node('Cast', [row], `${row}/${dtype}`, { to: onnxTypes[dtype] }));
    }
    const { axes: [row, column], from, before, after } = pattern;
    const ends = [along(column), along(row)];
    const apart = this.node('Sub', ends, ends.join(' - '));
    const compared = (op: 'Less' | 'GreaterOrEqual'): string =>
      this.node(op, [apart, this.constant([from], true)], `${apart}/${op} ${from}`);
    // ONNX Runtime has no Where of bool
    if (dtype === 'bool') return spread(compared(after ? 'GreaterOrEqual' : 'Less'));
    const [low, high] = [before, after].map((x) => this.tensor(fromFloat64(dtype, [], Float64Array.of(x))));
    const past = compared('GreaterOrEqual');
    return spread(this.node('Where', [past, high!, low!], `${past}/${dtype}/${after},${before}`));
  }

  /** int64 [n] */
  private list(list: readonly Size[], mayInfer: boolean): string {
    const open = list.filter(({ axes }) => axes.length > 0);
    // ONNX works out one length of a Reshape by itself
    if (mayInfer && open.length === 1) return this.constant(list.map((s) => (s === open[0] ? -1 : s.factor)));
    const parts = list.map((s) => (s.axes.length === 0 ? this.constant([s.factor]) : this.length(s)));
    return parts.length === 1 ? parts[0]! : this.node('Concat', parts, `shape(${list.map(label).join()})`, { axis: 0 });
  }

  /** int64 [1] */
  private length({ plus = 0, ...size }: Size): string {
    const { factor, axes } = size;
    if (plus !== 0) return this.node('Add', [this.length(size), this.constant([plus])], `${label({ ...size, plus })}/length`);
    const lengths = axes.map(({ name, input, axis, plus: more = 0 }) => {
      const own = this.node('Shape', [input], `${more === 0 ? name : `${input}[${axis}]`}/length`, { start: axis, end: axis + 1 });
      return more === 0 ? own : this.node('Add', [own, this.constant([more])], `${name}/length`);
    });
    const parts = factor === 1 ? lengths : [...lengths, this.constant([factor])];
    return parts.reduce((x, y, i) => {
      const done = { factor: i < axes.length ? 1 : factor, axes: axes.slice(0, i + 1) };
      return this.node('Mul', [x, y], `${label(done)}/length`);
    });
  }

  /** int64, no dimension */
  private scalar(size: Size): string {
    return this.node('Squeeze', [this.length(size)], `${label(size)}/scalar`);
  }

  /** int64 [n]: 0, 1, 2, … */
  private range(size: Size): string {
    const [zero, one] = [this.constant([0], true), this.constant([1], true)];
    return this.node('Range', [zero, this.scalar(size), one], `${label(size)}/range`);
  }

  private constant(list: readonly number[], scalar = false): string {
    return this.tensor(int64(scalar ? [] : [list.length], list));
  }

  private tensor(value: Tensor): string {
    const name = `${value.dtype}[${value.shape.join()}]/${toFloat64(value).join()}`;
    if (!this.made.has(name)) {
      this.constants.push(create(TensorProtoSchema, {
        name, dataType: onnxTypes[value.dtype], dims: value.shape.map(BigInt), rawData: bytesOf(value),
      }));
    }
    this.made.add(name);
    return name;
  }

  private node(opType: string, input: string[], output: string, attributes: Record<string, number> = {}): string {
    return this.add(opType, input, output, Object.entries(attributes).map(([name, i]) =>
      create(AttributeProtoSchema, { name, type: Kind.INT, i: BigInt(i) })));
  }

  private add(opType: string, input: string[], output: string, attribute: NodeProto['attribute']): string {
    if (!this.made.has(output)) {
      this.nodes.push(create(NodeProtoSchema, { opType, input, output: [output], name: output, attribute }));
    }
    this.made.add(output);
    return output;
  }
}

const label = ({ factor, axes, plus = 0 }: Size): string =>
  [...(factor === 1 && axes.length > 0 ? [] : [String(factor)]), ...axes.map((a) => a.name)].join('*') + (plus === 0 ? '' : ` + ${plus}`);
