import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readJsonRecords } from './json-records-node.js';
import type { JsonRecord } from './json-records-node.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-records-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function read(text: string | Uint8Array): Promise<JsonRecord[]> {
  const path = join(folder, 'x.json');
  await writeFile(path, text);
  const found: JsonRecord[] = [];
  await readJsonRecords(path, (record) => found.push(record));
  return found;
}

/** The same by `JSON.parse`. */
function expected(text: string): JsonRecord[] {
  const whole = JSON.parse(text) as Record<string, unknown> | unknown[];
  if (Array.isArray(whole)) return whole.map((value, index) => ({ key: '', index, value }));
  return Object.entries(whole).flatMap(([key, value]): JsonRecord[] => (
    Array.isArray(value) ? value.map((v: unknown, index) => ({ key, index, value: v })) : [{ key, value }]));
}

test.each([
  '{}', '[]', ' {"a": []} ', '{"a": [[1, 2], [], {"b": [3]}], "c": {"d": [1, {"e": 2}]}, "f": "g"}',
  '{"info": {"x": ",]}[{\\"\\\\"}, "questions": [{"q": "a, \\"b\\" ]}"}, {"q": "犬 🦉"}], "n": null}',
  '[1, "two", [3, [4]], {"five": []}]', '{"a": [], "b": [], "c": 1}', '\n{\r\n\t"k\\u0061" : [ 1 , 2 ] }\n',
])('%s', async (text) => {
  expect(await read(text)).toEqual(expected(text));
});

test('records that lie across the chunks of the file, characters too', async () => {
  const items = Array.from({ length: 3 }, (_, i) => ({ i, text: '犬🦉"\\'.repeat(150_000 + i) }));
  const text = JSON.stringify({ items, last: 'x' });
  expect(text.length).toBeGreaterThan(2 ** 20);
  expect(await read(text)).toEqual(expected(text));
});

test.each([
  ['', 'it is empty'], ['5', 'it is empty|ends too early'], ['{"a": [1, 2', 'cut short'], ['{"a": "b', 'cut short'],
  ['{"a": [1,, 2]}', 'beside a comma'], ['{"a": [1, 2,]}', 'beside a comma'], ['{"a": [1 2]}', 'a: 0'],
  ['{"a": [1}', 'bracket'], ['{"a": 1} x', 'follows its end'], ['{"a": 1} {"b": 2}', 'neither one object'],
  ['{"a": [1], "a": [2]}', '"a" twice'], ['{"a": [1] 5, "b": 2}', 'follows a list'], ['{[1]: 2}', 'key was expected'],
  ['{"a": nope}', 'member'], ['{"a": [1] "b": 2}', 'follows a list'],
])('%s is refused', async (text, reason) => {
  await expect(read(text)).rejects.toThrow(new RegExp(`x\\.json: is not valid JSON \\([^]*(${reason})`));
});

test('what is not UTF-8 is refused', async () => {
  await expect(read(Uint8Array.of(0x5b, 0x22, 0xff, 0x22, 0x5d))).rejects.toThrow('is not UTF-8');
});
