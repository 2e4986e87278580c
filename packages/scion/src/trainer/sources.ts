/** Where the data sets of a comparison come from. */
import { type FeatureFile, type Need, readFeatureFile } from '../data/feature-file.js';
import type { Comparison } from './recipe.js';

/** One data set: opened when its content is needed. */
export interface Source {
  /** What cells and reports call it; no two sources have the same. */
  readonly name: string;
  /** @throws ScionError with all that is wrong or, of what `need` asks for, missing */
  readonly open: (need: Need) => Promise<FeatureFile>;
}

/** The data sets of a comparison, named after their files; by the whole path where two files have the same name. */
export function sources({ features }: Pick<Comparison, 'features'>): Source[] {
  const short = features.map((path) => path.replace(/^.*[\\/]/, '').replace(/\.[^.]+$/, ''));
  return features.map((path, i) => ({
    name: short.filter((name) => name === short[i]).length > 1 ? path : short[i]!,
    open: (need) => readFeatureFile(path, need),
  }));
}
