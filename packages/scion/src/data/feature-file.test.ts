import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeNpy } from '../formats/npy.js';
import { readSafetensorsHeader, writeSafetensors } from '../formats/safetensors-node.js';
import { ScionError } from '../util/errors.js';
import { float32, fromFloat64, int64, tensor } from '../util/tensor.js';
import type { DType, Tensor } from '../util/tensor.js';
import { readFeatureFile, readPredictionFeatures, writeFeatureFile } from './feature-file.js';
import type { FeatureContent } from './feature-file.js';

let folder: string;
let files = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-features-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** Finite, nowhere zero, exact in float16. */
const features = (...shape: number[]): Tensor<'float32'> =>
  float32(shape, Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => (i % 7) / 4 - 2));

const sound = (): Record<string, Tensor> => ({
  'train.features': features(4, 3), 'train.labels': int64([4], [0, 1, 2, 0]),
  'val.features': features(2, 3), 'val.labels': int64([2], [1, 2]),
  'test.features': features(3, 3), 'test.labels': int64([3], [2, 1, 0]),
  'text.features': features(3, 3),
});
const metadata = { class_names: '["cat","dog","owl"]', logit_scale: '50.5', model: 'clip' };

async function write(tensors: Record<string, Tensor>, meta: Record<string, string> = metadata): Promise<string> {
  const path = join(folder, `f${files++}.safetensors`);
  await writeSafetensors(path, tensors, meta);
  return path;
}

/** The issues of a refused reading, without the file's name. */
async function issues(path: string, reading: Promise<unknown>): Promise<string[]> {
  const error: unknown = await reading.then(() => 'accepted', (e: unknown) => e);
  expect(error).toBeInstanceOf(ScionError);
  for (const { message } of (error as ScionError).issues) expect(message).toMatch(/[;,] [a-z]/);
  return (error as ScionError).issues.map((i) => `${i.path.replace(`${path}: `, '')}: ${i.message}`);
}

async function refused(change: Record<string, Tensor | undefined>, meta = metadata as object): Promise<string[]> {
  const tensors = Object.entries({ ...sound(), ...change }).filter((e): e is [string, Tensor] => e[1] !== undefined);
  const path = await write(Object.fromEntries(tensors), meta as Record<string, string>);
  return issues(path, readFeatureFile(path));
}

describe('a .safetensors feature file', () => {
  it('is read with everything in it', async () => {
    const path = await write(sound());
    const file = await readFeatureFile(path, { train: true, val: true, test: true, text: ['zero-shot'] });
    expect(file).toEqual({
      path,
      digest: createHash('sha256').update(await readFile(path)).digest('hex'),
      model: 'clip',
      logitScale: 50.5,
      classNames: ['cat', 'dog', 'owl'],
      dim: 3,
      notes: [],
      train: { features: features(4, 3), labels: Int32Array.of(0, 1, 2, 0) },
      val: { features: features(2, 3), labels: Int32Array.of(1, 2) },
      test: { features: features(3, 3), labels: Int32Array.of(2, 1, 0) },
      text: float32([3, 1, 3], features(3, 3).data),
    });
  });

  it.each<DType>(['float16', 'bfloat16', 'float32', 'float64'])('takes %s features', async (dtype) => {
    const t = features(4, 3);
    const path = await write({ ...sound(), 'train.features': fromFloat64(dtype, t.shape, Float64Array.from(t.data)) });
    expect((await readFeatureFile(path)).train!.features).toEqual(t);
  });

  it.each<DType>(['int64', 'int32', 'int16', 'int8', 'uint64', 'uint32', 'uint16', 'uint8'])(
    'takes %s labels', async (dtype) => {
      const labels = fromFloat64(dtype, [4], Float64Array.of(0, 1, 2, 0));
      const path = await write({ ...sound(), 'train.labels': labels });
      expect((await readFeatureFile(path)).train!.labels).toEqual(Int32Array.of(0, 1, 2, 0));
    });

  it('keeps the templates of the text', async () => {
    const path = await write({ ...sound(), 'text.features': features(3, 5, 3) });
    expect((await readFeatureFile(path)).text).toEqual(features(3, 5, 3));
  });

  it('says what it assumed and what it left out', async () => {
    const tensors = { ...sound(), extra: features(1) };
    delete (tensors as Record<string, Tensor>)['val.labels'];
    const file = await readFeatureFile(await write(tensors, {}));
    expect(file).toMatchObject({ logitScale: 100, model: undefined, classNames: ['class 0', 'class 1', 'class 2'] });
    expect(file.val).toBeUndefined();
    expect(file.notes).toEqual([
      'val.labels is missing, so val is not used',
      'tensor "extra" is not used',
      'logit_scale is missing, so 100 is used, as CLIP has it',
      'class_names is missing, so the classes are called "class 0" to "class 2"',
    ]);
  });

  it('counts the classes by the labels where neither names nor text tell', async () => {
    const { 'train.features': f, 'train.labels': l } = sound();
    const file = await readFeatureFile(await write({ 'train.features': f!, 'train.labels': l! }, {}));
    expect(file.classNames).toHaveLength(3);
    const huge = await write({ 'train.features': f!, 'train.labels': int64([4], [0, 1, 2 ** 52, 1]) }, {});
    expect(await issues(huge, readFeatureFile(huge))).toEqual([
      expect.stringMatching(/^train.labels: row 2 is 4503599627370496, expected 0 to 999999;/),
    ]);
  });
});

describe('what is missing', () => {
  it('is reported together', async () => {
    const path = await write({ 'val.features': features(2, 3), other: features(1) });
    expect(await issues(path, readFeatureFile(path, { train: true, test: true, text: ['zero-shot'] }))).toEqual(
      ['train.features', 'train.labels', 'test.features', 'test.labels', 'text.features'].map((name) =>
        `${name}: missing but needed ${name === 'text.features' ? 'by zero-shot' : 'here'}; add it to the file (it has: val.features, "other")`));
  });

  it('includes the half of a split that is needed', async () => {
    const path = await write({ 'train.features': features(2, 3) });
    expect(await issues(path, readFeatureFile(path, { train: true }))).toEqual([
      expect.stringMatching(/^train.labels: missing but needed here/),
    ]);
  });

  it('is everything', async () => {
    const path = await write({ 'model.weight': features(2, 3) });
    expect(await issues(path, readFeatureFile(path))).toEqual([
      expect.stringMatching(/holds nothing to use: expected train, val or test .* it has: "model.weight"/),
    ]);
  });
});

describe('what is wrong', () => {
  const with_ = (t: Tensor<'float32'>, at: number, ...values: number[]): Tensor => {
    t.data.set(values, at);
    return t;
  };
  const names = (list: unknown): object => ({ ...metadata, class_names: JSON.stringify(list) });
  const scale = (logit_scale: string): object => ({ ...metadata, logit_scale });
  type Row = [string, Record<string, Tensor | undefined>, object, RegExp];
  const rows: Row[] = [
    ['a label of K', { 'train.labels': int64([4], [0, 1, 3, 9]) }, metadata,
      /^train.labels: row 2 is 3, expected 0 to 2 for K = 3 classes; mend the label/],
    ['a negative label', { 'test.labels': int64([3], [0, -1, 3]) }, metadata,
      /^test.labels: row 1 is -1, expected 0 to 2/],
    ['too few labels', { 'train.labels': int64([3], [0, 1, 2]) }, metadata,
      /^train.labels: has 3 labels for 4 rows of features/],
    ['labels that are fractions', { 'train.labels': float32([4], [0, 1, 2, 0]) }, metadata,
      /^train.labels: is float32, expected integers/],
    ['labels that are bool', { 'train.labels': tensor('bool', [4], Uint8Array.of(0, 1, 1, 0)) }, metadata,
      /^train.labels: is bool, expected integers/],
    ['labels of rank 2', { 'train.labels': int64([4, 1], [0, 1, 2, 0]) }, metadata,
      /has shape \[4, 1\], expected \[N\]/],
    ['NaN', { 'train.features': with_(features(4, 3), 7, NaN) }, metadata,
      /^train.features: row 2, column 1 is NaN, expected finite numbers; compute/],
    ['infinity', { 'test.features': with_(features(3, 3), 2, -Infinity, 1, Infinity) }, metadata,
      /^test.features: row 0, column 2 is -Infinity \(and 1 more\), expected finite/],
    ['a number beyond float32', { 'val.features': tensor('float64', [2, 3], Float64Array.of(1, 1, 1, 1, 1, 1e300)) },
      metadata, /^val.features: row 1, column 2 is Infinity/],
    ['NaN in a template', { 'text.features': with_(features(3, 2, 3), 9, NaN) }, metadata,
      /^text.features: class 1, template 1, column 0 is NaN/],
    ['a row of zeros', { 'train.features': with_(features(4, 3), 3, 0, 0, 0) }, metadata,
      /^train.features: row 1 is all zeros and cannot be normalised/],
    ['text of zeros', { 'text.features': float32([3, 3], new Float32Array(9)) }, metadata,
      /^text.features: row 0 is all zeros \(and 2 more\)/],
    ['another width of images', { 'test.features': features(3, 4) }, metadata,
      /^test.features: has 4 columns, expected 3 as text.features has; compute both with the same model/],
    ['another width of images, no text', { 'test.features': features(3, 4), 'text.features': undefined }, metadata,
      /^test.features: has 4 columns, expected 3 as train.features has/],
    ['text for other classes', { 'text.features': features(4, 3) }, metadata,
      /^text.features: has 4 classes but class_names has 3/],
    ['features of rank 3', { 'train.features': features(4, 1, 3) }, metadata,
      /^train.features: has shape \[4, 1, 3\], expected \[N, d\]/],
    ['text of rank 1', { 'text.features': features(3) }, metadata,
      /^text.features: has shape \[3\], expected \[K, d\] or \[K, templates, d\]/],
    ['features that are integers', { 'train.features': int64([4, 3], new Float32Array(12)) }, metadata,
      /^train.features: is int64, expected float16, bfloat16, float32 or float64/],
    ['no rows', { 'val.features': features(0, 3), 'val.labels': int64([0], []) }, metadata,
      /^val.features: is empty \(shape \[0, 3\]\)/],
    ['no columns', { 'val.features': features(2, 0) }, metadata,
      /^val.features: has 0 columns, expected 3 as text.features has/],
    ['train images of one class', { 'train.labels': int64([4], [2, 2, 2, 2]) }, metadata,
      /^train.labels: all 4 images are of class 2, expected at least 2 classes/],
    ['a name twice', {}, names(['cat', 'dog', 'cat']), /^class_names: "cat" names both class 0 and class 2/],
    ['an empty name', {}, names(['cat', ' ', 'dog']), /^class_names: entry 1 is " ", expected a name/],
    ['a name that is a number', {}, names(['cat', 3, 'dog']), /^class_names: entry 1 is 3, expected a name/],
    ['no names', {}, names([]), /^class_names: is "\[\]", expected a JSON list of names/],
    ['names that are no JSON', {}, { class_names: 'cat,dog', logit_scale: '1' },
      /^class_names: is "cat,dog", expected/],
    ...['0', '-1', 'NaN', 'Infinity', '', 'many'].map((text): Row => [
      `logit_scale ${JSON.stringify(text)}`, {}, scale(text),
      /^logit_scale: is ".*", expected a positive finite number; use 100 for CLIP$/,
    ]),
  ];
  it.each(rows)('%s', async (what, change, meta, message) => {
    const found = await refused(change, meta);
    expect(found.some((issue) => message.test(issue)), found.join('\n')).toBe(true);
    expect(found.length).toBe(what === 'no columns' ? 2 : 1);
  });

  it('one class only, by names, text or labels', async () => {
    const one = { 'train.labels': int64([4], [0, 0, 0, 0]), 'val.labels': int64([2], [0, 0]),
      'test.labels': int64([3], [0, 0, 0]), 'text.features': features(1, 3) };
    expect(await refused(one, names(['cat']))).toEqual([
      'class_names: has only one class, expected at least 2; add another class']);
    expect(await refused(one, {})).toEqual([
      'text.features: has only one class, expected at least 2; add another class']);
    const path = await write({ 'test.features': features(3, 3), 'test.labels': one['test.labels'] }, {});
    expect(await issues(path, readFeatureFile(path))).toEqual([
      'labels: are all 0, which makes only one class, expected at least 2; add another class']);
  });

  it('is reported all at once, under the name of the file', async () => {
    const path = await write({
      ...sound(), 'train.features': with_(features(4, 3), 0, NaN), 'test.features': with_(features(3, 3), 0, 0, 0, 0),
      'val.labels': int64([2], [0, 7]), 'text.features': features(2, 3),
    }, { ...metadata, logit_scale: '0' });
    const found = await issues(path, readFeatureFile(path));
    expect(found.map((issue) => issue.split(':')[0]))
      .toEqual(['text.features', 'train.features', 'val.labels', 'test.features', 'logit_scale']);
    await expect(readFeatureFile(path)).rejects.toThrow(`${path}: train.features: row 0`);
  });
});

describe('a .json file beside .npy files', () => {
  async function manifest(content: unknown, name = `m${files++}.json`): Promise<string> {
    const path = join(folder, name);
    await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
    return path;
  }
  const good = {
    train: { features: 'train.npy', labels: 'sub/labels.npy' }, test: { features: './test.npy', labels: [2, 1, 0] },
    text: { features: 'text.npy' }, class_names: ['cat', 'dog', 'owl'], logit_scale: 20, model: 'clip',
  };
  beforeAll(async () => {
    await mkdir(join(folder, 'sub'));
    const half = fromFloat64<'float16'>('float16', [4, 3], Float64Array.from(features(4, 3).data));
    await writeFile(join(folder, 'train.npy'), encodeNpy(half));
    await writeFile(join(folder, 'sub', 'labels.npy'), encodeNpy(int64([4], [0, 1, 2, 0])));
    await writeFile(join(folder, 'test.npy'), encodeNpy(features(3, 3)));
    await writeFile(join(folder, 'text.npy'), encodeNpy(features(3, 2, 3)));
  });

  it('is read like a .safetensors file', async () => {
    const file = await readFeatureFile(await manifest(good), { train: true, test: true, text: ['zero-shot'] });
    expect(file).toMatchObject({ model: 'clip', logitScale: 20, classNames: ['cat', 'dog', 'owl'], dim: 3, notes: [] });
    expect(file.train).toEqual({ features: features(4, 3), labels: Int32Array.of(0, 1, 2, 0) });
    expect(file.test).toEqual({ features: features(3, 3), labels: Int32Array.of(2, 1, 0) });
    expect(file.text).toEqual(features(3, 2, 3));
  });

  it('has a digest of all its files', async () => {
    const path = await manifest(good);
    const { digest } = await readFeatureFile(path);
    expect(digest).toMatch(/^[0-9a-f]{64}$/);
    expect((await readFeatureFile(path)).digest).toBe(digest);
    await writeFile(join(folder, 'sub', 'labels.npy'), encodeNpy(int64([4], [0, 1, 2, 1])));
    expect((await readFeatureFile(path)).digest).not.toBe(digest);
  });

  it('does not leave its folder', async () => {
    const outside = await mkdtemp(join(tmpdir(), 'scion-outside-'));
    await writeFile(join(outside, 'x.npy'), encodeNpy(features(3, 3)));
    await symlink(join(outside, 'x.npy'), join(folder, 'link.npy'));
    await symlink(outside, join(folder, 'door'));
    await symlink(join(folder, 'test.npy'), join(folder, 'within.npy'));
    for (const name of [join(outside, 'x.npy'), '../x.npy', 'sub/../../x.npy', '..\\x.npy', 'C:\\x.npy', 'C:x.npy']) {
      const path = await manifest({ text: { features: name } });
      expect((await issues(path, readFeatureFile(path)))[0])
        .toMatch(/^text.features: .*leads out of its folder, expected/);
    }
    for (const name of ['link.npy', 'door/x.npy']) {
      const path = await manifest({ text: { features: name } });
      expect((await issues(path, readFeatureFile(path)))[0]).toMatch(/is a link out of its folder, .*; move it there/);
    }
    expect((await readFeatureFile(await manifest({ text: { features: 'within.npy' } }))).dim).toBe(3);
    await rm(outside, { recursive: true });
  });

  const rows: [string, unknown, RegExp][] = [
    ['a key it does not know', { ...good, labels: [1] }, /: Unrecognized key: "labels"; mend the file/],
    ['labels that are fractions', { test: { features: 'test.npy', labels: [0, 1.5, 1] } },
      /^test.labels: expected the name of a .npy file or a list of integers/],
    ['a file that is missing', { text: { features: 'none.npy' } },
      /^text.features: .*none.npy: cannot read it: there is no/],
    ['a folder', { text: { features: 'x.npy/' } }, /none|no such file/],
    ['another kind of file', { text: { features: '/etc/passwd' } }, /expected the name of a .npy file/],
    ['logit_scale as text', { ...good, logit_scale: '100' }, /^logit_scale: is the text "100", expected a number/],
    ['logit_scale 0', { ...good, logit_scale: 0 }, /^logit_scale: is 0, expected a positive finite number/],
    ['names that are an object', { ...good, class_names: {} }, /^class_names: is an object, expected a JSON list/],
    ['a list', [], /expected object/],
    ['no JSON', '{"train": ', /the content is not valid JSON \(.*; mend the file in an editor/],
    ['a key twice', '{"text": {"features": "a.npy"}, "text": {"features": "b.npy"}}', /has the key "text" twice/],
  ];
  it.each(rows)('with %s is refused', async (_what, content, message) => {
    const path = await manifest(content);
    const found = await issues(path, readFeatureFile(path));
    expect(found).toEqual([expect.stringMatching(message)]);
  });

  it('serves to predict', async () => {
    const read = await readPredictionFeatures(await manifest({ features: 'test.npy' }));
    expect(read).toMatchObject({ name: 'features', dim: 3, features: features(3, 3) });
  });
});

describe('other files', () => {
  it('a lone .npy file gets an example of the .json file that is needed', async () => {
    const found = await issues('x.npy', readFeatureFile('x.npy'));
    expect(found[0]).toMatch(/write a .json file beside it and give that instead, such as/);
    const example = /\{\n[^]*\n\}/.exec(found[0]!)![0];
    expect(Object.keys(JSON.parse(example) as object)).toEqual(
      ['train', 'test', 'text', 'class_names', 'logit_scale', 'model']);
  });

  it('anything else is refused by its name', async () => {
    expect(await issues('x.npz', readFeatureFile('x.npz'))).toEqual([
      expect.stringMatching(/is no feature file, expected .safetensors or .json; convert it/)]);
  });
});

describe('readPredictionFeatures', () => {
  it('needs no labels', async () => {
    const path = await write({ 'test.features': features(3, 3) }, {});
    expect(await readPredictionFeatures(path)).toEqual({
      path, digest: createHash('sha256').update(await readFile(path)).digest('hex'),
      model: undefined, dim: 3, name: 'test.features', features: features(3, 3),
    });
    expect((await readPredictionFeatures(await write({ features: features(2, 5) }))).dim).toBe(5);
  });

  it('reads the labels that there are', async () => {
    expect((await readPredictionFeatures(await write(sound()))).labels).toEqual(Int32Array.of(2, 1, 0));
    const path = await write({ ...sound(), 'test.labels': int64([2], [0, 5]) });
    expect(await issues(path, readPredictionFeatures(path))).toEqual([
      expect.stringMatching(/^test.labels: has 2 labels for 3 rows/),
      expect.stringMatching(/^test.labels: row 1 is 5, expected 0 to 2/)]);
  });

  it('refuses what cannot be used', async () => {
    const none = await write({ 'train.features': features(2, 3) });
    expect(await issues(none, readPredictionFeatures(none))).toEqual([
      expect.stringMatching(/^test.features: missing, and so is features; .*it has: train.features/)]);
    const zero = await write({ features: float32([2, 2], [1, 1, 0, 0]) });
    expect(await issues(zero, readPredictionFeatures(zero))).toEqual([
      expect.stringMatching(/^features: row 1 is all zeros/)]);
  });
});

describe('writeFeatureFile', () => {
  const content: FeatureContent = {
    model: 'clip', logitScale: 33.25, classNames: ['cat', 'dög "2"', 'owl'],
    train: { features: features(4, 3), labels: Int32Array.of(0, 1, 2, 0) },
    test: { features: features(3, 3), labels: Int32Array.of(2, 1, 0) },
    text: features(3, 2, 3),
  };

  it.each(['float16', 'float32'] as const)('in %s is read back the same', async (dtype) => {
    const path = join(folder, `written-${dtype}.safetensors`);
    await writeFeatureFile(path, content, dtype);
    expect((await readSafetensorsHeader(path)).tensors.get('train.features')!.dtype).toBe(dtype);
    const { digest, ...back } = await readFeatureFile(path);
    expect(digest).toHaveLength(64);
    expect(back).toEqual({ ...content, path, dim: 3, notes: [] });
  });

  it('writes text without templates as [K, d] and leaves out an unknown model', async () => {
    const path = join(folder, 'plain.safetensors');
    await writeFeatureFile(path, { ...content, model: undefined, text: features(3, 1, 3) });
    expect((await readSafetensorsHeader(path)).tensors.get('text.features')!.shape).toEqual([3, 3]);
    expect(await readFeatureFile(path)).toMatchObject({ model: undefined, text: features(3, 1, 3) });
  });

  it('writes nothing that could not be read', async () => {
    const path = join(folder, 'never.safetensors');
    const large = float32([3, 1, 3], [1, 1, 1, 70000, 1, 1, 1, 1, 1]);
    const writing = writeFeatureFile(path, { ...content, text: large }, 'float16');
    expect(await issues(path, writing)).toEqual([
      expect.stringMatching(/^text.features: row 1, column 0 is Infinity, expected .* \(float16 ends at 65504\)/)]);
    await expect(readFile(path)).rejects.toThrow(/ENOENT/);
    await expect(writeFeatureFile('x.json', content)).rejects.toThrow(/end the name in .safetensors/);
  });
});

describe('several views of a picture', () => {
  const content = (pictures: readonly number[]): FeatureContent => ({
    model: undefined, logitScale: 1, classNames: ['a', 'b'],
    train: { features: features(4, 3), labels: Int32Array.of(0, 1, 0, 1), pictures: Int32Array.from(pictures) },
  });

  it('keeps which rows are of the same picture', async () => {
    const path = join(folder, 'views.safetensors');
    await writeFeatureFile(path, content([0, 1, 0, 1]));
    const { train, notes } = await readFeatureFile(path, { train: true });
    expect(Array.from(train!.pictures!)).toEqual([0, 1, 0, 1]);
    expect(notes).toEqual([]);
  });

  it.each([
    [[0, 0, 1, 1], 'train.pictures: row 1 is of picture 0, as row 0 of another class is'],
    [[0, 1, 0], 'train.pictures: has 3 labels for 4 rows'],
    [[0, -1, 0, 1], 'train.pictures: row 1 is -1'],
  ])('refuses %j', async (pictures, message) => {
    await expect(writeFeatureFile(join(folder, 'no.safetensors'), content(pictures))).rejects.toThrow(message);
  });
});
