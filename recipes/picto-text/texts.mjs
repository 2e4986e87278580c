/** The corpus as rows of tokens: what the model is trained on, and what it is measured on. */
import { Random } from 'scion-peft';
import { packRows } from './batches.mjs';
import { corpus } from './corpus.mjs';
import { emojiConcepts } from '../picto/emoji.mjs';
import { applyMerges, learnMerges, ranksOf, split, tokenizerFiles } from './vocabulary.mjs';

/**
 * The vocabulary, learned from what is not held out. Words that pictures and questions about them are made of count as
 * if they were more frequent, so that they are one token each, and in no other way.
 */
export function vocabulary(documents, { tokens, whole_words, word_weight, name_weight }) {
  const counts = new Map();
  const count = (text, weight) => {
    for (const piece of split(text)) counts.set(piece, (counts.get(piece) ?? 0) + weight);
  };
  for (const { sentences, heldOut } of documents) if (!heldOut) sentences.forEach((sentence) => count(sentence, 1));
  for (const word of whole_words.split(' ')) count(word, word_weight);
  const names = [...emojiConcepts(import.meta.url).keys()].flatMap((name) => name.split(' '));
  for (const name of new Set(names)) count(name, name_weight);
  return learnMerges(counts, tokens);
}

/**
 * @param {'roberta' | 'gpt2'} layout
 * @returns rows of token ids, without the token that stands in front of each, and the tokenizer
 */
export function textRows(layout, settings) {
  const documents = corpus();
  const learned = vocabulary(documents, settings);
  const tokenizer = tokenizerFiles(layout, learned, settings[layout].length);
  const ids = new Map([...learned.segments].map(([piece, parts]) => [piece, parts.map(tokenizer.id)]));
  const ranks = ranksOf(learned.merges);
  const idsOf = (piece) => {
    if (!ids.has(piece)) ids.set(piece, applyMerges(piece, learned.merges, ranks).map(tokenizer.id));
    return ids.get(piece);
  };
  const end = tokenizer.id(layout === 'roberta' ? '</s>' : '<|endoftext|>');
  const random = Random.seeded(settings.seed).child('rows', layout);
  const room = settings[layout].length - (layout === 'roberta' ? 1 : 0); // <s> is one of the model's tokens
  const tokens = ({ sentences }) => [...sentences.flatMap((s) => split(s).flatMap(idsOf)), end];
  const rows = (heldOut) =>
    packRows(documents.filter((d) => d.heldOut === heldOut).map(tokens), room, random.child(String(heldOut)));
  return { tokenizer, train: rows(false), heldOut: rows(true) };
}
