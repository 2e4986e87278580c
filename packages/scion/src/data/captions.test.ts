import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { readCaptions } from './captions.js';
import type { CaptionExample, CaptionSplits } from './captions.js';
import { parquetWithImages, TestFolder } from './testing/data-folder.js';

const folder = await TestFolder.make();
const data = folder.path;
afterEach(() => folder.remove());

const show = (examples: readonly CaptionExample[] | undefined): string[] | undefined =>
  examples?.map(({ id, image, captions }) => `${id} ${folder.short(image.path)} ${captions.join('|')}`);
const ofAll = ({ train, val, test: held }: CaptionSplits): unknown => [show(train), show(val), show(held)];

const karpathyImage = (split: string, number: number, ...raw: string[]): object => ({
  filepath: 'val2014', filename: `COCO_val2014_${String(number).padStart(12, '0')}.jpg`, split, cocoid: number, imgid: 0,
  sentids: [1], sentences: raw.map((text, i) => ({ raw: text, tokens: text.split(' '), imgid: 0, sentid: i })),
});
const images = (...numbers: number[]): Record<string, string> =>
  Object.fromEntries(numbers.map((n) => [`coco/val2014/COCO_val2014_${String(n).padStart(12, '0')}.jpg`, `${n}`]));

describe("Karpathy's file", () => {
  test('has all splits; restval is trained on unless that is turned off', async () => {
    await folder.fill({
      'dataset_coco.json': { images: [karpathyImage('val', 1, ' A dog. ', 'Eine Katze'), karpathyImage('restval', 2, '一只狗'),
        karpathyImage('test', 3, 'x', ' '), karpathyImage('train', 4, 'y')], dataset: 'coco' },
      ...images(1, 2, 3, 4),
    });
    const name = (n: number): string => Object.keys(images(n))[0]!;
    const found = await readCaptions(data);
    expect(ofAll(found)).toEqual([[`2 ${name(2)} 一只狗`, `4 ${name(4)} y`], [`1 ${name(1)} A dog.|Eine Katze`], [`3 ${name(3)} x`]]);
    expect(found.warnings).toEqual(['1 empty captions are left out']);
    expect(show((await readCaptions(data, { restval: false })).train)).toEqual([`4 ${name(4)} y`]);
  });

  test('names no file outside of the folder', async () => {
    await folder.fill({ 'dataset.json': { images: [
      { filename: '../../etc/passwd', split: 'train', sentences: [{ raw: 'x' }] },
      { filename: '/etc/hosts', split: 'train', sentences: [{ raw: 'x' }] },
      { filename: 'none.jpg', split: 'best', sentences: [{ raw: 'x' }] },
    ] } });
    const message = await folder.refused(readCaptions(data));
    expect(message).toContain('dataset.json: images: 0: "../../etc/passwd" leads out of the folder');
    expect(message).toContain('dataset.json: images: 1: ');
    expect(message).toContain('dataset.json: images: 2: split: expected train, restval, val or test');
  });

  test('captions that are none', async () => {
    await folder.fill({
      'dataset_flickr8k.json': { images: [karpathyImage('train', 1, 'word '.repeat(10_000)), karpathyImage('train', 2, '', ' '),
        karpathyImage('val', 3, '狗'.repeat(20_000)), karpathyImage('train', 5, 'x')] },
      ...images(1, 2, 3),
    });
    const at = (i: number): string => `dataset_flickr8k.json: images: ${i}`;
    const message = await folder.refused(readCaptions(data));
    expect(message.split('\n').sort()).toEqual([
      `${at(0)}: a caption has 10000 words, expected at most 1000; shorten it`,
      `${at(1)}: has no caption that is not empty, expected one; add one or leave it out`,
      `${at(2)}: a caption has 20000 characters, expected at most 10000; shorten it`,
      `${at(3)}: the picture COCO_val2014_000000000005.jpg of image "5" is not in . or below it; put it there`,
    ]);
  });
});

test("COCO's files, as their archive unpacks them", async () => {
  const captions = (file: string): object => ({
    info: {}, images: [{ id: 9, file_name: file, height: 5 }],
    annotations: [{ id: 1, image_id: 9, caption: 'one' }, { id: 2, image_id: 9, caption: 'two\n' }],
  });
  await folder.fill({
    'annotations/captions_train2014.json': captions('COCO_train2014_000000000009.jpg'), 'annotations/instances_train2014.json': {},
    'annotations/captions_val2017.json': captions('000000000009.jpg'),
    'train2014/COCO_train2014_000000000009.jpg': 'a', 'val2017/000000000009.jpg': 'b', 'train2017/000000000009.jpg': 'c',
  });
  expect(ofAll(await readCaptions(data))).toEqual(
    [['9 train2014/COCO_train2014_000000000009.jpg one|two'], ['9 val2017/000000000009.jpg one|two'], undefined]);
  await folder.fill({ 'captions_train2014.json': captions('COCO_train2014_000000000009.jpg') });
  expect(await folder.refused(readCaptions(data))).toBe('captions_train2014.json: annotations: 0: the picture '
    + 'COCO_train2014_000000000009.jpg of image "9" is not in . or below it; put it there'); // once for its two captions
});

describe("Flickr's text files", () => {
  const pictures = { 'Images/1_a.jpg': 'a', 'Images/2.jpg': 'b' };

  test.each([
    ['Flickr8k_text/Flickr8k.token.txt', '1_a.jpg#0\tA dog .\n1_a.jpg#1\tA, "big" dog\n2.jpg#0\t猫\n'],
    ['results_20130124.token', '1_a.jpg#0\tA dog .\r\n1_a.jpg#1\tA, "big" dog\r\n2.jpg#0\t猫'],
    ['captions.txt', 'image,caption\n1_a.jpg,A dog .\n1_a.jpg,"A, ""big"" dog"\n2.jpg,猫\n'],
    ['results.csv', 'image_name| comment_number| comment\n1_a.jpg| 0| A dog .\n1_a.jpg| 1| A, "big" dog\n2.jpg| 0| 猫\n'],
  ])('%s, with lists of the splits and without', async (name, text) => {
    await folder.fill({ ...pictures, [name]: text });
    const [first, second] = ['1_a.jpg Images/1_a.jpg A dog .|A, "big" dog', '2.jpg Images/2.jpg 猫'];
    expect(ofAll(await readCaptions(data))).toEqual([[first, second], undefined, undefined]);
    await folder.fill({ ...pictures, [name]: text, 'Flickr_8k.trainImages.txt': '2.jpg\n', 'Flickr_8k.testImages.txt': '1_a.jpg\r\n' });
    expect(ofAll(await readCaptions(data))).toEqual([[second], undefined, [first]]);
    await folder.fill({ ...pictures, [name]: text, 'train.txt': '2', 'val.txt': '1_a' }); // as Flickr30k's, by number
    expect(ofAll(await readCaptions(data))).toEqual([[second], [first], undefined]);
  });

  test('lines and names that are wrong', async () => {
    await folder.fill({ ...pictures, 'Flickr8k.token.txt': '1_a.jpg#0\tx\nno tab here\n3.jpg#0\ty\n', 'train.txt': '1_a.jpg\n3.jpg\n4.jpg' });
    expect((await folder.refused(readCaptions(data))).split('\n')).toEqual([
      'Flickr8k.token.txt: line 2: is no picture with a caption, expected such as "1.jpg#0<tab>A dog"; mend it',
      'Flickr8k.token.txt: line 3: the picture 3.jpg of image "3.jpg" is not in . or below it; put it there',
      'train.txt: 4.jpg: has no caption in Flickr8k.token.txt; add some or take it from the list',
    ]);
  });
});

describe('Parquet files', () => {
  const bytes = [1, 2, 3].map((n) => Uint8Array.of(n));

  test.each([
    ['caption', [['a', 'b'], ['c'], ['d']], ['a|b', 'c', 'd']],
    ['sentences', [{ raw: 'a' }, { raw: 'b' }, { raw: 'c' }], ['a', 'b', 'c']],
    ['text', ['a', '猫', 'c'], ['a', '猫', 'c']],
  ])('captions in the column %s', async (column, values, expected) => {
    await folder.fill({ 'data/train-00000-of-00001.parquet': parquetWithImages(bytes, { [column]: values }) });
    const { train } = await readCaptions(data);
    expect(train!.map(({ captions }) => captions.join('|'))).toEqual(expected);
    expect(train!.map(({ image }) => image.cell)).toEqual([0, 1, 2].map((row) => ({ column: 'image', row })));
  });

  test("rows of one picture are put together, and Karpathy's splits are followed", async () => {
    await folder.fill({ 'test.parquet': parquetWithImages(bytes, {
      caption: ['a', 'b', 'c'], img_id: ['7', '7', '8'], split: ['train', 'train', 'val'],
    }) });
    const { train, val, test: held } = await readCaptions(data);
    expect(train!.map(({ id, captions }) => [id, captions])).toEqual([['7', ['a', 'b']]]);
    expect(val!.map(({ id, captions }) => [id, captions])).toEqual([['8', ['c']]]);
    expect(held).toBeUndefined();
  });
});

test('a manifest names other files', async () => {
  await folder.fill({
    'c.json': { images: [{ id: 'x', file_name: 'x.png' }], annotations: [{ image_id: 'x', caption: 'hello' }] }, 'p/x.png': 'a',
    'm.yml': 'format: coco\ntest: { captions: c.json, images: p }\n', 'bad.yml': 'format: coco\ntest: { images: p }\n',
  });
  expect(show((await readCaptions(join(data, 'm.yml'))).test)).toEqual(['x p/x.png hello']);
  expect(await folder.refused(readCaptions(join(data, 'bad.yml')))).toContain('test: names no captions');
});
