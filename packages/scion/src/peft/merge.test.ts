import { expect, test } from 'vitest';
import type { Value } from '../ir/graph.js';
import * as f from '../nn/functional.js';
import { Linear, type Weights, below } from '../nn/layers.js';
import { Module } from '../nn/module.js';
import { readParameter } from '../nn/parameter-values.js';
import { type Parameter, frozen, init, trained } from '../nn/parameter.js';
import { Random } from '../util/random.js';
import { type Tensor, float32, numel } from '../util/tensor.js';
import { ScionError } from '../util/errors.js';
import type { Values } from './backbone-method.js';
import { lora } from './lora/index.js';
import { mergedWeights } from './merge.js';

const random = Random.seeded(3);
const drawn = (shape: readonly number[]): Tensor<'float32'> =>
  float32(shape, Float32Array.from({ length: numel(shape) }, () => random.normal()));
const weights: Weights = (_, shape) => frozen(drawn(shape));

class Two extends Module {
  constructor() {
    super();
    for (const name of ['q_proj', 'v_proj']) this.child(name, new Linear(below(weights, name), 3, 2));
  }

  forward(x: Value): Value {
    return f.add(this.run('q_proj', x), this.run('v_proj', x));
  }
}
class Root extends Module {
  constructor() {
    super();
    this.child('text_model.layers.0', new Two());
    this.named();
  }

  /** The parameter with this name. */
  parameterAt(name: string): Parameter {
    return new Map(this.parameters()).get(name)!;
  }
}

/** Attaches LoRA and draws values for all that is trained. */
async function attached(given: object): Promise<{ model: Root; values: Values }> {
  const model = new Root();
  await lora.attach(model, lora.config.parse(given), { read: readParameter });
  const drawnValues = new Map([...model.parameters()].filter(([, p]) => p.origin.kind === 'trained')
    .map(([name, p]) => [name, drawn(p.shape)]));
  return { model, values: (name) => drawnValues.get(name)! };
}

const context = { read: readParameter };
const layer = 'text_model.layers.0';

test('gives every changed parameter by its name in the model without the adapter', async () => {
  const { model, values } = await attached({ r: 2, lora_alpha: 3, target_modules: 'v_proj', bias: 'all' });
  const wrapped = `${layer}.v_proj.base_layer`;
  const merged = await mergedWeights(model, context, values);
  expect([...merged.keys()].sort()).toEqual([`${layer}.q_proj.bias`, `${layer}.v_proj.bias`, `${layer}.v_proj.weight`]);
  expect(merged.get(`${layer}.v_proj.bias`)).toBe(values(`${wrapped}.bias`));
  // W + 3/2 · B A, in double precision
  const base = await readParameter(model.parameterAt(`${wrapped}.weight`));
  const [a, b] = ['lora_A', 'lora_B'].map((part) => values(`${layer}.v_proj.${part}.weight`).data) as [Float32Array, Float32Array];
  merged.get(`${layer}.v_proj.weight`)!.data.forEach((value, i) => {
    const [row, column] = [Math.floor(i / 3), i % 3];
    const change = b[row * 2]! * a[column]! + b[row * 2 + 1]! * a[3 + column]!;
    expect(value).toBeCloseTo(base.data[i]! + 1.5 * change, 5);
  });
});

test('refuses what is no change of weights, by its place', async () => {
  const { model, values } = await attached({ target_modules: 'v_proj' });
  const plug = new Linear((_, shape) => trained(shape, init.zeros), 3, 3);
  model.plug('prompts', plug);
  model.named();
  const failure = await mergedWeights(model, context, values).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(ScionError);
  expect((failure as ScionError).message).toMatch(/^merge: prompts cannot be merged: .*lora, bitfit/);
});
