/** Texts to token ids, by the `tokenizer.json` of a Hugging Face checkpoint. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as tokenizers from '@huggingface/tokenizers';
import * as z from 'zod';
import { readBytes } from '../formats/files.js';
import { isObject, parseStrictJson } from '../formats/json.js';
import { ScionError, inputError } from '../util/errors.js';
import { type Tensor, int64 } from '../util/tensor.js';

export interface TextTokenizer {
  /**
   * Token ids [texts, length] with start and end tokens. Shorter texts are filled up with the pad token, or with their
   * last token where the files name none; longer ones are cut and keep their last token.
   * @throws ScionError of kind `input` for tokens that the model does not know, or a text that does not end as it expects
   */
  encode(texts: readonly string[], length: number): Tensor<'int64'>;
}

/** Texts to ids and back, for models that read and write texts of any length. */
export interface WordTokenizer {
  /**
   * The ids of a text, with the marks of its begin and end where the tokenizer sets such (`marks`, the default).
   * @throws ScionError of kind `input` for a token that the model does not know
   */
  tokens(text: string, options?: { marks?: boolean }): readonly number[];
  /** The text of ids, without marks. */
  text(ids: readonly number[]): string;
}

// Stated here, since the package's own declarations do not resolve under NodeNext (imports without extensions).
interface Encoder {
  encode(text: string, options?: { add_special_tokens?: boolean }): { ids: number[] };
  decode(ids: number[], options?: { skip_special_tokens?: boolean }): string;
  token_to_id(token: string): number | undefined;
}
const { Tokenizer } = tokenizers as unknown as { Tokenizer: new (model: object, config: object) => Encoder };

const fix = 'get the file of the checkpoint again';

/** What `tokenizer_config.json` says and `tokenizer.json` does not. */
const schema = z.object({
  tokenizer_class: z.string().nullish(),
  do_lower_case: z.boolean().nullish(),
  pad_token: z.union([z.string(), z.object({ content: z.string() }).transform(({ content }) => content)]).nullish(),
  padding_side: z.enum(['left', 'right']).nullish(),
});
type Settings = z.output<typeof schema>;

/** What a text tower expects of its tokenizer. */
export interface TokenNeeds {
  /** Whether padding is read like any other token, so that the pad token must be known. */
  readonly readsPadding?: boolean | undefined;
  /** How many tokens the model knows. */
  readonly vocabularySize?: number | undefined;
  /** The token that every text ends with: its id, or the largest id of the text. */
  readonly endToken?: number | 'largest' | undefined;
}

/**
 * Reads `tokenizer.json` and, where it is there, `tokenizer_config.json` of a folder.
 * @throws ScionError of kind `input` for files that are missing, damaged or do not fit together
 */
export async function readTokenizer(
  folder: string, model: TokenNeeds = {},
): Promise<TextTokenizer> {
  const { path, settings, config, tokenizer, prepare } = await readFiles(folder);
  const { pad_token: pad, padding_side: side } = config;
  const padId = typeof pad === 'string' ? tokenizer.token_to_id(pad) : undefined;
  if (typeof pad === 'string' ? padId === undefined : model.readsPadding) {
    const what = typeof pad === 'string' ? `${JSON.stringify(pad)} is not in tokenizer.json` : 'missing, and the model reads it';
    throw inputError(`${settings}: pad_token`, `${what}; ${fix}`);
  }
  const tokens = (text: string): readonly number[] => checked(path, text, tokenizer.encode(prepare(text)).ids, model);
  return {
    encode: (texts, length) =>
      int64([texts.length, length], texts.flatMap((text) => fitted(tokens(text), length, padId, side === 'left'))),
  };
}

/**
 * The same files for a model that reads and writes.
 * @throws ScionError of kind `input` for files that are missing or damaged
 */
export async function readWordTokenizer(
  folder: string, model: Pick<TokenNeeds, 'vocabularySize'> = {},
): Promise<WordTokenizer> {
  const { path, tokenizer, prepare } = await readFiles(folder);
  return {
    tokens: (text, { marks = true } = {}) =>
      checked(path, text, tokenizer.encode(prepare(text), { add_special_tokens: marks }).ids, model),
    text: (ids) => tokenizer.decode([...ids], { skip_special_tokens: true }),
  };
}

function checked(path: string, text: string, ids: readonly number[], model: TokenNeeds): readonly number[] {
  const misfit = misfitOf(ids, model);
  if (misfit === undefined) return ids;
  throw inputError(path, `${misfit.replace('%', () => JSON.stringify(text))}; get the tokenizer.json of the same model`);
}

async function readFiles(folder: string): Promise<{
  path: string; settings: string; config: Settings; tokenizer: Encoder; prepare: (text: string) => string;
}> {
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
  const pipeline = await read(path);
  const content = existsSync(settings) ? await read(settings) : {};
  const parsed = schema.safeParse(content);
  if (!parsed.success) {
    throw new ScionError('input', parsed.error.issues.map((issue) => (
      { path: `${settings}: ${issue.path.join('.')}`, message: `${issue.message}; ${fix}` })));
  }
  const config = parsed.data;
  let tokenizer: Encoder;
  try {
    tokenizer = new Tokenizer(pipeline, content);
  } catch (cause) {
    throw inputError(path, `is no tokenizer that can be used (${(cause as Error).message}); ${fix}`, { cause });
  }
  const prepare = preparations.get(config.tokenizer_class?.replace(/Fast$/, '') ?? '')?.(config) ?? ((text) => text);
  return { path, settings, config, tokenizer, prepare };
}

/** Why the model cannot read these tokens; % stands for the text. */
function misfitOf(ids: readonly number[], { vocabularySize, endToken }: TokenNeeds): string | undefined {
  const last = ids.at(-1);
  // the library gives undefined for a part of a text that has no token, where the file names none for such parts
  if (!ids.every(Number.isInteger)) return 'finds no token for a part of %, and has no unk_token for such parts';
  const most = Math.max(...ids);
  if (vocabularySize !== undefined && most >= vocabularySize) {
    return `makes token ${most} of %, and the model has ${vocabularySize} tokens, 0 to ${vocabularySize - 1}`;
  }
  const end = endToken === 'largest' ? most : endToken;
  if (end === undefined || last === end) return undefined;
  const expected = endToken === 'largest' ? 'its largest token, as the end token of CLIP is' : `its end token ${end}`;
  return `ends % with ${last === undefined ? 'no token' : `token ${last}`}, and the model reads a text at ${expected}`;
}

/**
 * What transformers' tokenizers do to a text before the pipeline of their tokenizer.json, by their class. Where the
 * pipeline does it too, doing it twice changes nothing.
 */
const preparations = new Map<string, (settings: Settings) => (text: string) => string>([
  // ASCII punctuation is removed, and spaces are single: `canonicalize_text` of big_vision
  ['SiglipTokenizer', ({ do_lower_case: lower }) => (text) =>
    (lower ?? true ? text.toLowerCase() : text).replace(/[!-/:-@[-`{-~]/g, '').replace(/\s+/g, ' ').trim()],
  ['Siglip2Tokenizer', () => (text) => text.toLowerCase()],
  // SigLIP 2's checkpoints name Gemma's tokenizer, and may say beside it that texts were lower case in training
  ['GemmaTokenizer', ({ do_lower_case: lower }) => (text) => (lower ? text.toLowerCase() : text)],
]);

function fitted(ids: readonly number[], length: number, padId: number | undefined, left: boolean): number[] {
  const last = ids.at(-1) ?? padId ?? 0;
  if (ids.length > length) return [...ids.slice(0, length - 1), last];
  const padding = Array<number>(length - ids.length).fill(padId ?? last);
  return left ? [...padding, ...ids] : [...ids, ...padding];
}
