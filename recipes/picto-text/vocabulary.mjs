/**
 * A byte-level BPE vocabulary as GPT-2 and RoBERTa have it (Radford et al., 2019, section 2.2), learned from the
 * corpus, and its files in the layouts of Hugging Face's tokenizers.
 */

/** GPT-2's way of writing bytes as letters: printable ones stand for themselves. */
const printable = [[33, 126], [161, 172], [174, 255]]
  .flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => from + i));
const hidden = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => !printable.includes(byte));
const letterOf = new Map([
  ...printable.map((byte) => [byte, String.fromCharCode(byte)]),
  ...hidden.map((byte, i) => [byte, String.fromCharCode(256 + i)]),
]);
/** GPT-2's pieces of a text: a word or number with the space before it, punctuation, spaces. */
const pieces = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** The pieces of a text, which begins with a space so that its first word is the same token as further on. */
export const split = (text) => (` ${text.toLowerCase()}`.match(pieces) ?? [])
  .map((piece) => [...Buffer.from(piece)].map((byte) => letterOf.get(byte)).join(''));

/**
 * Learns merges until there are `size` tokens: always the pair that is next to each other most often; of two that are
 * as frequent, the first by code points.
 * @param {Map<string, number>} counts of pieces
 * @returns {{ tokens: string[], merges: [string, string][], segments: Map<string, string[]> }} segments: the tokens of
 *   each piece
 */
export function learnMerges(counts, size) {
  const words = [...counts].map(([word, count]) => ({ parts: [...word], count }));
  const tokens = [...letterOf.values()].sort();
  const pairs = new Map(); // 'a b' → how often, and in which words
  const change = (word, sign) => {
    for (let i = 1; i < word.parts.length; i++) {
      const key = `${word.parts[i - 1]} ${word.parts[i]}`;
      const pair = pairs.get(key) ?? { count: 0, words: new Set() };
      pairs.set(key, pair);
      pair.count += sign * word.count;
      if (sign > 0) pair.words.add(word);
    }
  };
  words.forEach((word) => change(word, 1));
  const merges = [];
  const known = new Set(tokens);
  while (tokens.length < size) {
    let best;
    for (const [key, pair] of pairs) {
      const ahead = pair.count - (best?.count ?? 0);
      if (pair.count <= 0) pairs.delete(key);
      else if (ahead > 0 || (ahead === 0 && key < best.key)) best = { key, ...pair };
    }
    if (!best) break;
    const [left, right] = best.key.split(' ');
    merges.push([left, right]);
    const merged = left + right;
    if (!known.has(merged)) tokens.push(merged);
    known.add(merged);
    for (const word of best.words) {
      if (!word.parts.some((part, i) => part === left && word.parts[i + 1] === right)) continue;
      change(word, -1);
      word.parts = joined(word.parts, left, right);
      change(word, 1);
    }
  }
  return { tokens, merges, segments: new Map([...counts.keys()].map((word, i) => [word, words[i].parts])) };
}

export const ranksOf = (merges) => new Map(merges.map((pair, i) => [pair.join(' '), i]));

/** The tokens of a piece that no merge was learned from: merges are made in the order in which they were learned. */
export function applyMerges(piece, merges, ranks = ranksOf(merges)) {
  let parts = [...piece];
  for (;;) {
    const rank = Math.min(...parts.map((part, i) => ranks.get(`${part} ${parts[i + 1]}`) ?? Infinity));
    if (rank === Infinity) return parts;
    parts = joined(parts, ...merges[rank]);
  }
}

function joined(parts, left, right) {
  const out = [];
  for (let i = 0; i < parts.length; i++) {
    if (parts[i] === left && parts[i + 1] === right) out.push(left + parts[++i]);
    else out.push(parts[i]);
  }
  return out;
}

/** The mask takes the space before it, as RoBERTa's does: it stands for a word, which begins with its space. */
const special = (content, id) => (
  { id, content, single_word: false, lstrip: content === '<mask>', rstrip: false, normalized: false, special: true });
const byteLevel = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true };

/**
 * The special tokens of each layout, in front of the vocabulary and behind it, and how a text is framed.
 * `post` makes the post-processor from the ids of tokens.
 */
export const layouts = {
  roberta: {
    first: ['<s>', '<pad>', '</s>', '<unk>'], last: ['<mask>'],
    config: {
      bos_token: '<s>', cls_token: '<s>', pad_token: '<pad>', eos_token: '</s>', sep_token: '</s>', unk_token: '<unk>',
      mask_token: '<mask>',
    },
    post: (id) => ({
      type: 'RobertaProcessing', sep: ['</s>', id('</s>')], cls: ['<s>', id('<s>')], trim_offsets: true,
      add_prefix_space: true,
    }),
  },
  gpt2: {
    first: [], last: ['<|endoftext|>'],
    config: Object.fromEntries(['bos', 'eos', 'pad', 'unk'].map((use) => [`${use}_token`, '<|endoftext|>'])),
    post: () => byteLevel,
  },
};

/**
 * @param {'roberta' | 'gpt2'} layout
 * @returns {{ size: number, id: (token: string) => number, files: Record<string, object | string> }} files by name
 */
export function tokenizerFiles(layout, { tokens, merges }, length) {
  const { first, last, config, post } = layouts[layout];
  const vocab = Object.fromEntries([...first, ...tokens, ...last].map((token, i) => [token, i]));
  const id = (token) => vocab[token];
  return {
    size: Object.keys(vocab).length, id,
    files: {
      'tokenizer.json': {
        version: '1.0', truncation: null, padding: null,
        added_tokens: [...first, ...last].map((token) => special(token, id(token))),
        normalizer: { type: 'Lowercase' },
        pre_tokenizer: byteLevel,
        post_processor: post(id),
        decoder: byteLevel,
        model: {
          type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: '', end_of_word_suffix: '',
          fuse_unk: false, byte_fallback: false, ignore_merges: false, vocab, merges,
        },
      },
      'tokenizer_config.json': {
        tokenizer_class: 'PreTrainedTokenizerFast', model_max_length: length, add_prefix_space: true,
        do_lower_case: true, clean_up_tokenization_spaces: false, ...config,
      },
      'vocab.json': vocab,
      'merges.txt': `#version: 0.2\n${merges.map((pair) => pair.join(' ')).join('\n')}\n`,
    },
  };
}
