import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makePrompts, readDescriptions, templateSets } from './prompts.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-prompts-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('templates', () => {
  test('one photo by default, underscores as spaces', () => {
    expect(makePrompts(['t-shirt', 'school_bus', '$& 犬'])).toEqual(
      [['a photo of a t-shirt.'], ['a photo of a school bus.'], ['a photo of a $& 犬.']]);
  });

  test('the ensemble has seven different texts', () => {
    const [prompts] = makePrompts(['hat'], { templates: templateSets.ensemble });
    expect(new Set(prompts).size).toBe(7);
    expect(prompts![0]).toBe('itap of a hat.');
  });

  test('a template without a place for the name is refused', () => {
    expect(() => makePrompts(['hat'], { templates: ['a photo'] })).toThrow('"a photo" has no {} for the class name');
  });
});

describe('descriptions', () => {
  const descriptions = new Map([['School Bus', ['yellow', 'long']], ['hat', ['worn on a head']]]);

  test('stand alone, or behind templates that are asked for', () => {
    expect(makePrompts(['hat', 'school_bus'], { descriptions })).toEqual([['worn on a head'], ['yellow', 'long']]);
    expect(makePrompts(['hat'], { descriptions, templates: ['a {}'] })).toEqual([['a hat', 'worn on a head']]);
  });

  test('every class that is missing is named, with the nearest one in the file', () => {
    expect(() => makePrompts(['hats', 'cat', 'hat'], { descriptions, where: 'd.json' })).toThrow(
      /d\.json: has no text for the class "hats"; did you mean hat\? [^]*\nd\.json: has no text for the class "cat"/);
  });

  test('are read from JSON', async () => {
    const file = join(folder, 'd.json');
    await writeFile(file, '{"hat": ["a", "b"], "bus": "one text"}');
    expect([...await readDescriptions(file)]).toEqual([['hat', ['a', 'b']], ['bus', ['one text']]]);
  });

  test.each([
    ['{"hat": []}', 'hat: expected at least one text'],
    ['{"hat": [""]}', 'is empty, expected a text'],
    ['{"hat": 3}', 'hat: expected a list of texts'],
    ['["hat"]', 'expected {"class"'],
    ['{"a_b": ["x"], "A b": ["y"]}', '"a_b" and "A b" are the same class'],
    ['{"a": ["x"], "a": ["y"]}', 'has the key "a" twice'],
    ['{', 'is not valid JSON'],
  ])('%s is refused', async (content, message) => {
    const file = join(folder, 'bad.json');
    await writeFile(file, content);
    await expect(readDescriptions(file)).rejects.toThrow(message);
    await expect(readDescriptions(file)).rejects.toThrow(file);
  });
});
