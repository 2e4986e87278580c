/** Questions in Parquet files: columns `question`, `image`, and where they are there `answers`, ids and types. */
import { isObject } from '../formats/json.js';
import type { DataFolder } from './annotated-folder.js';
import type { Splits } from './annotated-manifest.js';
import type { Issues } from './dataset-parts.js';
import { asText, asTexts, readTables } from './parquet-tables.js';
import { Answers, type Examples, optional } from './questions-json.js';

/** Answers are a list of texts or of `{answer: …}`; one `answer`, or else `multiple_choice_answer`, does as well. */
export async function readQuestionTables(
  folder: DataFolder, splits: Splits, issues: Issues, warnings: string[],
): Promise<Examples> {
  const all: Examples = {};
  const known = new Answers(warnings);
  await readTables(folder, splits, ['question'], issues, ({ split, at, image, value }) => {
    const question = asText(value('question'))?.trim();
    if (!question) return issues.add(at, 'its question is empty, expected a text; leave the row out');
    const usual = asText(value('multiple_choice_answer'));
    const given = value('answers', 'answer', 'multiple_choice_answer');
    const answers = given === undefined ? undefined : asTexts(given, 'answer');
    if (given !== undefined && !answers) return issues.add(at, 'its answers are no texts, expected a list of texts or of {answer: text}');
    if (!answers?.length && split !== 'test') return issues.add(at, 'has no answer, expected one; leave the row out');
    if (answers?.length) known.check(answers, at, issues);
    const types = value('types');
    const examples = all[split] ??= [];
    examples.push({
      id: asText(value('question_id', 'questionId', 'id')) ?? String(examples.length), question, image,
      ...(answers?.length && { answers: answers.map((answer) => known.same(answer)) }),
      ...optional('usualAnswer', usual),
      ...optional('questionType', asText(value('question_type') ?? (isObject(types) ? types.structural : undefined))),
      ...optional('answerType', asText(value('answer_type'))),
    });
  });
  known.warn(folder.path);
  return all;
}
