import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import {
  answerAccuracy, answerVocabulary, gqaAccuracy, normaliseAnswer, softScores, vocabularyCoverage, vocabularyOf,
  vqaAccuracy,
} from './index.js';
import type { AnsweredQuestion } from './index.js';

interface Official {
  normalised: [string, string][];
  evaluation: {
    questions: AnsweredQuestion[];
    overall: number;
    perQuestion: number[];
    perQuestionType: Record<string, number>;
    perAnswerType: Record<string, number>;
  };
}
const path = new URL('../../../../../fixtures/vqa/official.json', import.meta.url);
const official = JSON.parse(await readFile(path, 'utf8')) as Official;

const many = (...counts: [string, number][]): string[] => counts.flatMap(([a, n]) => Array.from({ length: n }, () => a));

test('answers are normalised as the official evaluation does it', () => {
  expect(official.normalised.length).toBeGreaterThan(400);
  const ours = official.normalised.map(([answer]) => [answer, normaliseAnswer(answer)]);
  expect(ours).toEqual(official.normalised);
});

test('the accuracy is that of the official evaluation, by question and by type', () => {
  const { questions, overall, perQuestion, ...types } = official.evaluation;
  const ours = vqaAccuracy(questions);
  perQuestion.forEach((value, i) => expect(100 * ours.perQuestion[i]!, `question ${i}`).toBeCloseTo(value, 8));
  expect(100 * ours.overall).toBeCloseTo(overall, 8);
  for (const kind of ['perQuestionType', 'perAnswerType'] as const) {
    expect(Object.keys(ours[kind])).toEqual(Object.keys(types[kind]));
    for (const [name, value] of Object.entries(types[kind])) {
      expect(100 * ours[kind][name]!.accuracy, name).toBeCloseTo(value, 8);
    }
  }
  const counted = Object.values(ours.perAnswerType).reduce((sum, { questions: n }) => sum + n, 0);
  expect(counted).toBe(questions.length);
});

test.each([[0, 0], [1, 0.3], [2, 0.6], [3, 0.9], [4, 1], [10, 1]])(
  'an answer that %i of ten humans gave has accuracy %f, which is its soft score', (n, accuracy) => {
    const answers = many(['yes', n], ['no', 10 - n]);
    expect(answerAccuracy('yes', answers)).toBeCloseTo(accuracy, 12);
    const { places, scores } = softScores(answers, vocabularyOf(['no', 'yes']));
    expect(scores[places.indexOf(1)] ?? 0).toBe(accuracy);
  });

test('where all humans gave the very same answer nothing is normalised', () => {
  expect(answerAccuracy('Dog', many(['dog', 10]))).toBe(0);
  expect(answerAccuracy(' dog\n', many(['dog', 10]))).toBe(1);
  expect(answerAccuracy('Dog', [...many(['dog', 9]), 'cat'])).toBe(1);
});

test('questions without answers or types', () => {
  expect(answerAccuracy('dog', [])).toBe(0);
  expect(vqaAccuracy([])).toEqual({ overall: 0, perQuestionType: {}, perAnswerType: {}, perQuestion: [] });
  expect(vqaAccuracy([{ answer: 'a', answers: many(['a', 10]) }]).perAnswerType).toEqual({});
});

test("GQA's answers are right to the letter or wrong", () => {
  const of = (answer: string, questionType: string): AnsweredQuestion => ({ answer, answers: ['t-shirt'], questionType });
  const report = gqaAccuracy([of('t-shirt', 'query'), of('t shirt', 'query'), of('t-shirt', 'choose')]);
  expect(report.perQuestion).toEqual([1, 0, 1]);
  expect(report.perQuestionType).toEqual({
    choose: { questions: 1, accuracy: 1 }, query: { questions: 2, accuracy: 0.5 },
  });
});

test('the vocabulary has the most frequent answers first, equals by their letters, whatever the order', () => {
  const questions = [
    { answers: many(['Yes', 6], ['no', 4]) }, { answers: many(['yes.', 10]) }, { answers: many(['two', 10]) },
    { answers: many(['red', 10]) }, { answers: many(['the', 10]) }, { answers: many(['dog', 5], ['cat', 5]) }, {},
  ];
  expect(answerVocabulary(questions).answers).toEqual(['yes', '2', 'dog', 'red']);
  expect(answerVocabulary([...questions].reverse()).answers).toEqual(['yes', '2', 'dog', 'red']);
  expect(answerVocabulary(questions, { size: 2 }).answers).toEqual(['yes', '2']);
  expect(answerVocabulary(questions, { minimumOccurrence: 2 }).answers).toEqual(['yes']);
  const { answers, places } = answerVocabulary(questions, { count: 'answer' });
  expect(answers).toEqual(['yes', '2', 'red', 'cat', 'dog', 'no']);
  expect(places.get('no')).toBe(5);
  // what the data call the usual answer comes first
  expect(answerVocabulary([{ answers: many(['dog', 6], ['puppy', 4]), usualAnswer: 'Puppy' }]).answers).toEqual(['puppy']);
  const written = answerVocabulary([{ answers: ['t-shirt'] }], { form: 'written' });
  expect(written.answers).toEqual(['t-shirt']);
  expect(softScores(['t-shirt'], written)).toEqual({ places: [0], scores: [1] });
});

test('soft scores of several answers, of one alone, and of none that is known', () => {
  const vocabulary = vocabularyOf(['yes', 'no', '2']);
  const answers = [...many(['Two', 2], ['no', 3], ['yes', 1]), 'blue', 'Yes!', 'the', 'maybe'];
  expect(softScores(answers, vocabulary)).toEqual({ places: [0, 1, 2], scores: [0.6, 0.9, 0.6] });
  expect(softScores(answers, vocabulary, 'thirds').scores).toEqual([2 / 3, 1, 2 / 3]);
  expect(softScores(['no'], vocabulary)).toEqual({ places: [1], scores: [1] });
  expect(softScores(many(['blue', 10]), vocabulary)).toEqual({ places: [], scores: [] });
  expect(vocabularyCoverage([{ answers }, { answers: ['blue', 'no'] }, {}], vocabulary)).toBe(8 / 12);
});
