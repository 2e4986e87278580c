/** Question answering as classification: the answers that can be given, and how right each of them is. */
import { normaliseAnswer, trimAnswer } from './normalise.js';

/** The form that answers are compared in: `normalised` as VQA's evaluation does it, or `written`, for GQA's. */
export const answerForms = { normalised: normaliseAnswer, written: trimAnswer } as const;
export type AnswerForm = keyof typeof answerForms;

/** The answers that a model can give, in the order of its outputs. */
export interface AnswerVocabulary {
  readonly answers: readonly string[];
  readonly form: AnswerForm;
  /** The place of an answer, in this form, in `answers`. */
  readonly places: ReadonlyMap<string, number>;
  /** The place of an answer as it was given, whose form is remembered, since few answers are given often. */
  readonly placeOf: (answer: string) => number | undefined;
}

export interface VocabularyOptions {
  /** Most answers. Default 3129, the number in VQAv2 by Anderson et al. and those who followed them. */
  readonly size?: number;
  /** How often an answer must occur at least. Default 1; Anderson et al. take 9. */
  readonly minimumOccurrence?: number;
  /**
   * What is counted: `question`, the questions whose usual answer it is, as Anderson et al. do (default), or `answer`,
   * each answer of each human.
   */
  readonly count?: 'question' | 'answer';
  /** Default `normalised`. */
  readonly form?: AnswerForm;
}

/** What is read of a question: its answers, and the one that stands for them, where the data say. */
interface Answered {
  readonly answers?: readonly string[];
  /** `multiple_choice_answer` of VQA's files. Default: the most frequent of `answers`, the first one of equals. */
  readonly usualAnswer?: string;
}

/** The size of the vocabulary of VQAv2 in most publications. */
export const usualVocabularySize = 3129;

/**
 * The most frequent answers of the questions, the most frequent first, equally frequent ones in the order
 * of their characters' code units, so that the order of the questions does not matter (Anderson et al., "Bottom-up and
 * top-down attention", CVPR 2018: answers that occur at least 9 times in train and val of VQAv2, which are 3129).
 * Answers of which normalisation leaves nothing, such as "the", are left out.
 */
export function answerVocabulary(questions: Iterable<Answered>, options: VocabularyOptions = {}): AnswerVocabulary {
  const { size = usualVocabularySize, minimumOccurrence = 1, count = 'question', form = 'normalised' } = options;
  const formed = memory(answerForms[form]);
  const counts = new Map<string, number>();
  for (const { answers = [], usualAnswer } of questions) {
    const given = answers.map(formed).filter((answer) => answer !== '');
    const usual = usualAnswer === undefined ? undefined : formed(usualAnswer);
    const counted = count === 'answer' ? given : [usual || mostFrequent(given)];
    for (const answer of counted) if (answer !== undefined) counts.set(answer, (counts.get(answer) ?? 0) + 1);
  }
  const found = [...counts].filter(([, n]) => n >= minimumOccurrence)
    .sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  return vocabularyOf(found.slice(0, size).map(([answer]) => answer), form);
}

/** The vocabulary with these answers, such as those of a run that was stored. They must be in their form and differ. */
export function vocabularyOf(answers: readonly string[], form: AnswerForm = 'normalised'): AnswerVocabulary {
  const places = new Map(answers.map((answer, place) => [answer, place]));
  const formed = memory(answerForms[form]);
  return { answers, form, places, placeOf: (answer) => places.get(formed(answer)) };
}

/** The share of all given answers that are in the vocabulary, 0 … 1: no model can say more than these. */
export function vocabularyCoverage(questions: Iterable<Answered>, { placeOf }: AnswerVocabulary): number {
  let [all, known] = [0, 0];
  for (const { answers = [] } of questions) {
    for (const answer of answers) {
      all++;
      if (placeOf(answer) !== undefined) known++;
    }
  }
  return all === 0 ? 0 : known / all;
}

/** How right an answer is that n of ten humans gave. */
export const scorings = {
  /**
   * 0, 0.3, 0.6, 0.9 and 1: VQA's accuracy of 0 to 4 equal answers among ten. Anderson et al., LXMERT and VL-BART train
   * with these.
   */
  steps: (n: number) => [0, 0.3, 0.6, 0.9][n] ?? 1,
  /** min(1, n / 3), the short form of VQA's accuracy. */
  thirds: (n: number) => Math.min(1, n / 3),
} as const;
export type Scoring = keyof typeof scorings;

export interface SoftScores {
  /** Places in the vocabulary, ascending; none where no human's answer is in it. */
  readonly places: readonly number[];
  /** The target of binary cross entropy at each of these places, above 0 up to 1; it is 0 everywhere else. */
  readonly scores: readonly number[];
}

/**
 * The targets of a question's binary cross entropy. Where there is one answer, as in GQA, it scores 1.
 * @param answers as humans gave them
 */
export function softScores(
  answers: readonly string[], { placeOf }: AnswerVocabulary, scoring: Scoring = 'steps',
): SoftScores {
  const counts = new Map<number, number>();
  for (const answer of answers) {
    const place = placeOf(answer);
    if (place !== undefined) counts.set(place, (counts.get(place) ?? 0) + 1);
  }
  const found = [...counts].sort(([a], [b]) => a - b);
  const score = answers.length === 1 ? () => 1 : scorings[scoring];
  return { places: found.map(([place]) => place), scores: found.map(([, n]) => score(n)) };
}

function mostFrequent(answers: readonly string[]): string | undefined {
  const counts = new Map<string, number>();
  for (const answer of answers) counts.set(answer, (counts.get(answer) ?? 0) + 1);
  let best: string | undefined;
  for (const [answer, n] of counts) if (best === undefined || n > counts.get(best)!) best = answer;
  return best;
}

/** Works out each text once. */
function memory(work: (text: string) => string): (text: string) => string {
  const known = new Map<string, string>();
  return (text) => {
    let result = known.get(text);
    if (result === undefined) known.set(text, result = work(text));
    return result;
  };
}
