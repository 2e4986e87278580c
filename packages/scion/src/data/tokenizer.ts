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
   * Token ids [texts, length] with start and end tokens. Shorter texts are padded with their last token, which CLIP's
   * pooling does not read; longer ones are cut and keep it.
   */
  encode(texts: readonly string[], length: number): Tensor<'int64'>;
}

// Stated here, since the package's own declarations do not resolve under NodeNext (imports without extensions).
interface Encoder {
  encode(text: string): { ids: number[] };
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
  const [model, config] = [await read(path), existsSync(settings) ? await read(settings) : {}];
  let tokenizer: Encoder;
  try {
    tokenizer = new Tokenizer(model, config);
  } catch (cause) {
    throw inputError(path, `is no tokenizer that can be used (${(cause as Error).message}); ${fix}`, { cause });
  }
  return {
    encode: (texts, length) =>
      int64(
        [texts.length, length],
        texts.flatMap((text) => fitted(tokenizer.encode(text).ids, length)),
      ),
  };
}

function fitted(ids: readonly number[], length: number): number[] {
  const last = ids.at(-1) ?? 0;
  return ids.length > length
    ? [...ids.slice(0, length - 1), last]
    : [...ids, ...Array<number>(length - ids.length).fill(last)];
}
