import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ScionError } from '../util/errors.js';
import { readDataset } from './dataset.js';
import type { DatasetOptions, ImageDataset } from './dataset.js';
import { parseCsv } from './dataset-csv.js';

let base: string;
let data: string;
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'scion-dataset-'));
  data = join(base, 'data');
  await mkdir(data);
});
afterEach(() => rm(base, { recursive: true }));

/** Writes files whose content is their own path, unless it is given. */
async function make(files: readonly string[] | Record<string, string>): Promise<void> {
  const entries = Array.isArray(files) ? files.map((f: string) => [f, f] as const) : Object.entries(files);
  for (const [name, content] of entries) {
    await mkdir(dirname(join(data, name)), { recursive: true });
    await writeFile(join(data, name), content);
  }
}

/** `split: path → class name`, with paths from the data folder. */
const rows = ({ splits, classNames }: ImageDataset): string[] => Object.entries(splits).flatMap(([split, images]) =>
  images.map(({ path, label }) => `${split}: ${relative(data, path)} → ${classNames[label]}`));

async function refused(path = data, options: DatasetOptions = {}): Promise<string> {
  const error: unknown = await readDataset(path, options).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(ScionError);
  return (error as ScionError).message.replaceAll(base, '');
}

describe('a folder per class', () => {
  test('sorted, without what is hidden, all of it for training', async () => {
    await make(['dog/b.PNG', 'dog/a.jpg', 'cat/1.webp', 'cat/.hidden.jpg', '.git/x.jpg', 'cat/Thumbs.db']);
    const dataset = await readDataset(data);
    expect(dataset.classNames).toEqual(['cat', 'dog']);
    expect(rows(dataset)).toEqual(['train: cat/1.webp → cat', 'train: dog/a.jpg → dog', 'train: dog/b.PNG → dog']);
    expect(dataset.warnings).toEqual([]);
  });

  test('below train, val and test', async () => {
    await make(['train/cat/1.jpg', 'train/dog/1.jpg', 'val/dog/2.jpg', 'test/cat/3.gif', 'test/owl/3.avif', 'n.txt']);
    const dataset = await readDataset(data);
    expect(rows(dataset)).toEqual(['train: train/cat/1.jpg → cat', 'train: train/dog/1.jpg → dog',
      'val: val/dog/2.jpg → dog', 'test: test/cat/3.gif → cat', 'test: test/owl/3.avif → owl']);
    expect(dataset.warnings).toEqual(['1 files lie beside the class folders and are left out',
      '1 of 3 classes have pictures in test but none in train: "owl"']);
  });

  test('a class may be called train', async () => {
    await make(['train/1.jpg', 'bus/1.jpg']);
    expect((await readDataset(data)).classNames).toEqual(['bus', 'train']);
    await rm(join(data, 'bus'), { recursive: true });
    await make(['test/1.jpg']);
    expect((await readDataset(data)).classNames).toEqual(['test', 'train']);
  });

  test('names with newlines, spaces and letters of any script; both spellings of an accent are one class', async () => {
    await make(['train/ca\nt/pic\n1.jpg', 'train/собака/犬 1.jpg', 'train/caf\u00e9/1.jpg', 'test/cafe\u0301/2.jpg',
      'train/🦉/a.svg']);
    const dataset = await readDataset(data);
    expect(dataset.classNames).toEqual(['ca\nt', 'caf\u00e9', 'собака', '🦉'].sort());
    expect(rows(dataset)).toContain('train: train/ca\nt/pic\n1.jpg → ca\nt');
    expect(rows(dataset)).toContain('test: test/cafe\u0301/2.jpg → caf\u00e9');
  });

  test('other files are left out and counted', async () => {
    await make(['cat/1.jpg', 'cat/a.txt', 'cat/b.txt', 'cat/noextension', 'cat/x.pdf', 'readme.md']);
    expect((await readDataset(data)).warnings).toEqual([
      '1 files lie beside the class folders and are left out',
      "4 files are left out, since their names do not end as a picture's: 1 without extension, 1 .pdf, 2 .txt"]);
  });

  test('everything that is wrong is said at once', async () => {
    await make(['cat/1.jpg', 'cat/more/2.jpg', 'dog/a.txt']);
    await mkdir(join(data, 'owl'));
    const message = await refused();
    expect(message).toContain('/data/cat/more: is a folder within the class "cat", expected only pictures');
    expect(message).toContain('/data/dog: this class has no pictures (1 other files), expected at least one');
    expect(message).toContain('/data/owl: this class has no pictures, expected at least one');
  });

  test('an empty folder, pictures without class folders, an empty split', async () => {
    expect(await refused()).toContain('/data: has no pictures, expected a folder per class');
    await make(['1.jpg']);
    expect(await refused()).toContain('/data: has no pictures, expected a folder per class');
    await rm(join(data, '1.jpg'));
    await make(['train/cat/1.jpg']);
    await mkdir(join(data, 'test'));
    expect(await refused()).toContain('/data/test: is empty, expected a folder per class');
  });

  test('a long list of faults is cut, with the number of the rest', async () => {
    for (let i = 0; i < 33; i++) await mkdir(join(data, `class-${i}`));
    const lines = (await refused()).split('\n');
    expect(lines).toHaveLength(21);
    expect(lines.at(-1)).toBe('/data: and 14 more of these');
  });

  test('links within the data are followed, links out of it refused', async () => {
    await make(['cat/1.jpg', 'dog/1.jpg']);
    await symlink('../cat/1.jpg', join(data, 'dog/2.jpg'));
    await symlink(data, join(base, 'alias'));
    expect(rows(await readDataset(data))).toContain('train: dog/2.jpg → dog');
    expect((await readDataset(join(base, 'alias'))).splits.train).toHaveLength(3);

    await writeFile(join(base, 'secret.jpg'), 'x');
    await mkdir(join(base, 'elsewhere'));
    await symlink(join(base, 'secret.jpg'), join(data, 'dog/3.jpg'));
    await symlink('../elsewhere', join(data, 'owl'));
    await symlink('nowhere', join(data, 'dog/4.jpg'));
    const message = await refused();
    expect(message).toContain('/data/dog/3.jpg: is a link that leads out of the data folder');
    expect(message).toContain('/data/owl: is a link that leads out of the data folder');
    expect(message).toContain('/data/dog/4.jpg: cannot read it');
  });
});

describe('the same picture in two splits', () => {
  const files = {
    'train/cat/1.jpg': 'same', 'train/cat/2.jpg': 'more', 'test/cat/9.jpg': 'same', 'val/cat/5.jpg': 'even',
  };

  test('is warned of, whatever its name', async () => {
    await make(files);
    const { warnings } = await readDataset(data);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('1 picture is in both train and test');
    expect(warnings[0]).toContain('cat/1.jpg');
    expect(warnings[0]).toContain('cat/9.jpg');
    expect((await readDataset(data, { findDuplicates: false })).warnings).toEqual([]);
  });

  test('is no matter within one split', async () => {
    await make({ 'train/cat/1.jpg': 'same', 'train/cat/2.jpg': 'same', 'test/cat/1.jpg': 'else' });
    expect((await readDataset(data)).warnings).toEqual([]);
  });
});

describe('manifests', () => {
  beforeEach(() => make(['a/1.jpg', 'a/2, 3.jpg', 'b/1.jpg', 'ж\n.png']));
  const write = async (name: string, content: string): Promise<string> => {
    await writeFile(join(data, name), content);
    return join(data, name);
  };

  test('CSV', async () => {
    const path = await write('list.csv',
      '\ufeffLabel,path,note,split\r\nred,a/1.jpg,,train\r\n"gr""een","a/2, 3.jpg",x,test\r\n\r\nred,"ж\n.png",,\r\n');
    const dataset = await readDataset(path);
    expect(rows(dataset)).toEqual(['train: a/1.jpg → red', 'train: ж\n.png → red', 'test: a/2, 3.jpg → gr"een']);
    expect(dataset.warnings).toEqual([`${path}: the columns note are not used`,
      '1 of 2 classes have pictures in test but none in train: "gr\\"een"']);
  });

  test('JSON lines', async () => {
    const path = await write('list.jsonl',
      '{"path": "a/1.jpg", "label": "x"}\n\n{"path": "b/1.jpg", "label": 7, "split": "validation"}\n');
    const dataset = await readDataset(path, { findDuplicates: false });
    expect(rows(dataset)).toEqual(['train: a/1.jpg → x', 'val: b/1.jpg → 7']);
  });

  test('CoOp split, with the order of its labels', async () => {
    await make(['images/z.jpg']);
    const path = await write('split_zhou.json', JSON.stringify({
      train: [['a/1.jpg', 1, 'apple'], ['b/1.jpg', 0, 'pear']], val: [], test: [['a/2, 3.jpg', 1, 'apple']],
    }));
    const dataset = await readDataset(path);
    expect(dataset.classNames).toEqual(['pear', 'apple']);
    expect(rows(dataset)).toEqual(['train: a/1.jpg → apple', 'train: b/1.jpg → pear', 'test: a/2, 3.jpg → apple']);
    const below = await write('other.json', '{"test": [["z.jpg", 0, "pear"]]}');
    expect(rows(await readDataset(below))).toEqual(['test: images/z.jpg → pear']);
    const given = await readDataset(below, { imageFolder: join(data, 'images') });
    expect(rows(given)).toEqual(['test: images/z.jpg → pear']);
  });

  test('groups of the test rows of a CoOp split; other keys mean nothing', async () => {
    const test = [['a/1.jpg', 0, 'x'], ['b/1.jpg', 1, 'y']];
    const groups = { test: { seen: [1], unseen: [0] } };
    const path = await write('grouped.json', JSON.stringify({ train: test, test, groups, author: 'somebody' }));
    expect((await readDataset(path, { findDuplicates: false })).groups).toEqual(groups.test);
    const none = await write('plain.json', JSON.stringify({ test, groups: {} }));
    expect(await readDataset(none, { findDuplicates: false })).not.toHaveProperty('groups');
  });

  test.each([
    ['a.csv', 'path,label\n../x.jpg,a\n/etc/passwd,a\nC:\\x.jpg,b\n', [
      'line 2: "../x.jpg" leads out of the folder', 'line 3: "/etc/passwd" leads', 'line 4: "C:\\\\x.jpg" leads']],
    ['a.csv', 'path,label\nno.jpg,a\na/1.jpg,\n', [
      'line 2: /data/no.jpg: cannot read it: there is no such file', 'line 3: label: is empty, expected a text']],
    ['a.csv', 'path,label,split\na/1.jpg,a,dev\n', ['line 2: split: expected train, val or test']],
    ['a.csv', 'path,label\n', ['lists no picture']],
    ['a.csv', '', ['line 1: names nothing, expected the columns path, label']],
    ['a.csv', 'file,class\nx,y\n', ['line 1: names "file", "class", expected the columns path, label']],
    ['a.csv', 'path,label\na/1.jpg\n', ['line 2: has 1 fields, expected 2']],
    ['a.csv', 'path,label\na/1.jpg,x"y\n', ['line 2: has a quote out of place']],
    ['a.jsonl', '{"path": "a/1.jpg"}\nnope\n[1]\n', [
      'line 1: label: expected', 'line 2: the line is not valid JSON', 'line 3: ']],
    ['a.json', '{"train": [["a/1.jpg", 0, "x"], ["b/1.jpg", 0, "y"]]}', [
      'train: 1: label 0 is "y" here and "x" before']],
    ['a.json', '{"train": [["a/1.jpg", 0, "x"], ["b/1.jpg", 1, "x"]]}', [
      'train: 1: the class "x" has label 1 here and 0 before']],
    ['a.json', '{"train": [["a/1.jpg", 0, "x"], ["b/1.jpg", 2, "y"]]}', ['no picture has label 1']],
    ['a.json', '{"train": [["a/1.jpg", "x"]]}', [
      'a.json: train', 'expected {"train": [[path, label, class name], …], …}']],
    ['a.json', '{"training": []}', ['has none of train, val and test']],
    ['a.json', '{"train": []}', ['lists no picture']],
    ['a.json', '{"test": [["a/1.jpg", 0, "x"], ["b/1.jpg", 1, "y"]], "groups": {"test": {"s": [0, 1], "u": [1, 2], "e": []}}}', [
      'groups: test: u: names row 1, which is in "s", expected one group',
      'groups: test: u: names row 2, expected 0 to 1 for 2 test rows', 'groups: test: e: has no row']],
    ['a.json', '{"test": [["a/1.jpg", 0, "x"]], "groups": {"test": {"s": ["a/1.jpg"]}}}', [
      'groups: test: s: 0: ', 'expected {"test": {"name": [row numbers …], …}}']],
    ['a.json', '{"test": [["a/1.jpg", 0, "x"], ["a/1.jpg", 0, "x"]], "groups": {"test": {"s": [1, 1]}}}', [
      'groups: test: s: names row 1, which is in "s"']],
    ['a.txt', 'a/1.jpg x', ['is no data set, expected a folder']],
  ])('%s: %j is refused', async (name, content, messages) => {
    const message = await refused(await write(name, content));
    for (const part of messages) expect(message).toContain(part);
    expect(message).toMatch(/^\/data\/a\./);
  });

  test('a listed link that leads out', async () => {
    await writeFile(join(base, 'secret.jpg'), 'x');
    await symlink(join(base, 'secret.jpg'), join(data, 'a/link.jpg'));
    expect(await refused(await write('a.csv', 'path,label\na/link.jpg,x\n'))).toContain(
      'line 2: /data/a/link.jpg: is a link that leads out of the data folder');
  });

  test('bytes that are not UTF-8, and no file at all', async () => {
    await writeFile(join(data, 'l.csv'), Buffer.from('path,label\né.jpg,a\n', 'latin1'));
    expect(await refused(join(data, 'l.csv'))).toContain('is not UTF-8 text');
    expect(await refused(join(data, 'none.csv'))).toContain('there is no such file');
  });
});

test('CSV: quotes, empty fields, line numbers, and no line end after the last row', () => {
  expect(parseCsv('a,"b\nc",\r\n"",,"d""e"\n\nx,y,', 'x').map(({ line, fields }) => [line, ...fields])).toEqual(
    [[1, 'a', 'b\nc', ''], [3, '', '', 'd"e'], [5, 'x', 'y', '']]);
  for (const bad of ['a"b,c', '"a"b,c', '"a,c', '"a""']) expect(() => parseCsv(bad, 'x')).toThrow('quote out of place');
});
