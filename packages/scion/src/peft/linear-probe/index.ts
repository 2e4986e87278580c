/** Linear probe: multinomial logistic regression on frozen features (Radford et al., ICML 2021, section 3.2). */
import { z } from 'zod';
import type { Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { type Parameter, bind, init, setting, trained } from '../../nn/parameter.js';
import { type FeatureInputs, type FeatureMethod, FeatureModule } from '../feature-method.js';

const config = z.strictObject({
  l2: z.number().min(0).default(1e-3).describe('weight of ½‖W‖² beside the mean cross entropy'),
});

class LinearProbe extends FeatureModule {
  private readonly weight: Parameter;
  private readonly bias: Parameter;
  private readonly l2: Parameter;

  constructor(inputs: FeatureInputs, { l2 }: z.output<typeof config>) {
    super(inputs);
    const { classes, dim } = inputs;
    this.weight = this.parameter('weight', trained([classes, dim], init.zeros));
    this.bias = this.parameter('bias', trained([classes], init.zeros));
    this.l2 = this.parameter('l2', setting(l2));
  }

  logits(features: Value): Value {
    const { graph } = features;
    return f.gemm(f.l2Normalize(features), bind(graph, this.weight), bind(graph, this.bias), { transB: 1 });
  }

  override penalty({ graph }: Value): Value {
    return f.mul(f.reduceSumSquare(bind(graph, this.weight)), f.mul(bind(graph, this.l2), 0.5));
  }
}

export const linearProbe: FeatureMethod<typeof config> = {
  name: 'linear-probe',
  title: 'Linear probe',
  paper: 'https://arxiv.org/abs/2103.00020',
  summary: 'logistic regression on the features, solved to convergence; no words are used',
  needsText: false,
  config,
  training: { optimizer: 'lbfgs', lr: 1, epochs: 500, batch_size: Number.MAX_SAFE_INTEGER, schedule: 'constant' },
  search: { when: 'train', published: true, grid: { l2: [1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9] } },
  classes: {
    rows: { weight: 'classes', bias: 'classes' },
    add: 'the weights of a class are fitted against those of all others; train again with its pictures among the data',
  },
  create: (inputs, options) => new LinearProbe(inputs, options).named(),
};
