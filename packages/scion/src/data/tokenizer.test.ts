import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { type TextTokenizer, readTokenizer } from './tokenizer.js';

const fixtures = fileURLToPath(new URL('../../../../fixtures/siglip/', import.meta.url));
const made: string[] = [];
afterAll(() => Promise.all(made.map((folder) => rm(folder, { recursive: true }))));

/** The tokenizer of a fixture with another tokenizer_config.json; without one where `settings` is undefined. */
async function withSettings(name: string, settings: object | undefined, pipeline?: object): Promise<TextTokenizer> {
  const folder = await mkdtemp(join(tmpdir(), 'scion-tokenizer-'));
  made.push(folder);
  await cp(join(fixtures, name, 'tokenizer.json'), join(folder, 'tokenizer.json'));
  if (pipeline) await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(pipeline));
  if (settings) await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(settings));
  return readTokenizer(folder, { readsPadding: true });
}
const own = async (name: string): Promise<object> =>
  JSON.parse(await readFile(join(fixtures, name, 'tokenizer_config.json'), 'utf8')) as object;
const ids = (tokenizer: TextTokenizer, text: string, length = 12): number[] =>
  Array.from(tokenizer.encode([text], length).data, Number);

describe('a tokenizer of another model', () => {
  const clip = fileURLToPath(new URL('../../../../fixtures/clip/pictures/model', import.meta.url));
  test.each([
    [{ vocabularySize: 100 }, /tokenizer\.json: makes token \d+ of "a cat", and the model has 100 tokens, 0 to 99; get the/],
    [{ endToken: 7 }, /ends "a cat" with token 1, and the model reads a text at its end token 7; get the tokenizer\.json/],
    [{ endToken: 'largest' }, /ends "a cat" with token 1, and the model reads a text at its largest token/],
  ] as const)('is refused: %j', async (needs, message) => {
    const tokenizer = await readTokenizer(clip, needs);
    expect(() => tokenizer.encode(['a cat'], 12)).toThrow(message);
    expect(() => tokenizer.encode(['a cat'], 12)).toThrow(expect.objectContaining({ kind: 'input' }) as Error);
  });

  test('is taken where all fits, long texts too', async () => {
    const tokenizer = await readTokenizer(clip, { vocabularySize: 640, endToken: 1 });
    expect(tokenizer.encode(['a cat '.repeat(50)], 6).data.at(-1)).toBe(1n);
  });
});

describe('tokenizer_config.json', () => {
  test('says which token fills a text up, and on which side', async () => {
    const settings = await own('gemma');
    const [right, left] = [
      await withSettings('gemma', settings), await withSettings('gemma', { ...settings, padding_side: 'left' }),
    ];
    const filled = ids(right, 'a cat');
    const padding = filled.filter((id) => id === 0);
    expect(padding.length).toBeGreaterThan(2);
    expect(filled.slice(-padding.length)).toEqual(padding);
    expect(filled.at(-padding.length - 1)).toBe(1); // <eos>
    expect(ids(left, 'a cat')).toEqual([...padding, ...filled.slice(0, -padding.length)]);
    const object = await withSettings('gemma', { ...settings, pad_token: { content: '<mask>', special: true } });
    expect(ids(object, 'a cat')).toEqual(filled.map((id) => (id === 0 ? 4 : id)));
  });

  test('decides over case and punctuation by the class of the tokenizer', async () => {
    const settings = await own('sentencepiece');
    const siglip = await withSettings('sentencepiece', settings);
    expect(ids(siglip, '  A  Cat!? ')).toEqual(ids(siglip, 'a cat'));
    const cased = await withSettings('sentencepiece', { ...settings, do_lower_case: false });
    expect(ids(cased, 'A Cat')).not.toEqual(ids(cased, 'a cat'));
    expect(ids(cased, 'a, cat!')).toEqual(ids(siglip, 'a cat'));
    const plain = await withSettings('sentencepiece', { ...settings, tokenizer_class: 'constructor' });
    expect(ids(plain, 'a cat')).toEqual(ids(siglip, 'a cat'));
    expect(ids(plain, 'a, cat!')).not.toEqual(ids(siglip, 'a cat'));
  });

  test('beside Gemma\'s tokenizer may ask for lower case', async () => {
    const cased = JSON.parse(await readFile(join(fixtures, 'gemma', 'tokenizer.json'), 'utf8')) as {
      normalizer: { normalizers: object[] };
    };
    cased.normalizer.normalizers.shift(); // Siglip2Tokenizer's own Lowercase
    const settings = { ...(await own('gemma')), tokenizer_class: 'GemmaTokenizerFast' };
    const [plain, lower] = [
      await withSettings('gemma', settings, cased), await withSettings('gemma', { ...settings, do_lower_case: true }, cased),
    ];
    expect(ids(lower, 'A Cat')).toEqual(ids(plain, 'a cat'));
    expect(ids(plain, 'A Cat')).not.toEqual(ids(plain, 'a cat'));
  });

  test.each([
    ['pad_token: "<none>" is not in tokenizer.json', { pad_token: '<none>' }],
    ['pad_token: missing, and the model reads it', {}],
    ['pad_token: missing, and the model reads it', undefined],
    ['tokenizer_class: Invalid input: expected string', { pad_token: '</s>', tokenizer_class: 5 }],
    ['padding_side: ', { pad_token: '</s>', padding_side: 'both' }],
  ])('is refused: %s', async (message, settings) => {
    await expect(withSettings('sentencepiece', settings)).rejects.toThrow(message);
  });
});
