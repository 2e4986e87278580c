/** How good answers are: the accuracy of VQA against ten humans, and GQA's against one answer. */
import { normaliseAnswer, trimAnswer } from './normalise.js';

/** A predicted answer and what is known of its question. */
export interface AnsweredQuestion {
  /** As the model says it. */
  readonly answer: string;
  /** The answers of humans: ten in VQAv2 and OK-VQA, one in GQA. */
  readonly answers: readonly string[];
  /** `how many`, `what color is the`, …: in VQA the first words of the question. */
  readonly questionType?: string;
  /** `yes/no`, `number` or `other`. */
  readonly answerType?: string;
}

/** Accuracies are from 0 to 1; published tables multiply them by 100. */
export interface AnswerReport {
  readonly overall: number;
  readonly perQuestionType: Readonly<Record<string, TypeAccuracy>>;
  readonly perAnswerType: Readonly<Record<string, TypeAccuracy>>;
  /** Of each question, in the order that was given. */
  readonly perQuestion: readonly number[];
}

export interface TypeAccuracy {
  readonly questions: number;
  readonly accuracy: number;
}

/**
 * The accuracy of VQA's own evaluation: of each choice of all answers but one, min(1, how many of them are the
 * predicted answer / 3), averaged over the choices. Answers are normalised first, but compared as they were written
 * where all humans gave the very same. Questions without types count in `overall` alone.
 */
export function vqaAccuracy(questions: readonly AnsweredQuestion[]): AnswerReport {
  return report(questions, ({ answer, answers }) => answerAccuracy(answer, answers));
}

/** The accuracy of one question as VQA counts it; 0 where there is one human answer or none. */
export function answerAccuracy(answer: string, answers: readonly string[]): number {
  const trimmed = answers.map(trimAnswer);
  const differ = new Set(trimmed).size > 1;
  const form = differ ? normaliseAnswer : trimAnswer;
  const predicted = form(answer);
  const all = answers.length;
  const same = trimmed.filter((given) => (differ ? form(given) : given) === predicted).length;
  if (all === 0) return 0;
  // leaving out one that is the same leaves one fewer
  return (same * Math.min(1, (same - 1) / 3) + (all - same) * Math.min(1, same / 3)) / all;
}

/** The accuracy of GQA's own evaluation: the share of questions whose answer is the given one, to the letter. */
export function gqaAccuracy(questions: readonly AnsweredQuestion[]): AnswerReport {
  return report(questions, ({ answer, answers }) => (answers.includes(answer) ? 1 : 0));
}

function report(
  questions: readonly AnsweredQuestion[], accuracyOf: (question: AnsweredQuestion) => number,
): AnswerReport {
  const perQuestion = questions.map(accuracyOf);
  const by = (typeOf: (question: AnsweredQuestion) => string | undefined): Record<string, TypeAccuracy> => {
    const sums = new Map<string, { questions: number; sum: number }>();
    questions.forEach((question, i) => {
      const type = typeOf(question);
      if (type === undefined) return;
      const { questions: count, sum } = sums.get(type) ?? { questions: 0, sum: 0 };
      sums.set(type, { questions: count + 1, sum: sum + perQuestion[i]! });
    });
    const rows = [...sums].sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([type, { questions: count, sum }]) => [type, { questions: count, accuracy: sum / count }] as const);
    return Object.fromEntries(rows);
  };
  return {
    overall: questions.length === 0 ? 0 : perQuestion.reduce((a, b) => a + b, 0) / questions.length,
    perQuestionType: by(({ questionType }) => questionType),
    perAnswerType: by(({ answerType }) => answerType),
    perQuestion,
  };
}
