/** Named values of a module: trained, frozen in memory, or frozen in a file. */
import type { ExternalData, Graph, InputRole, Value } from '../ir/graph.js';
import { cast, transpose } from '../ops/build.js';
import { assert } from '../util/errors.js';
import type { Random } from '../util/random.js';
import { type DType, type Shape, type Tensor, float32, numel, sameShape } from '../util/tensor.js';

/** Draws the first value of a parameter. */
export type Init = (shape: Shape, random: Random) => Tensor<'float32'>;

export const init = {
  zeros: ((shape) => float32(shape, new Float32Array(numel(shape)))) satisfies Init,
  constant: (value: number): Init => (shape) => float32(shape, new Float32Array(numel(shape)).fill(value)),
  normal: (std: number): Init => (shape, r) => float32(shape, Float32Array.from({ length: numel(shape) }, () => r.normal() * std)),
  uniform: (bound: number): Init => (shape, r) =>
    float32(shape, Float32Array.from({ length: numel(shape) }, () => r.uniform(-bound, bound))),
  /** PyTorch's default of a linear layer, `kaiming_uniform(a = √5)`: U(-1/√fan_in, 1/√fan_in), fan_in the last axis. */
  linear: ((shape, r) => init.uniform(1 / Math.sqrt(shape.at(-1)!))(shape, r)) as Init,
} as const;

/**
 * Where a parameter's value comes from.
 * - `trained`: an input that the optimizer updates; starts from `init`. `before`: where an unfrozen one's value was from.
 * - `frozen`: an input that never changes; what depends on such values alone is computed once.
 * - `setting`: a small input that no optimizer touches but that may be set anew between runs (a searched α).
 * - `external`: bytes in a file, read by ONNX Runtime itself; float16 and bfloat16 are cast to float32. A matrix may be
 *   stored `transposed`: the file then holds the parameter's columns one after the other.
 */
export type Origin =
  | { kind: 'trained'; init: Init; before?: Exclude<Origin, { kind: 'trained' }> }
  | { kind: 'frozen'; value: Tensor }
  | { kind: 'setting'; value: Tensor }
  | { kind: 'external'; data: ExternalData; dtype: DType; transposed?: boolean };

export class Parameter {
  /** The full name in the module tree, as in the checkpoint; set by `Module.parameter` and its parents. */
  name = '';
  /** Whether it was counted in pretraining, as a mean over batches, and is never trained: a buffer of PyTorch's. */
  isStatistic = false;
  constructor(readonly shape: Shape, public origin: Origin) {}

  /** Makes a parameter that was frozen a trained one that starts from `value`, what it was. */
  unfreeze(value: Tensor<'float32'>): void {
    assert(this.origin.kind !== 'trained', `${this.name} is trained already`);
    this.origin = { kind: 'trained', init: () => value, before: this.origin };
  }
}

export const trained = (shape: Shape, initial: Init): Parameter => new Parameter(shape, { kind: 'trained', init: initial });
export const frozen = (value: Tensor): Parameter => new Parameter(value.shape, { kind: 'frozen', value });
export const setting = (value: number): Parameter => new Parameter([], { kind: 'setting', value: float32([], [value]) });

const bindings = new WeakMap<Graph, Map<Parameter, Value>>();
const roles: Record<Exclude<Origin['kind'], 'external'>, InputRole> = { trained: 'state', setting: 'state', frozen: 'frozen' };

/** The value of a parameter in a graph; the input or constant is made at the first use. */
export function bind(graph: Graph, parameter: Parameter): Value {
  const bound = bindings.get(graph) ?? new Map<Parameter, Value>();
  bindings.set(graph, bound);
  let value = bound.get(parameter);
  if (!value) {
    const { origin, name, shape } = parameter;
    value = origin.kind === 'external'
      ? fromFile(graph, name, shape, origin)
      : graph.input(name, 'value' in origin ? origin.value.dtype : 'float32', shape, roles[origin.kind]);
    bound.set(parameter, value);
  }
  return value;
}

/** Gives a parameter a value of the graph, before anything uses it, in the place of an input of its own. */
export function bindTo(parameter: Parameter, value: Value): void {
  const { graph } = value;
  const bound = bindings.get(graph) ?? new Map<Parameter, Value>();
  bindings.set(graph, bound);
  assert(!bound.has(parameter) && sameShape(value.shape, parameter.shape),
    `${parameter.name} [${parameter.shape.join(', ')}] is bound already, or a value [${value.shape.join(', ')}] does not fit`);
  bound.set(parameter, value);
}

function fromFile(graph: Graph, name: string, shape: Shape, origin: Origin & { kind: 'external' }): Value {
  const { data, dtype, transposed } = origin;
  const stored = graph.external(name, { dtype, shape: transposed ? [...shape].reverse() : shape }, data);
  const value = cast(stored, 'float32');
  return transposed ? transpose(value, [1, 0]) : value;
}

/** The parameters that a graph uses, with their values there. */
export function boundParameters(graph: Graph): ReadonlyMap<Parameter, Value> {
  return bindings.get(graph) ?? new Map<Parameter, Value>();
}
