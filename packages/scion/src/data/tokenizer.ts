/** Texts to token ids, by the `tokenizer.json` of a Hugging Face checkpoint. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as tokenizers from '@huggingface/tokenizers';
import { readBytes } from '../formats/files.js';
import { isObject, parseStrictJson } from '../formats/json.js';
import { inputError } from '../util/errors.js';
import { type Tensor, int64 } from '../util/tensor.js';

export interface TextTokenizer {
  /**
   * Token ids [texts, length] with start and end tokens. Shorter texts are filled up with the pad token, or with their
   * last token where the files name none; longer ones are cut and keep their last token.
   */
  encode(texts: readonly string[], length: number): Tensor<'int64'>;
}

// Stated here, since the package's own declarations do not resolve under NodeNext (imports without extensions).
interface Encoder {
  encode(text: string): { ids: number[] };
  token_to_id(token: string): number | undefined;
}
const { Tokenizer } = tokenizers as unknown as { Tokenizer: new (model: object, config: object) => Encoder };

const fix = 'get the file of the checkpoint again';

/** Reads `tokenizer.json` and, where it is there, `tokenizer_config.json` of a folder. */
export async function readTokenizer(folder: string): Promise<TextTokenizer> {
  const path = join(folder, 'tokenizer.json');
  if (!existsSync(path)) {
    throw inputError(
      path,
      "there is no such file, so texts cannot be encoded; save it with the tokenizer's " +
        'save_pretrained (of AutoTokenizer in Python) or get it with the checkpoint',
    );
  }
  const read = async (file: string): Promise<object> => {
    const value = parseStrictJson(await readBytes(file, 100_000_000), file, 'content', fix);
    if (!isObject(value)) throw inputError(file, `is no object; ${fix}`);
    return value;
  };
  const settings = join(folder, 'tokenizer_config.json');
  const model = await read(path);
  const config = (existsSync(settings) ? await read(settings) : {}) as Settings;
  let tokenizer: Encoder;
  try {
    tokenizer = new Tokenizer(model, config);
  } catch (cause) {
    throw inputError(path, `is no tokenizer that can be used (${(cause as Error).message}); ${fix}`, { cause });
  }
  const prepare = preparations[config.tokenizer_class?.replace(/Fast$/, '') ?? '']?.(config) ?? ((text) => text);
  const { pad_token: pad, padding_side: side } = config;
  const padding = typeof pad === 'object' ? pad?.content : pad;
  const padId = padding === undefined ? undefined : tokenizer.token_to_id(padding);
  return {
    encode: (texts, length) =>
      int64(
        [texts.length, length],
        texts.flatMap((text) => fitted(tokenizer.encode(prepare(text)).ids, length, padId, side === 'left')),
      ),
  };
}

/** What `tokenizer_config.json` says and `tokenizer.json` does not. */
interface Settings {
  tokenizer_class?: string;
  do_lower_case?: boolean;
  pad_token?: string | { content?: string } | null;
  padding_side?: string;
}

/**
 * What transformers' tokenizers do to a text before the pipeline of their tokenizer.json, by their class. Where the
 * pipeline does it too, doing it twice changes nothing.
 */
const preparations: Readonly<Record<string, (settings: Settings) => (text: string) => string>> = {
  /** ASCII punctuation is removed, and spaces are single: `canonicalize_text` of big_vision. */
  SiglipTokenizer: ({ do_lower_case: lower = true }) => (text) =>
    (lower ? text.toLowerCase() : text).replace(/[!-/:-@[-`{-~]/g, '').replace(/\s+/g, ' ').trim(),
  Siglip2Tokenizer: () => (text) => text.toLowerCase(),
  /** SigLIP 2's checkpoints name Gemma's tokenizer, and say beside it that texts were lower case in training. */
  GemmaTokenizer: ({ do_lower_case: lower = false }) => (text) => (lower ? text.toLowerCase() : text),
};

function fitted(ids: readonly number[], length: number, padId: number | undefined, left: boolean): number[] {
  const last = ids.at(-1) ?? padId ?? 0;
  if (ids.length > length) return [...ids.slice(0, length - 1), last];
  const padding = Array<number>(length - ids.length).fill(padId ?? last);
  return left ? [...padding, ...ids] : [...ids, ...padding];
}
