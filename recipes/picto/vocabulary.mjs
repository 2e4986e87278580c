/** A WordPiece tokenizer of the words that pretraining reads, in the layout of Hugging Face's tokenizer.json. */

const end = '[SEP]';
const unknown = '[UNK]';
/** Pieces of words, for words that pretraining never reads. */
const mostPieces = 1500;

export const endId = 0;

/** @param {Iterable<string>} texts lower case words with single spaces */
export function makeTokenizer(texts) {
  const words = new Set([...texts].flatMap((t) => t.split(' ')).filter((w) => /^[a-z0-9]+$/.test(w)));
  const letters = [...'abcdefghijklmnopqrstuvwxyz0123456789'];
  const counts = new Map();
  for (const word of words) {
    for (let from = 0; from < word.length; from++) {
      for (let to = from + 2; to <= Math.min(word.length, from + 6); to++) {
        const piece = (from > 0 ? '##' : '') + word.slice(from, to);
        counts.set(piece, (counts.get(piece) ?? 0) + to - from);
      }
    }
  }
  const pieces = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, mostPieces).map(([p]) => p);
  const tokens = [...new Set([end, unknown, ...letters, ...letters.map((l) => `##${l}`), ...[...words].sort(), ...pieces])];
  const special = (content, id) => (
    { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true });
  return {
    size: tokens.length,
    json: {
      version: '1.0', truncation: null, padding: null,
      added_tokens: [special(end, 0), special(unknown, 1)],
      normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: true, lowercase: true },
      pre_tokenizer: { type: 'BertPreTokenizer' },
      post_processor: {
        type: 'TemplateProcessing',
        single: [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: end, type_id: 0 } }],
        pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 0 } }, { SpecialToken: { id: end, type_id: 0 } }],
        special_tokens: { [end]: { id: end, ids: [0], tokens: [end] } },
      },
      decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
      model: {
        type: 'WordPiece', unk_token: unknown, continuing_subword_prefix: '##', max_input_chars_per_word: 100,
        vocab: Object.fromEntries(tokens.map((t, i) => [t, i])),
      },
    },
  };
}
