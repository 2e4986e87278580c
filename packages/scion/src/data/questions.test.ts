import { symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { hashImages } from './image-hash.js';
import { loadImages } from './image-loader.js';
import { parseImageProcessor } from './image-processor.js';
import { nameOfImage, readImage } from './image-ref.js';
import { readQuestions } from './questions.js';
import type { QuestionSet } from './questions.js';
import { parquetWithImages, TestFolder } from './testing/data-folder.js';
import type { Content } from './testing/data-folder.js';

const folder = await TestFolder.make();
const data = folder.path;
const processor = parseImageProcessor({ size: 8, crop_size: 8, do_normalize: false, do_rescale: false });
afterEach(() => folder.remove());

const ten = (...answers: string[]): { answer: string; answer_id: number; answer_confidence: string }[] =>
  Array.from({ length: 10 }, (_, i) => ({ answer: answers[i % answers.length]!, answer_id: i + 1, answer_confidence: 'yes' }));
const questionsOf = (...rows: [number, number, string][]): object => ({
  info: { version: '2.0' }, data_subtype: 'train2014',
  questions: rows.map(([question_id, image_id, question]) => ({ question_id, image_id, question })),
});
const annotationsOf = (...rows: [number, string[]][]): object => ({
  info: {}, annotations: rows.map(([question_id, answers]) => ({
    question_id, image_id: 42, question_type: 'what', answer_type: 'other', multiple_choice_answer: answers[0],
    answers: ten(...answers),
  })),
});
const trainQuestions = 'Questions/v2_OpenEnded_mscoco_train2014_questions.json';
const trainAnnotations = 'Annotations/v2_mscoco_train2014_annotations.json';
const official: Record<string, Content> = {
  [trainQuestions]: questionsOf([1, 42, 'What is this?'], [2, 42, '¿Qué es? これは何？ '], [3, 581921, 'Is it red?']),
  [trainAnnotations]: annotationsOf([1, ['dog', 'puppy']], [2, ['犬']], [3, ['yes', '']]),
  'train2014/COCO_train2014_000000000042.jpg': 'a', 'train2014/COCO_train2014_000000581921.jpg': 'b',
};
const show = ({ examples }: QuestionSet): string[] =>
  examples.map(({ id, image, question, answers }) => `${id} ${folder.short(image.path)} ${question} ${answers?.join('|')}`);

describe('the files of VQA', () => {
  test('as their archives unpack them; a picture of several questions is one', async () => {
    await folder.fill({
      ...official, 'v2_OpenEnded_mscoco_test2015_questions.json': questionsOf([7, 1, 'a?'], [8, 2, 'b?']),
      'v2_OpenEnded_mscoco_test-dev2015_questions.json': questionsOf([7, 1, 'a?']),
      'test2015/COCO_test2015_000000000001.jpg': 'c', 'test2015/COCO_test2015_000000000002.jpg': 'd',
    });
    const { train, val, test: held, warnings } = await readQuestions(data);
    expect(show(train!)).toEqual([
      `1 train2014/COCO_train2014_000000000042.jpg What is this? ${ten('dog', 'puppy').map((x) => x.answer).join('|')}`,
      `2 train2014/COCO_train2014_000000000042.jpg ¿Qué es? これは何？ ${Array(10).fill('犬').join('|')}`,
      `3 train2014/COCO_train2014_000000581921.jpg Is it red? ${ten('yes', '').map((x) => x.answer).join('|')}`,
    ]);
    expect(train!.images.length).toBe(2);
    expect(train!.examples[0]!.image).toBe(train!.examples[1]!.image);
    expect(train!.examples[0]).toMatchObject({ usualAnswer: 'dog', questionType: 'what', answerType: 'other' });
    expect(val).toBeUndefined();
    expect(show(held!)).toEqual(['7 test2015/COCO_test2015_000000000001.jpg a? undefined']);
    expect(held!.examples[0]).not.toHaveProperty('answers');
    expect((await readQuestions(data, { test: 'test2015' })).test!.examples.length).toBe(2);
    expect(warnings).toEqual([`${join(data, trainAnnotations)}: 5 answers are empty; they count as wrong`]);
    const hashes = await hashImages(train!.images);
    expect([...hashes.keys()]).toEqual(train!.images);
    expect(hashes.get(train!.images[0]!)).toBe('ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb');
  });

  test("OK-VQA's names, and pictures named as in 2017", async () => {
    await folder.fill({
      'OpenEnded_mscoco_val2014_questions.json': questionsOf([5, 9, 'why?']), 'images/000000000009.jpg': 'x',
      'mscoco_val2014_annotations.json': annotationsOf([5, ['x']]),
    });
    expect(show((await readQuestions(data)).val!)[0]).toMatch(/^5 images\/000000000009\.jpg why\?/);
  });

  test('annotations or questions that are missing', async () => {
    const { [trainAnnotations]: annotations, ...without } = official;
    await folder.fill(without);
    expect(await folder.refused(readQuestions(data))).toBe(
      `${trainQuestions}: its annotations are missing; put v2_mscoco_train2014_annotations.json into .`);
    await folder.fill({ [trainAnnotations]: annotations! });
    expect(await folder.refused(readQuestions(data))).toContain('its questions are missing; put v2_OpenEnded_mscoco_train2014');
  });

  test('everything that is wrong is said at once, and a long list is cut', async () => {
    await folder.fill({
      ...official,
      [trainQuestions]: questionsOf([1, 43, 'a?'], [2, 42, ' '], [3, 42, 'c?'], [3, 42, 'd?'], [4, 42, 'e?']),
      [trainAnnotations]: annotationsOf([1, ['x']], [3, ['', ' ']]),
    });
    const at = `${trainQuestions}: questions: `;
    expect((await folder.refused(readQuestions(data))).split('\n')).toEqual([
      `${trainAnnotations}: annotations: 1: all its answers are empty, expected a text; leave the question out or answer it`,
      `${at}0: the picture COCO_train2014_000000000043.jpg of image "43" is not in . or below it; put it there`,
      `${at}1: question: is empty, expected a question; mend the file`,
      `${at}3: question 3 is there twice; remove one`,
      `${at}4: question 4 has no annotation in ${trainAnnotations}; get both files again`,
    ]);
    const many = Array.from({ length: 50 }, (_, i): [number, number, string] => [i, 1000 + i, 'q']);
    await folder.fill({ ...official, [trainQuestions]: questionsOf(...many) });
    const message = await folder.refused(readQuestions(data));
    expect(message.split('\n').length).toBe(21);
    expect(message).toContain('and 30 more of these');
  });

  test('two versions beside each other, damaged files, and none that is known', async () => {
    await folder.fill({ ...official, 'OpenEnded_mscoco_train2014_questions.json': questionsOf() });
    expect(await folder.refused(readQuestions(data))).toContain('has the questions of train2014 twice, in OpenEnded_');
    await folder.fill(official);
    await truncate(join(data, trainAnnotations), 300);
    expect(await folder.refused(readQuestions(data))).toContain(`${trainAnnotations}: is not valid JSON (it ends too early: cut short)`);
    await folder.fill({ 'x.txt': '' });
    expect(await folder.refused(readQuestions(data))).toContain('has no files with the names of a known data set');
    expect(await folder.refused(readQuestions(join(data, 'none')))).toContain('there is no such file or folder');
  });

  test('a link that leads out of the folder is no picture', async () => {
    const outside = await TestFolder.make();
    await outside.fill({ 'secret.jpg': 's' });
    const { 'train2014/COCO_train2014_000000000042.jpg': _, ...rest } = official;
    await folder.fill(rest);
    await symlink(join(outside.path, 'secret.jpg'), join(data, 'train2014/COCO_train2014_000000000042.jpg'));
    expect(await folder.refused(readQuestions(data))).toContain('COCO_train2014_000000000042.jpg of image "42" is not in');
    await outside.remove();
  });
});

test('GQA: one answer, and the structural type', async () => {
  const question = (imageId: string, answer?: string): object =>
    ({ imageId, question: 'What is it?', ...(answer && { answer }), types: { structural: 'query', semantic: 'obj' }, isBalanced: true });
  await folder.fill({
    'questions/train_balanced_questions.json': { '01': question('2386621', 't-shirt'), '02': question('n7', 'cat') },
    'questions/testdev_balanced_questions.json': { '03': question('n7', 'dog') },
    'images/2386621.jpg': 'a', 'images/n7.jpg': 'b',
  });
  const { train, test: held } = await readQuestions(data);
  expect(show(train!)).toEqual(['01 images/2386621.jpg What is it? t-shirt', '02 images/n7.jpg What is it? cat']);
  expect(train!.examples[0]!.questionType).toBe('query');
  expect(held!.examples[0]!.image.path).toBe(train!.examples[1]!.image.path);
  await folder.fill({ 'train_balanced_questions.json': { '01': question('1'), '02': question('2', 'x') }, 'images/1.jpg': 'a' });
  const message = await folder.refused(readQuestions(data));
  expect(message).toContain('train_balanced_questions.json: 01: has no answer');
  expect(message).toContain('train_balanced_questions.json: 02: the picture 2.jpg of image "2" is not in');
});

describe('a manifest', () => {
  const files = { 'q.json': questionsOf([1, 5, 'what?']), 'a.json': annotationsOf([1, ['x']]), 'photos/5.png': 'p', '5.jpg': 'no' };

  test.each([
    ['m.yaml', 'format: vqa\nval: { questions: q.json, annotations: ./a.json, images: photos/ }\n'],
    ['m.json', '{"format": "vqa", "val": {"questions": "q.json", "annotations": "a.json", "images": "photos"}}'],
  ])('%s names other files', async (name, text) => {
    await folder.fill({ ...files, [name]: text });
    expect(show((await readQuestions(join(data, name))).val!)[0]).toMatch(/^1 photos\/5\.png what\?/);
  });

  test.each([
    ['format: vqa\ntrain: { questions: ../q.json, annotations: /etc/passwd }', '"../q.json" leads out'],
    ['format: vqa\ntrain: { questions: ../q.json, annotations: /etc/passwd }', '"/etc/passwd" leads out'],
    ['format: vqa\ntrain: { questions: none.json, annotations: a.json }', 'm.yaml: train: questions: there is no "none.json" in .'],
    ['format: vqa\ntrain: { questions: q.json }', 'train: names no annotations, which are needed; add "annotations:"'],
    ['format: vqa', 'has none of train, val and test'],
    ['format: coco\ntrain: {}', 'format: expected vqa, gqa, parquet'],
    ['format: parquet\ntrain: {}', 'train: names no Parquet files'],
    ['a: &a [1]\nb: *a\nformat: vqa', 'is no YAML'],
    ['format: vqa\ntrain: { question: q.json }', 'm.yaml: train'],
  ])('%s is refused', async (text, message) => {
    await folder.fill({ ...files, 'm.yaml': text });
    expect(await folder.refused(readQuestions(join(data, 'm.yaml')))).toContain(message);
  });
});

describe('Parquet files', () => {
  let pictures: Uint8Array[];
  beforeAll(async () => {
    pictures = await Promise.all([10, 20, 30, 40].map(async (r) => new Uint8Array(await sharp(
      { create: { width: 9, height: 9, channels: 3, background: { r, g: 0, b: 0 } } }).png().toBuffer())));
  });
  const rows = (start: number): Record<string, unknown[]> => ({
    question_id: [start, start + 1], image_id: [7, 7], question: ['what?', '何？'],
    answers: [ten('dog'), ten('cat')], multiple_choice_answer: ['dog', 'cat'], question_type: ['what', 'what'],
    answer_type: ['other', 'other'],
  });

  test('in several shards: pictures are read from their rows, group by group', async () => {
    const [a, b, c, d] = pictures as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
    const { image_id: _, ...without } = rows(2);
    await folder.fill({
      'data/train-00000-of-00002.parquet': parquetWithImages([a, a], rows(0)),
      'data/train-00001-of-00002.parquet': parquetWithImages([b, c], without, { rowGroupSize: 1 }),
      'data/validation-00000-of-00001.parquet': parquetWithImages([d, d], rows(4), { codec: 'UNCOMPRESSED' }),
    });
    const { train, val } = await readQuestions(data);
    expect(train!.examples.map(({ id, question, answers, usualAnswer }) => [id, question, answers!.length, usualAnswer])).toEqual([
      ['0', 'what?', 10, 'dog'], ['1', '何？', 10, 'cat'], ['2', 'what?', 10, 'dog'], ['3', '何？', 10, 'cat']]);
    expect(val!.examples.length).toBe(2);
    // the first two rows have the same image_id
    expect(train!.images.map((image) => folder.short(nameOfImage(image)))).toEqual([
      'data/train-00000-of-00002.parquet: row 0', 'data/train-00001-of-00002.parquet: row 0', 'data/train-00001-of-00002.parquet: row 1']);
    expect(await Promise.all(train!.images.map(readImage))).toEqual([a, b, c]);
    const hashes = await hashImages(train!.images);
    const sources = train!.images.map((image) => ({ ...image, sha256: hashes.get(image)! }));
    const reds: number[] = [];
    for await (const { pixels } of loadImages(sources, processor, { batchSize: 1 })) reds.push(pixels.data[0]!);
    expect(reds).toEqual([10, 20, 30]);
    const changed = loadImages([{ ...sources[0]!, sha256: 'other' }], processor);
    await expect(changed.next()).rejects.toThrow('row 0: has changed');
  });

  test('answers of other forms, and a column of splits', async () => {
    await folder.fill({ 'all.parquet': parquetWithImages(pictures.slice(0, 3), {
      question: ['a?', 'b?', 'c?'], answer: ['yes', 'no', null], split: ['train', 'val', 'test'],
    }) });
    const { train, val, test: held } = await readQuestions(data);
    expect(train!.examples[0]).toMatchObject({ id: '0', answers: ['yes'] });
    expect(val!.examples[0]!.answers).toEqual(['no']);
    expect(held!.examples[0]).not.toHaveProperty('answers');
  });

  test('rows and files that are wrong', async () => {
    await folder.fill({ 'train.parquet': parquetWithImages([null, pictures[0]!], { question: ['', 'b?'], answers: [['x'], ['']] }) });
    const message = await folder.refused(readQuestions(data));
    expect(message).toContain('train.parquet: row 0: its question is empty');
    expect(message).toContain('train.parquet: row 1: all its answers are empty');
    await folder.fill({ 'train.parquet': parquetWithImages([null], { question: ['a?'], answers: [['x']] }) });
    const [image] = (await readQuestions(data)).train!.images;
    expect(await folder.refused(readImage(image!))).toContain('train.parquet: row 0: has no bytes in the column image');
    expect(await folder.refused(readImage({ ...image!, cell: { column: 'image', row: 5 } }))).toContain('row 5: is not there');
    await folder.fill({ 'train.parquet': parquetWithImages([pictures[0]!], { query: ['a?'] }) });
    expect(await folder.refused(readQuestions(data))).toContain('has none of the columns question; it has: image, query');
  });

  test('files that are cut short, empty, or lie about themselves', async () => {
    const whole = parquetWithImages(pictures, { question: ['a', 'b', 'c', 'd'], answer: ['a', 'b', 'c', 'd'] });
    const file = join(data, 'train.parquet');
    for (const bytes of [whole.subarray(0, 100), new Uint8Array(0), new Uint8Array(64), Buffer.from('PAR1PAR1PAR1')]) {
      await folder.fill({ 'train.parquet': bytes });
      expect(await folder.refused(readQuestions(data))).toMatch(/^train\.parquet: cannot be read as Parquet/);
    }
    // every byte of the description at the end, changed one after the other: an error that names the file, or texts
    const footer = new DataView(whole.buffer, whole.byteOffset).getUint32(whole.byteLength - 8, true);
    for (let i = whole.byteLength - footer - 8; i < whole.byteLength - 8; i += 7) {
      const damaged = whole.slice();
      damaged[i]! ^= 0x7f;
      await writeFile(file, damaged);
      const result = await readQuestions(data).catch((error: unknown) => error);
      if (result instanceof Error) expect(result.message).toContain('train.parquet');
    }
  });
});
