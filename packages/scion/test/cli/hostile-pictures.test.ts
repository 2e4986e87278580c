/** Pictures, data sets and checkpoints that are broken, or meant to do harm. */
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { repository } from '../command.js';
import { json, refused, scratch, succeed } from '../support/cli.js';
import { makeData, model, picture, pictures } from '../support/pictures.js';

const folder = await scratch();
const clip = join(repository, 'fixtures/clip');
const train = (data: string, from = model, out = join(folder, 'run'), ...more: string[]): string[] => [
  'train',
  '--data',
  data,
  '--model',
  from,
  '--method',
  'zero-shot',
  '--shots',
  '1',
  '--out',
  out,
  ...more,
];
/** Sound data with one more file in train/red. */
async function dataWith(name: string, content: Uint8Array | string): Promise<{ data: string; file: string }> {
  const data = await makeData(join(folder, `with ${name}`), { train: 3, test: 1 });
  const file = join(data, 'train/red', name);
  await writeFile(file, content);
  return { data, file };
}

describe('data', () => {
  test('an empty folder, and a class without pictures', async () => {
    await mkdir(join(folder, 'empty'));
    await refused(folder, 1, train(join(folder, 'empty')), [/empty: has no pictures, expected a folder per class/]);
    const data = await makeData(join(folder, 'hollow'), { train: 2 });
    await mkdir(join(data, 'train/violet'));
    await refused(folder, 1, train(data), [/train\/violet: this class has no pictures/]);
    await refused(folder, 1, train(join(folder, 'nowhere')), [
      /nowhere: cannot read it: there is no such file or folder/,
    ]);
  });

  test('names with newlines, tabs and letters of any script', async () => {
    const names = ['zwei\nZeilen', '猫', 'قطة', 'tab\there'];
    const data = await makeData(join(folder, 'names'), { train: 2, test: 1 }, names);
    const odd = join(data, 'test/猫', 'a\nb\u001b[2J.png');
    await writeFile(odd, await picture(1, 77));
    const run = join(folder, 'names run');
    await succeed(train(data, model, run));
    const { predictions } = await json<{ predictions: { path: string; label: string }[] }>([
      'predict',
      run,
      join(data, 'test'),
    ]);
    expect(predictions.map((p) => p.path)).toContain(odd);
    for (const { label } of predictions) expect(names).toContain(label);
    const text = await succeed(['predict', run, odd]);
    expect(text.split('\n')).toHaveLength(2);
    expect(text).toContain('a\\u000ab\\u001b[2J.png');
    expect(text.replaceAll('\t', '')).not.toMatch(/(?!\n)\p{Cc}/u);
  });
});

describe('pictures', () => {
  const svg = (inside: string): string =>
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9" height="9">' +
    `${inside}</svg>`;
  const files: [string, () => Promise<Uint8Array> | string, RegExp][] = [
    [
      'cut.jpg',
      async () =>
        (
          await sharp(await picture(0, 5, 64))
            .jpeg()
            .toBuffer()
        ).subarray(0, 600),
      /cut\.jpg: cannot be decoded as JPEG/,
    ],
    ['words.png', () => 'only words', /words\.png: is a text file, expected a JPEG/],
    [
      'large.png',
      () =>
        sharp({ create: { width: 20_000, height: 20_000, channels: 3, background: 'white' }, limitInputPixels: false })
          .png({ compressionLevel: 9 })
          .toBuffer(),
      /large\.png: the PNG has 20000 × 20000 = 400000000 pixels, expected at most/,
    ],
    [
      'bomb.svg',
      () => '<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + svg('<text>&b;</text>'),
      /bomb\.svg: the SVG has a document type that defines entities/,
    ],
    [
      'outside.svg',
      () => svg('<image xlink:href="file:///etc/passwd" width="9" height="9"/>'),
      /outside\.svg: the SVG has the external reference/,
    ],
    ['script.svg', () => svg('<script>alert(1)</script>'), /script\.svg: the SVG has the element <script>/],
  ];

  test.each(files)('%s is refused by name, or left out and counted', async (name, make, message) => {
    const { data, file } = await dataWith(name, await make());
    await refused(folder, 1, train(data), [message]);
    const run = join(folder, `run without ${name}`);
    expect(await json(train(data, model, run, '--skip-bad'))).toMatchObject({ test: { rows: 3 } });
    const info = JSON.parse(await readFile(join(run, 'run.json'), 'utf8')) as {
      pictures: { left_out: string[] };
      warnings: string[];
    };
    expect(info.pictures.left_out).toEqual([file]);
    expect(info.warnings.join()).toMatch(/1 pictures cannot be read and are left out/);
    await refused(folder, 1, ['predict', run, file], [message]);
  });
});

describe('checkpoints', () => {
  const changed = async (name: string, from: string, change: (at: string) => Promise<unknown>): Promise<string> => {
    const at = join(folder, name);
    await cp(from, at, { recursive: true });
    // the other fixtures hold no tokenizer
    for (const file of ['tokenizer.json', 'tokenizer_config.json']) await cp(join(model, file), join(at, file));
    await change(at);
    return at;
  };

  test('an architecture that is not supported', async () => {
    const at = await changed('flava', model, (path) =>
      writeFile(join(path, 'config.json'), '{"model_type": "flava"}'),
    );
    await refused(folder, 1, train(pictures, at), [
      /config\.json: model_type "flava" is not supported; supported are clip/,
    ]);
  });

  test('a shard that is missing', async () => {
    const at = await changed('shards', join(clip, 'gelu-half'), (path) =>
      rm(join(path, 'model-00002-of-00002.safetensors')),
    );
    await refused(folder, 1, train(pictures, at), [
      /names "model-00002-of-00002\.safetensors", which is not beside it; get this file too/,
    ]);
  });

  test('no tokenizer', async () => {
    const at = await changed('untold', model, (path) => rm(join(path, 'tokenizer.json')));
    await refused(folder, 1, train(pictures, at), [
      /tokenizer\.json: there is no such file, so texts cannot be encoded/,
    ]);
  });

  test.each(['evil-pickle.pt', 'evil-zip.pt', 'evil-stream.pt'])(
    '%s calls a program: it is refused by name and nothing runs',
    async (name) => {
      const at = join(folder, 'evil');
      await mkdir(at, { recursive: true });
      await cp(join(repository, 'fixtures/pickle', name), join(at, name));
      await refused(folder, 1, train(pictures, join(at, name)), [
        new RegExp(name.replace('.', '\\.')),
        /system|refuse|not allowed/,
      ]);
      expect(existsSync('scion-pickle-was-here')).toBe(false);
    },
  );

  test('preprocessing for another size', async () => {
    const at = await changed('sizes', model, (path) =>
      writeFile(join(path, 'preprocessor_config.json'), '{"size": 32, "crop_size": 32}'),
    );
    await refused(folder, 1, train(pictures, at), [
      /preprocessor_config\.json: makes pictures of 32 × 32, the model takes 16 × 16/,
    ]);
  });
});
