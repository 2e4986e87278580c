/**
 * LoRA of some of the projections in a fused one, each with factors of its own, as the loralib code of Hu et al. (ICLR
 * 2022) adapts GPT-2's `c_attn`: A holds those of all of them, one after the other, and so does B.
 */
import type { Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { type FusedLinear, Linear } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Init, type Parameter, bind, trained } from '../../nn/parameter.js';
import type { Values } from '../backbone-method.js';
import { type Factors, LoraLayer, type LoraOptions, firstOfA, firstOfB } from './layer.js';

/** B of several projections, [parts · width, r]: rows of part i read the r features of part i. */
class GroupedLinear extends Module {
  readonly weight: Parameter;

  constructor(private readonly count: number, r: number, width: number, initial: Init) {
    super();
    this.weight = this.parameter('weight', trained([count * width, r], initial));
  }

  /** x [rows, parts · r] → [rows, parts · width] */
  forward(x: Value): Value {
    const weight = bind(x.graph, this.weight);
    const equal = (size: number): number[] => Array.from({ length: this.count }, () => size / this.count);
    const inputs = f.split(x, equal(x.shape[1]!), 1);
    const weights = f.split(weight, equal(weight.shape[0]!), 0);
    return f.concat(inputs.map((own, i) => f.gemm(own, weights[i]!, undefined, { transB: 1 })), 1);
  }
}

/** A [parts · r, in], B [parts · width, r]; the projections that are not adapted stay what they are. */
export class GroupedLoraLayer extends LoraLayer {
  /** @param adapted which of the base's parts, in their order there */
  constructor(private readonly fused: FusedLinear, options: LoraOptions, private readonly adapted: readonly string[]) {
    const width = fused.outFeatures / fused.projections.length;
    super(fused, options, {
      a: new Linear((_, shape) => trained(shape, firstOfA(options)), fused.inFeatures, adapted.length * options.r, false),
      b: new GroupedLinear(adapted.length, options.r, width, firstOfB(options)),
    });
  }

  /** How many times r is the rank of its factors as plain ones. */
  get groups(): number {
    return this.adapted.length;
  }

  /** [rows, parts · width] of the adapted ones → [rows, out], the others 0 */
  protected override arrange(change: Value): Value {
    const { projections, outFeatures } = this.fused;
    const [rows, width] = [change.shape[0]!, outFeatures / projections.length];
    const own = f.split(change, this.adapted.map(() => width), 1);
    return f.concat(projections.map((part) =>
      own[this.adapted.indexOf(part)] ?? f.full(change.graph, change.dtype, [rows, width], 0)), 1);
  }

  /** B with zeros where a projection reads nothing. */
  override factors(value: Values): Factors {
    const { r } = this.options;
    const { a, b } = super.factors(value);
    const width = this.outputs / this.fused.projections.length;
    const rank = this.groups * r;
    const whole = new Float32Array(this.outputs * rank);
    this.adapted.forEach((part, group) => {
      const first = this.fused.projections.indexOf(part) * width;
      for (let row = 0; row < width; row++) {
        const from = (group * width + row) * r;
        whole.set(b.subarray(from, from + r), (first + row) * rank + group * r);
      }
    });
    return { rank, a, b: whole };
  }
}
