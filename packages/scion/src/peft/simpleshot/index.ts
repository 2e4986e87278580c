/** SimpleShot (Wang et al., 2019, arXiv 1911.04623): the nearest class mean of normalised features. */
import { z } from 'zod';
import type { Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { type Parameter, bind, frozen } from '../../nn/parameter.js';
import { float32 } from '../../util/tensor.js';
import { type FeatureInputs, type FeatureMethod, FeatureModule, classMeans, normaliseRows } from '../feature-method.js';

/**
 * `logits = -s/2 ‖f̂ - c_k‖²`, c_k the mean of the normalised training features of class k, up to a number that is the
 * same for all classes: `s (f̂ · c_k - ½ ‖c_k‖²)`. Were the means of norm 1, these would be zero-shot's logits.
 */
class SimpleShot extends FeatureModule {
  private readonly means: Parameter;
  private readonly offsets: Parameter;

  constructor(inputs: FeatureInputs) {
    super(inputs);
    const { support, classes, dim } = inputs;
    const means = classMeans({ ...inputs, support: { ...support, features: normaliseRows(support.features) } });
    const offsets = new Float64Array(classes);
    means.data.forEach((v, i) => { offsets[Math.floor(i / dim)]! -= v * v / 2; });
    this.means = this.parameter('means', frozen(means));
    this.offsets = this.parameter('offsets', frozen(float32([classes], offsets)));
  }

  logits(features: Value): Value {
    const { graph } = features;
    const near = f.gemm(f.l2Normalize(features), bind(graph, this.means), bind(graph, this.offsets), { transB: 1 });
    return f.mul(near, this.inputs.logitScale);
  }
}

const config = z.strictObject({});

export const simpleShot: FeatureMethod<typeof config> = {
  name: 'simpleshot',
  title: 'SimpleShot',
  paper: 'https://arxiv.org/abs/1911.04623',
  summary: 'the nearest mean of the normalised training features of a class; nothing is trained, no words are used',
  needsText: false,
  config,
  create: (inputs) => new SimpleShot(inputs).named(),
};
