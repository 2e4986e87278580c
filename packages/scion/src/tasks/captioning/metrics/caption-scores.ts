import { ScionError } from '../../../util/errors.js';
import { bleu } from './bleu.js';
import { ciderD } from './cider-d.js';
import { meteorExactStem } from './meteor.js';
import { ptbTokenize } from './ptb-tokenize.js';
import { rougeL } from './rouge-l.js';

/** A generated caption and what people wrote about the same picture. */
export interface CaptionExample {
  candidate: string;
  references: readonly string[];
}

const names = ['bleu1', 'bleu2', 'bleu3', 'bleu4', 'rougeL', 'ciderD', 'meteorExactStem'] as const;

/** One number per metric: all 0 … 1, but CIDEr-D 0 … 10. */
export type CaptionMetrics = Record<(typeof names)[number], number>;

export interface CaptionScores extends CaptionMetrics {
  /** The same of each example, in order. CIDEr-D takes its document frequencies from all of them. */
  perExample: CaptionMetrics[];
}

/**
 * BLEU-1 to -4, ROUGE-L, CIDEr-D and METEOR with exact and stem matches, over texts as they are written.
 * @throws ScionError without examples, or where an example has no reference
 */
export function captionScores(examples: readonly CaptionExample[]): CaptionScores {
  const issues = examples.flatMap(({ references }, i) => (references.length > 0 ? [] : [
    { path: `examples[${i}].references`, message: 'is empty; give at least one reference caption for each candidate' }]));
  if (examples.length === 0) {
    issues.push({ path: 'examples', message: 'is empty; give at least one candidate with its reference captions' });
  }
  if (issues.length > 0) throw new ScionError('input', issues);
  const tokenized = examples.map(({ candidate, references }) => ({
    candidate: ptbTokenize(candidate), references: references.map(ptbTokenize),
  }));
  const scores = [...bleu(tokenized), rougeL(tokenized), ciderD(tokenized), meteorExactStem(tokenized)];
  const named = (of: (metric: number) => number): CaptionMetrics =>
    Object.fromEntries(names.map((name, i) => [name, of(i)])) as CaptionMetrics;
  return {
    ...named((i) => scores[i]!.score),
    perExample: examples.map((_, row) => named((i) => scores[i]!.perExample[row]!)),
  };
}
