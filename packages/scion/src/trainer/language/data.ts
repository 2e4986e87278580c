/** The data of a task with words, with every picture once. */
import { readCaptions } from '../../data/captions.js';
import type { Picture } from '../../data/feature-file.js';
import { readQuestions } from '../../data/questions.js';
import { type Example, type LanguageData, type LanguageSplit, languageSplits } from './examples.js';
import type { LanguageTask } from './recipe.js';

/** @throws ScionError of kind `input`: files that are missing, damaged or do not fit together, with all that is wrong */
export async function readLanguageData(task: LanguageTask, path: string): Promise<LanguageData> {
  const found = task === 'vqa' ? await readQuestions(path) : await readCaptions(path);
  const places = new Map<string, number>();
  const pictures: Picture[] = [];
  const splits: Partial<Record<LanguageSplit, Example[]>> = {};
  for (const split of languageSplits) {
    const examples = found.splits[split];
    if (!examples) continue;
    splits[split] = examples.map(({ image, ...example }): Example => {
      let picture = places.get(image.path);
      if (picture === undefined) {
        picture = pictures.push({ ...image, view: 0 }) - 1;
        places.set(image.path, picture);
      }
      return { ...example, picture };
    });
  }
  return { path, pictures, splits, warnings: found.warnings };
}
