/**
 * Low-rank adaptation of a linear layer or a convolution (Hu et al., ICLR 2022), and its weight-decomposed form DoRA
 * (Liu et al., ICML 2024). The parts have the names of Python's PEFT.
 */
import type { Value } from '../../ir/graph.js';
import { Conv2d } from '../../nn/conv.js';
import { dropoutInTraining } from '../../nn/dropout.js';
import * as f from '../../nn/functional.js';
import { Linear, type Weights } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Init, type Parameter, bind, init, trained } from '../../nn/parameter.js';
import { type Tensor, float32 } from '../../util/tensor.js';
import type { AttachContext, Mergeable, Values } from '../backbone-method.js';
import { baseLayer } from '../merge.js';
import { type Project, type Route, routed } from '../routing/layer.js';
import type { Adaptable } from '../targets.js';

type Reads = Pick<AttachContext, 'read'>;

export interface LoraOptions {
  r: number;
  /** α / r, or α / √r. */
  scaling: number;
  dropout: number;
  init: 'uniform' | 'gaussian';
  /** A picture that is mixed in, of linear layers. */
  route?: Route | undefined;
}

/** A and B as matrices, A [rank, columns] and B [out, rank]. */
export interface Factors {
  rank: number;
  a: Float32Array;
  b: Float32Array;
}

/** Uniform within 1/√fan_in as PyTorch's Kaiming-uniform(√5), fan_in all axes but the first. */
const kaiming: Init = (shape, random) =>
  init.uniform(1 / Math.sqrt(shape.slice(1).reduce((a, b) => a * b, 1)))(shape, random);

const inputsOf = (base: Adaptable): number => (base instanceof Linear ? base.inFeatures : base.inChannels);
const outputsOf = (base: Adaptable): number => (base instanceof Linear ? base.outFeatures : base.outChannels);

export const firstOfA = ({ r, init: kind }: LoraOptions): Init => (kind === 'gaussian' ? init.normal(1 / r) : kaiming);
/**
 * Zero, so that training starts from the model. With routing behind both factors B is drawn, since a product of two zeros
 * would stay zero.
 */
export const firstOfB = ({ route }: LoraOptions): Init => (route?.position === 'after' ? kaiming : init.zeros);

function factorsOf(base: Adaptable, options: LoraOptions): { a: Module; b: Module } {
  return {
    a: factor(base, inputsOf(base), options.r, firstOfA(options), true),
    b: factor(base, options.r, outputsOf(base), firstOfB(options), false),
  };
}

function factor(base: Adaptable, from: number, to: number, initial: Init, kernel: boolean): Adaptable {
  const weights: Weights = (_, shape) => trained(shape, initial);
  if (base instanceof Linear) return new Linear(weights, from, to, false);
  return kernel
    ? new Conv2d(weights, from, to, base.kernel, { ...base.options, bias: false }) : new Conv2d(weights, from, to, 1);
}

/** `W x + b + scaling · B A x`: A [r, in] drawn, B [out, r] zero at the start. */
export class LoraLayer extends Module implements Mergeable {
  protected readonly outputs: number;

  constructor(
    protected readonly base: Adaptable, protected readonly options: LoraOptions, factors = factorsOf(base, options),
  ) {
    super();
    this.outputs = outputsOf(base);
    this.child(baseLayer, base);
    this.child('lora_A', factors.a);
    this.child('lora_B', factors.b);
  }

  get scaling(): number {
    return this.options.scaling;
  }

  get obstacle(): string | undefined {
    return this.options.route && 'routing mixes another picture into every example';
  }

  forward(x: Value): Value {
    return f.add(this.run(baseLayer, x), this.update(x));
  }

  /** `scaling · B A x`, with dropout on x in training; with a route, `scaling · B route(A x, A v)`. */
  protected update(x: Value): Value {
    const { dropout, scaling, route } = this.options;
    const { name } = this.part<Adaptable>('lora_A').weight;
    const down: Project = (rows, part) => this.run('lora_A', dropoutInTraining(rows, dropout, name + part));
    const change = routed(x, route, down, (rows) => this.run('lora_B', rows));
    return this.arrange(f.mul(change, scaling));
  }

  /** What B gives as outputs of the layer below. */
  protected arrange(change: Value): Value {
    return this.base instanceof Linear ? change : this.base.arrange(change);
  }

  /** Its trained factors as matrices. */
  factors(value: Values): Factors {
    const [a, b] = ['lora_A', 'lora_B'].map((name) => value(this.part<Adaptable>(name).weight.name).data);
    return { rank: this.options.r, a: a!, b: b! };
  }

  /** `W + scaling · B A`, [out, …]. */
  protected async whole({ read }: Reads, value: Values): Promise<Tensor<'float32'>> {
    const { scaling } = this.options;
    const weight = await read(this.base.weight);
    const { rank, a, b } = this.factors(value);
    const columns = weight.data.length / this.outputs;
    const out = Float32Array.from(weight.data);
    for (let i = 0; i < this.outputs; i++) for (let k = 0; k < rank; k++) {
      const share = scaling * b[i * rank + k]!;
      for (let j = 0; j < columns; j++) out[i * columns + j]! += share * a[k * columns + j]!;
    }
    return float32(weight.shape, out);
  }

  async merge(context: Reads, value: Values): Promise<Map<Parameter, Tensor<'float32'>>> {
    return new Map([[this.base.weight, await this.whole(context, value)]]);
  }
}

/** `m · (W + scaling · B A) / ‖·‖`, rows of norm m, trained from ‖W‖. As in PEFT no gradient passes the norm. */
export class DoraLayer extends LoraLayer {
  private readonly magnitude: Parameter;

  /** @param magnitude [out], the norms of the rows of W */
  constructor(base: Adaptable, options: LoraOptions, magnitude: Tensor<'float32'>) {
    super(base, options);
    const shape = base instanceof Linear ? [this.outputs] : [1, this.outputs, 1, 1];
    this.magnitude = this.parameter('lora_magnitude_vector', trained(shape, () => float32(shape, magnitude.data)));
  }

  override forward(x: Value): Value {
    const { graph } = x;
    const { base } = this;
    const [a, b] = ['lora_A', 'lora_B'].map((name) => bind(graph, this.part<Adaptable>(name).weight)) as [Value, Value];
    const { r, scaling, dropout } = this.options;
    const weight = f.reshape(bind(graph, base.weight), [this.outputs, -1]);
    const change = f.matmul(f.reshape(b, [this.outputs, r]), f.reshape(a, [r, -1]));
    const norm = f.detach(f.sqrt(f.reduceSumSquare(f.add(weight, f.mul(change, scaling)), [1]))); // [out]
    const axes = base instanceof Linear ? [this.outputs] : base.perChannel;
    const factor = f.div(f.reshape(bind(graph, this.magnitude), axes), f.reshape(norm, axes));
    const bias = base.bias && f.reshape(bind(graph, base.bias), axes);
    // as PEFT: dropout is on all of the change, the base result is exact
    const plain = this.run(baseLayer, x);
    const kept = dropoutInTraining(x, dropout, this.part<Adaptable>('lora_A').weight.name);
    const own = this.run(baseLayer, kept);
    const linear = bias ? f.sub(own, bias) : own;
    return f.add(plain, f.add(f.mul(linear, f.sub(factor, 1)), f.mul(this.update(x), factor)));
  }

  override async merge(context: Reads, value: Values): Promise<Map<Parameter, Tensor<'float32'>>> {
    const weight = await this.whole(context, value);
    const norms = rowNorms(weight);
    const magnitude = value(this.magnitude.name).data;
    const columns = weight.data.length / this.outputs;
    const scaled = weight.data.map((v, i) => (v * magnitude[Math.floor(i / columns)]!) / norms.data[Math.floor(i / columns)]!);
    return new Map([[this.base.weight, float32(weight.shape, scaled)]]);
  }
}

/** The norms of the rows of a weight [out, …] → [out]. */
export function rowNorms({ shape, data }: Tensor<'float32'>): Tensor<'float32'> {
  const rows = shape[0]!;
  const columns = data.length / rows;
  return float32([rows], Float32Array.from({ length: rows }, (_, i) =>
    Math.sqrt(data.subarray(i * columns, (i + 1) * columns).reduce((sum, v) => sum + v * v, 0))));
}
