/** Where the data sets of a comparison come from. */
import type { Need } from '../data/feature-file.js';
import { type PictureSet, pictureSets } from '../data/suites.js';
import { type RecipeFeatures, type SourceOptions, recipeFeatures } from './pictures.js';
import type { Comparison } from './recipe.js';

/** One data set: opened when its content is needed. */
export interface Source {
  /** What cells and reports call it; no two sources have the same. */
  readonly name: string;
  /** @throws ScionError with all that is wrong or, of what `need` asks for, missing */
  readonly open: (need: Need) => Promise<RecipeFeatures>;
}

/**
 * The data sets of a comparison: feature files, or pictures, where the name of a suite stands for all its tasks. Named
 * after their files; by the whole path where two files have the same name.
 */
export async function sources(comparison: Comparison, options: SourceOptions): Promise<Source[]> {
  const { features = [], data = [] } = comparison;
  // one model for all of them, opened once: a branch of the hub may move meanwhile
  const { openBackbone } = options;
  let opened: ReturnType<NonNullable<typeof openBackbone>> | undefined;
  const shared: SourceOptions = openBackbone
    ? { ...options, openBackbone: (...given) => (opened ??= openBackbone(...given)) } : options;
  const sets: PictureSet[] = (await Promise.all(data.map(pictureSets))).flat();
  const all = [
    ...features.map((path) => ({ path, name: undefined, recipe: { ...comparison, data: undefined, features: path } })),
    ...sets.map(({ path, name }) => ({ path, name, recipe: { ...comparison, features: undefined, data: path } })),
  ].map((source) => ({ ...source, name: nameOf(source) }));
  return all.map(({ name, path, recipe }) => ({
    name: all.filter((other) => other.name === name).length > 1 ? path : name,
    open: (need) => recipeFeatures(recipe, need, shared),
  }));
}

const nameOf = ({ path, name }: { path: string; name: string | undefined }): string =>
  name ?? path.replace(/[\\/]+$/, '').replace(/^.*[\\/]/, '').replace(/\.[^.]+$/, '');
