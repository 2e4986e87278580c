/** Questions about pictures, with the answers of humans: VQAv2, OK-VQA, GQA and Parquet files of the hub. */
import { stat } from 'node:fs/promises';
import { systemError } from '../formats/files.js';
import { annotatedData } from './annotated-manifest.js';
import { Issues, splitNames } from './dataset-parts.js';
import type { SplitName } from './dataset-parts.js';
import type { ImageRef } from './image-ref.js';
import { findQuestionFiles, readGqa, readVqa } from './questions-json.js';
import { readQuestionTables } from './questions-parquet.js';

export interface QuestionExample {
  /** As its data set numbers it. */
  readonly id: string;
  readonly question: string;
  readonly image: ImageRef;
  /** Of humans, as they gave them: ten in VQAv2 and OK-VQA, one in GQA. Absent where the data keep them secret. */
  readonly answers?: readonly string[];
  /** The answer that stands for them: `multiple_choice_answer` of VQA. */
  readonly usualAnswer?: string;
  /** VQA's `question_type`, GQA's structural type. */
  readonly questionType?: string;
  /** VQA's `answer_type`: `yes/no`, `number` or `other`. */
  readonly answerType?: string;
}

export interface QuestionSet {
  readonly examples: readonly QuestionExample[];
  /** The pictures of the examples, each once. */
  readonly images: readonly ImageRef[];
}

export type QuestionSplits = Readonly<Partial<Record<SplitName, QuestionSet>>> & {
  /** What the user should know but need not mend. */
  readonly warnings: readonly string[];
};

export interface QuestionOptions {
  /** Which questions are the test split where a folder has those of both. Default `test-dev2015`. */
  readonly test?: 'test-dev2015' | 'test2015';
}

/**
 * Reads a folder in an official layout or with Parquet files, or a manifest (.yaml, .yml or .json) that names files.
 * docs/data-vqa-captions.md has the layouts.
 * @throws ScionError: `input` with everything that is wrong, `io` where the system refuses
 */
export async function readQuestions(data: string, options: QuestionOptions = {}): Promise<QuestionSplits> {
  const { isDirectory } = await stat(data).then((found) => ({ isDirectory: found.isDirectory() }), (cause: unknown) => {
    throw systemError(data, 'read it', cause);
  });
  const { folder, format, splits } = await annotatedData(data, isDirectory, ['vqa', 'gqa', 'parquet'],
    (found) => findQuestionFiles(found, options.test ?? 'test-dev2015'));
  const issues = new Issues();
  const warnings: string[] = [];
  const read = { vqa: readVqa, gqa: readGqa, parquet: readQuestionTables }[format as 'vqa' | 'gqa' | 'parquet'];
  const examples = await read(folder, splits, issues, warnings);
  issues.throwIfAny(data);
  for (const split of splitNames) {
    if (examples[split]?.length === 0) issues.add(data, `has no question of ${split}, expected at least one; `
      + 'leave the split out');
  }
  issues.throwIfAny(data);
  const sets = splitNames.flatMap((split) => {
    const own = examples[split];
    return own ? [[split, { examples: own, images: [...new Set(own.map(({ image }) => image))] }] as const] : [];
  });
  return { ...Object.fromEntries(sets), warnings };
}
