/** Questions in the JSON files of VQA (v1, v2, OK-VQA) and of GQA. */
import { posix } from 'node:path';
import * as z from 'zod';
import { readJsonRecords } from '../formats/json-records-node.js';
import type { JsonRecord } from '../formats/json-records-node.js';
import { inputError } from '../util/errors.js';
import type { DataFolder } from './annotated-folder.js';
import type { SplitFiles, Splits } from './annotated-manifest.js';
import { splitNames } from './dataset-parts.js';
import type { Issues, SplitName } from './dataset-parts.js';
import type { QuestionExample } from './questions.js';

export type Examples = Partial<Record<SplitName, QuestionExample[]>>;

const subsets: Readonly<Record<SplitName, readonly string[]>> = {
  train: ['train2014'], val: ['val2014'], test: ['test-dev2015', 'test2015'],
};
const gqaNames: Readonly<Record<SplitName, string>> = {
  train: 'train_balanced_questions.json', val: 'val_balanced_questions.json', test: 'testdev_balanced_questions.json',
};

/** @param test the subset that is taken where the files of both are there */
export function findQuestionFiles(
  folder: DataFolder, test: string,
): { format: 'vqa' | 'gqa'; splits: Splits } | undefined {
  const only = (pattern: RegExp, what: string): string | undefined => {
    const [file, second] = folder.named(pattern);
    if (second === undefined) return file;
    throw inputError(folder.path, `has ${what} twice, in ${file} and ${second}; `
      + 'remove one, or name the files in a manifest');
  };
  const splits: Partial<Record<SplitName, SplitFiles>> = {};
  for (const split of splitNames) {
    const names = [...subsets[split]].sort((a, b) => Number(b === test) - Number(a === test));
    for (const subset of names) {
      const questions = only(new RegExp(`^(v2_)?OpenEnded_mscoco_${subset}_questions\\.json$`), `the questions of ${subset}`);
      const annotations = only(new RegExp(`^(v2_)?mscoco_${subset}_annotations\\.json$`), `the annotations of ${subset}`);
      if (questions === undefined && annotations !== undefined) {
        throw inputError(folder.full(annotations), `its questions are missing; `
          + `put v2_OpenEnded_mscoco_${subset}_questions.json into ${folder.path}`);
      }
      if (questions === undefined) continue;
      if (split !== 'test' && annotations === undefined) {
        throw inputError(folder.full(questions), `its annotations are missing; `
          + `put v2_mscoco_${subset}_annotations.json into ${folder.path}`);
      }
      splits[split] ??= { questions, ...(annotations !== undefined && { annotations }) };
    }
  }
  if (Object.keys(splits).length > 0) return { format: 'vqa', splits };
  for (const split of splitNames) {
    const questions = only(new RegExp(`^${gqaNames[split].replace('.', '\\.')}$`), `the questions of ${split}`);
    if (questions !== undefined) splits[split] = { questions };
  }
  return Object.keys(splits).length > 0 ? { format: 'gqa', splits } : undefined;
}

const id = z.union([z.string().min(1), z.number()], 'expected an id').transform(String);
const question = z.string('expected a text').refine((x) => x.trim() !== '', 'is empty, expected a question');
const vqaQuestion = z.object({ question_id: id, image_id: id, question });
const vqaAnnotation = z.object({
  question_id: id, question_type: z.string().optional(), answer_type: z.string().optional(),
  multiple_choice_answer: z.string().optional(),
  answers: z.array(z.object({ answer: z.string('expected a text') }), 'expected a list of {"answer": …}')
    .min(1, 'has no answer'),
});
type Annotation = z.output<typeof vqaAnnotation>;
const gqaQuestion = z.object({
  imageId: id, question, answer: z.string('expected a text').optional(),
  types: z.object({ structural: z.string().nullish() }).optional(),
});

/** Reads the records of one list of a file, each checked; others are skipped. */
export async function readRecords<T>(
  path: string, schema: z.ZodType<T>, wanted: (record: JsonRecord) => boolean, issues: Issues,
  take: (value: T, at: string, key: string) => void,
): Promise<void> {
  await readJsonRecords(path, (record) => {
    if (!wanted(record)) return;
    const at = [path, record.key, record.index].filter((x) => x !== undefined && x !== '').join(': ');
    const checked = schema.safeParse(record.value);
    if (checked.success) take(checked.data, at, record.key);
    else for (const { path: key, message } of checked.error.issues) issues.add([at, ...key].join(': '), `${message}; `
      + 'mend the file');
  });
}

/** Whether a record is an element of this list. */
export const inList = (name: string) => ({ key, index }: JsonRecord): boolean => key === name && index !== undefined;

/** `questions`: question_id, image_id, question; `annotations`: question_id, answers, their types. */
export async function readVqa(
  folder: DataFolder, splits: Splits, issues: Issues, warnings: string[],
): Promise<Examples> {
  const all: Examples = {};
  for (const split of splitNames) {
    const files = splits[split];
    if (!files) continue;
    const { questions, annotations } = files;
    if (questions === undefined || (annotations === undefined && split !== 'test')) {
      const missing = questions === undefined ? 'questions' : 'annotations';
      issues.add(`${folder.path}: ${split}`, `names no ${missing}, which are needed; `
        + `add "${missing}:" to the manifest`);
      continue;
    }
    all[split] = await readVqaSplit(folder, { ...files, questions }, issues, warnings);
  }
  return all;
}

async function readVqaSplit(
  folder: DataFolder, { questions, annotations, images }: SplitFiles & { questions: string }, issues: Issues,
  warnings: string[],
): Promise<QuestionExample[]> {
  const answered = new Map<string, Annotation>();
  const known = new Answers(warnings);
  if (annotations !== undefined) {
    const path = folder.full(annotations);
    await readRecords(path, vqaAnnotation, inList('annotations'), issues, (annotation, at) => {
      if (answered.has(annotation.question_id)) issues.add(at, `question ${annotation.question_id} is annotated twice; `
        + 'remove one');
      known.check(annotation.answers.map(({ answer }) => answer), at, issues);
      answered.set(annotation.question_id, annotation);
    });
    known.warn(path);
  }
  const path = folder.full(questions);
  const subset = /(train|val|test)20\d\d/.exec(posix.basename(questions).replace('test-dev', 'test'))?.[0];
  const examples: QuestionExample[] = [];
  const seen = new Set<string>();
  const spare = new Set(answered.keys());
  await readRecords(path, vqaQuestion, inList('questions'), issues, ({ question_id, image_id, question: text }, at) => {
    if (seen.has(question_id)) return issues.add(at, `question ${question_id} is there twice; remove one`);
    seen.add(question_id);
    spare.delete(question_id);
    const image = folder.find(cocoNames(image_id, subset), subset, images);
    if (!image) return issues.add(at, missingImage(cocoNames(image_id, subset)[0]!, image_id, folder, images));
    const annotation = answered.get(question_id);
    if (!annotation && annotations !== undefined) {
      return issues.add(at, `question ${question_id} has no annotation in ${folder.full(annotations)}; `
        + 'get both files again');
    }
    examples.push({
      id: question_id, question: text.trim(), image, ...(annotation && {
        answers: annotation.answers.map(({ answer }) => known.same(answer)),
        ...optional('usualAnswer', annotation.multiple_choice_answer),
        ...optional('questionType', annotation.question_type), ...optional('answerType', annotation.answer_type),
      }),
    });
  });
  if (spare.size > 0) warnings.push(`${path}: ${spare.size} annotations have no question and are left out`);
  return examples;
}

/** One object of questions by their ids: imageId, question, answer. Its pictures are `<imageId>.jpg`. */
export async function readGqa(
  folder: DataFolder, splits: Splits, issues: Issues, warnings: string[],
): Promise<Examples> {
  const all: Examples = {};
  for (const split of splitNames) {
    const { questions, images } = splits[split] ?? {};
    if (!splits[split]) continue;
    if (questions === undefined) {
      issues.add(`${folder.path}: ${split}`, 'names no questions, which are needed; add "questions:" to the manifest');
      continue;
    }
    const known = new Answers(warnings);
    const examples: QuestionExample[] = all[split] = [];
    const path = folder.full(questions);
    await readRecords(path, gqaQuestion, ({ index }) => index === undefined, issues, (value, at, key) => {
      const names = imageNames(value.imageId);
      const image = folder.find(names, 'images', images);
      if (!image) return issues.add(at, missingImage(names[0]!, value.imageId, folder, images));
      if (value.answer === undefined && split !== 'test') return issues.add(at, 'has no answer, expected one; '
        + 'mend the file');
      if (value.answer !== undefined) known.check([value.answer], at, issues);
      examples.push({
        id: key, question: value.question.trim(), image,
        ...(value.answer !== undefined && { answers: [known.same(value.answer)] }),
        ...optional('questionType', value.types?.structural),
      });
    });
  }
  return all;
}

/** The answers of a split: equal ones are one text in memory, and empty ones are counted. */
export class Answers {
  private readonly texts = new Map<string, string>();
  private empty = 0;

  constructor(private readonly warnings: string[]) {}

  check(answers: readonly string[], at: string, issues: Issues): void {
    const empty = answers.filter((answer) => answer.trim() === '').length;
    if (empty === answers.length) issues.add(at, 'all its answers are empty, expected a text; '
      + 'leave the question out or answer it');
    else this.empty += empty;
  }

  same(answer: string): string {
    const known = this.texts.get(answer);
    if (known === undefined) this.texts.set(answer, answer);
    return known ?? answer;
  }

  warn(path: string): void {
    if (this.empty > 0) this.warnings.push(`${path}: ${this.empty} answers are empty; they count as wrong`);
  }
}

export function optional<K extends string>(key: K, value: string | null | undefined): Partial<Record<K, string>> {
  return value === undefined || value === null ? {} : { [key]: value } as Record<K, string>;
}

const imageExtensions = ['jpg', 'jpeg', 'png', 'webp'];
export const imageNames = (stem: string): string[] => imageExtensions.map((extension) => `${stem}.${extension}`);

/** The names of a picture of COCO, as of 2014 and 2017, or its number alone. */
export function cocoNames(image: string, subset: string | undefined): string[] {
  const number = image.padStart(12, '0');
  return [...(subset === undefined ? [] : [`COCO_${subset}_${number}`]), number, image].flatMap(imageNames);
}

export function missingImage(name: string, image: string, folder: DataFolder, below = ''): string {
  return `the picture ${name} of image ${JSON.stringify(image)} is not in ${folder.full(below)} or below it; put it there`;
}
