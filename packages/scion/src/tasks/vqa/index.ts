/** Visual question answering: how answers are compared, counted and learned. */
export { answerAccuracy, gqaAccuracy, vqaAccuracy } from './accuracy.js';
export type { AnsweredQuestion, AnswerReport, TypeAccuracy } from './accuracy.js';
export { normaliseAnswer } from './normalise.js';
export {
  answerForms, answerVocabulary, scorings, softScores, usualVocabularySize, vocabularyCoverage,
  vocabularyOf,
} from './vocabulary.js';
export type { AnswerForm, AnswerVocabulary, Scoring, SoftScores, VocabularyOptions } from './vocabulary.js';
