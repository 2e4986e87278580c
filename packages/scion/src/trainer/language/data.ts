/** The data of a task with words, with every picture once. */
import { readCaptions } from '../../data/captions.js';
import type { SplitName } from '../../data/dataset-parts.js';
import type { ImageRef } from '../../data/image-ref.js';
import { readQuestions } from '../../data/questions.js';
import { type Example, type LanguageData, languageSplits } from './examples.js';
import type { LanguageTask } from './recipe.js';

type Read = (path: string) => Promise<{
  splits: Partial<Record<SplitName, readonly (Omit<Example, 'picture'> & { image: ImageRef })[]>>; warnings: readonly string[];
}>;

const readers: Readonly<Record<LanguageTask, Read>> = {
  vqa: async (path) => {
    const { warnings, ...sets } = await readQuestions(path);
    return { splits: Object.fromEntries(Object.entries(sets).map(([split, { examples }]) => [split, examples])), warnings };
  },
  caption: async (path) => {
    const { warnings, ...splits } = await readCaptions(path);
    return { splits, warnings };
  },
};

/** @throws ScionError of kind `input`: files that are missing, damaged or do not fit together, with all that is wrong */
export async function readLanguageData(task: LanguageTask, path: string): Promise<LanguageData> {
  const found = await readers[task](path);
  const places = new Map<ImageRef, number>();
  const pictures: ImageRef[] = [];
  const splits = Object.fromEntries(languageSplits.flatMap((split) => {
    const examples = found.splits[split]?.map(({ image, ...example }): Example => {
      const picture = places.get(image) ?? pictures.push(image) - 1;
      places.set(image, picture);
      return { ...example, picture };
    });
    return examples ? [[split, examples] as const] : [];
  }));
  return { path, pictures, splits, warnings: found.warnings };
}
