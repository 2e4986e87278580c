/** Small made-up inputs for the methods' tests. */
import { assert } from '../../util/errors.js';
import { Random } from '../../util/random.js';
import { float32 } from '../../util/tensor.js';
import { type FeatureInputs, type FeatureMethod, getMethod, isBackboneMethod } from '../index.js';

/** Class centres with noise around them, one text near each centre. Rows are not normalised. */
export function sampleInputs(classes: number, dim: number, shots: number, templates = 2, seed = 1): FeatureInputs {
  const random = Random.seeded(seed);
  const centres = Float32Array.from({ length: classes * dim }, () => random.normal());
  const near = (k: number, noise: number): number[] =>
    Array.from({ length: dim }, (_, i) => centres[k * dim + i]! + noise * random.normal());
  const labels = Int32Array.from({ length: classes * shots }, (_, i) => i % classes);
  return {
    text: float32([classes, templates, dim], Array.from({ length: classes * templates }, (_, i) => near(Math.floor(i / templates), 0.8)).flat()),
    support: { features: float32([labels.length, dim], Array.from(labels, (k) => near(k, 0.7)).flat()), labels },
    classes, dim, logitScale: 10,
  };
}

/** A method over features by its name. */
export function featureMethod(name: string): FeatureMethod {
  const method = getMethod(name);
  assert(!isBackboneMethod(method), `${name} adapts the backbone`);
  return method;
}
