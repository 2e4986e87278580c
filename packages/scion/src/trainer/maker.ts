/** From a method and the data of a recipe to the modules that are trained. */
import type { Split } from '../data/feature-file.js';
import { type FeatureInputs, type Method, isBackboneMethod } from '../peft/index.js';
import { assert } from '../util/errors.js';
import { type Classifying, adaptedModel } from './adapted.js';
import type { RecipeFeatures } from './pictures.js';

/** Makes the module of a method with the given hyper-parameters, for given training rows. */
export type MakeModule = (config: Record<string, unknown>, support: Split) => Promise<Classifying>;

export function featureInputs(
  file: Pick<RecipeFeatures, 'text' | 'classNames' | 'dim' | 'logitScale'>,
  support: Split,
): FeatureInputs {
  return {
    ...(file.text ? { text: file.text } : {}),
    support,
    classes: file.classNames.length,
    dim: file.dim,
    logitScale: file.logitScale,
  };
}

/** @param file with pictures, where the method adapts the backbone */
export function moduleMaker(method: Method, file: RecipeFeatures): MakeModule {
  if (!isBackboneMethod(method)) {
    return (config, support) => Promise.resolve(method.create(featureInputs(file, support), config));
  }
  const { source } = file;
  assert(source, `${method.name} is given features without their model`);
  return (config, support) => adaptedModel(method, config, featureInputs(file, support), source);
}
