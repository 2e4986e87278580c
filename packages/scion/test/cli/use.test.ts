/** `scion eval` and `scion predict`: what they report, what they refuse, and hostile names. */
import { copyFile, cp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { readFeatureFile } from '../../src/data/feature-file.js';
import { writeSafetensors } from '../../src/formats/safetensors-node.js';
import { json, refused, scion, scratch, succeed } from '../support/cli.js';
import { tinyContent, tinyFile } from '../support/features.js';

interface Evaluated {
  accuracy: number; loss: number; ece: number; rows: number; confusion: number[][]; class_names: string[];
  per_class: { class: string; rows: number; accuracy?: number }[];
}
interface Predicted { predictions: { label: string; classes: { label: string; index: number;
  probability: number }[] }[] }

const folder = await scratch();
const run = join(folder, 'run');
let features: string;
const train = (file: string, out: string): Promise<string> =>
  succeed(['train', '--features', file, '--method', 'taskres', '--shots', '4',
  '--epochs', '5', '--threads', '1', '--out', out]);
beforeAll(async () => {
  features = await tinyFile(folder, 'tiny', { noise: 1.5, test: 40, model: 'a-backbone' });
  await train(features, run);
});

describe('eval', () => {
  test('agrees with what the predictions give by hand', async () => {
    const result = await json<Evaluated>(['eval', run]);
    const { predictions } = await json<Predicted>(['predict', run, '--features', features]);
    const { labels } = (await readFeatureFile(features, { test: true })).test!;
    expect(predictions).toHaveLength(120);
    const confusion = [[0, 0, 0], [0, 0, 0], [0, 0, 0]];
    const bins = Array.from({ length: 15 }, () => ({ hits: 0, confidence: 0 }));
    let loss = 0;
    predictions.forEach(({ label, classes }, row) => {
      const [best] = classes;
      expect(label).toBe(best!.label);
      expect(classes.reduce((s, c) => s + c.probability, 0)).toBeCloseTo(1, 12);
      confusion[labels[row]!]![best!.index]!++;
      const bin = bins[Math.min(14, Math.floor(best!.probability * 15))]!;
      bin.hits += Number(best!.index === labels[row]);
      bin.confidence += best!.probability;
      loss -= Math.log(classes.find((c) => c.index === labels[row])!.probability) / 120;
    });
    const correct = confusion.map((line, k) => line[k]!);
    expect(correct.reduce((a, b) => a + b)).toBeLessThan(120); // there is something to get wrong
    expect(result.confusion).toEqual(confusion);
    expect(result.accuracy).toBeCloseTo(correct.reduce((a, b) => a + b) / 120, 12);
    expect(result.per_class).toEqual(['kind 0', 'kind 1', 'kind 2'].map((name, k) =>
      ({ class: name, rows: 40, accuracy: correct[k]! / 40 })));
    expect(result.loss).toBeCloseTo(loss, 9);
    expect(result.ece).toBeCloseTo(bins.reduce((s, b) => s + Math.abs(b.hits - b.confidence), 0) / 120, 9);
    const text = await succeed(['eval', run]);
    expect(text).toContain(`accuracy ${(100 * result.accuracy).toFixed(2)} % of 120 rows`);
  });

  test('on another file with the same classes', async () => {
    const other = await tinyFile(folder, 'other', { noise: 0.1, test: 3 });
    const found = await json<Evaluated & { features: string }>(['eval', run, '--features', other]);
    expect(found).toMatchObject({ rows: 9, features: other });
    expect(found.accuracy).toBeGreaterThan(0.8);
  });

  test('other classes, another width, no test rows: refused', async () => {
    const named = await tinyFile(folder, 'named', { classNames: ['x', 'y', 'z'] });
    await refused(folder, 1, ['eval', run, '--features', named],
      [named, 'its classes (3: x, y, z', 'not those of the run (3: kind 0', 'same class_names']);
    const wide = await tinyFile(folder, 'wide', { dim: 5 });
    await refused(folder, 1, ['eval', run, '--features', wide],
      [`${wide}: test.features`, 'are [18, 5], the run takes [N, 8]; use the backbone it was trained on (a-backbone)']);
    await refused(folder, 1, ['predict', run, '--features', wide], [`${wide}: test.features`, '[18, 5]']);
    const content = tinyContent();
    const text = join(folder, 'text.safetensors');
    await writeSafetensors(text, { 'text.features': content.text! }, {});
    await refused(folder, 1, ['eval', run, '--features', text], ['test.features', 'missing but needed here']);
    await refused(folder, 1, ['predict', run, '--features', text], ['test.features', 'missing, and so is features']);
  });

  test('a reader that stops early is no failure', async () => {
    const { code, stdout, stderr } = await scion(['eval', run], { shell: '{ "$@"; echo "code $?" >&2; } | head -n 1' });
    expect({ code, stderr }).toEqual({ code: 0, stderr: 'code 0\n' });
    expect(stdout).toMatch(/^accuracy .*\n$/);
    // a reader that is gone before anything is written
    const gone = await scion(['predict', run, '--features', features, '--json'],
      { shell: '{ "$@"; echo "code $?" >&2; } | true' });
    expect(gone.stderr).toBe('code 0\n');
  });

  test.each([
    { file: 'adapter.safetensors', says: 'text_feature_residuals' },
      { file: 'support.safetensors', says: 'support.features' },
  ])('a damaged run: $file without its tensors', async ({ file, says }) => {
    const damaged = join(folder, `damaged ${file}`);
    await cp(run, damaged, { recursive: true });
    await writeSafetensors(join(damaged, file), {}, {});
    await refused(folder, 1, ['eval', damaged], [file, `has no tensor ${says}`,
      'the run folder is damaged, train again']);
    await copyFile(features, join(damaged, file));
    await refused(folder, 1, ['predict', damaged, '--features', features], [file, `has no tensor ${says}`]);
  });
});

describe('predict', () => {
  test('from a file that has nothing but features, in any float type', async () => {
    const { test: { features: x } = { features: undefined } } = tinyContent({ noise: 1.5, test: 40 });
    const bare = join(folder, 'bare.safetensors');
    await writeSafetensors(bare, { features: x! });
    const [a, b] = [await json<Predicted>(['predict', run, '--features', bare]),
      await json<Predicted>(['predict', run, '--features', features])];
    expect(a.predictions).toEqual(b.predictions);
  });

  test('as many classes as asked for, best first', async () => {
    const { predictions } = await json<Predicted>(['predict', run, '--features', features, '--top', '2']);
    for (const { classes } of predictions) {
      expect(classes).toHaveLength(2);
      expect(classes[0]!.probability).toBeGreaterThanOrEqual(classes[1]!.probability);
    }
    const lines = (await succeed(['predict', run, '--features', features, '--top', '1'])).trimEnd().split('\n');
    expect(lines).toHaveLength(120);
    expect(lines[3]).toMatch(/^3\tkind \d \d+\.\d\d %$/);
    await refused(folder, 2, ['predict', run, '--features', features, '--top', 'few'],
      ['--top: few: expected a whole number from 1 on']);
  });
});

test('hostile class names reach neither the terminal nor the report as they are', async () => {
  const names = ['\u001b[2Jcleared', 'a\nb\rc\u0007', '<script>alert(1)</script>\u009b31m\u202egnp'];
  const hostile = await tinyFile(folder, 'hostile', { classNames: names, noise: 2, train: [9, 9, 3] });
  const out = join(folder, 'hostile');
  const clean = (text: string): void => expect(text).not.toMatch(/(?!\n)\p{Cc}|\p{Bidi_Control}/u);
  const trained = await scion(['train', '--features', hostile, '--method', 'zero-shot', '--shots', '8', '--threads',
    '1', '--out', out]);
  expect(trained.stderr).toContain('fewer than 8 training rows in 1 of 3 classes');
  clean(trained.stderr + trained.stdout);
  const text = await succeed(['eval', out]);
  clean(text);
  expect(text).toContain('\\u001b[2Jcleared');
  expect(text).toContain('a\\u000ab\\u000dc\\u0007');
  clean((await succeed(['predict', out, '--features', hostile])).replaceAll('\t', ''));
  const printed = await succeed(['eval', out, '--json']);
  clean(printed);
  expect((JSON.parse(printed) as Evaluated).class_names).toEqual(names);
  clean((await refused(folder, 1, ['eval', out, '--features', features], ['its classes'])));
  clean((await refused(folder, 1, ['eval', run, '--features', hostile], ['its classes'])));
  const page = join(folder, 'page.html');
  await succeed(['compare', '--features', hostile, '--methods', 'zero-shot', '--shots', '1', '--seeds', '1', '--html',
    page]);
  expect(await readFile(page, 'utf8')).not.toContain('<script>alert');
});
