/** `scion export`: what it writes and what it refuses. Whether the models are right is tested beside the source. */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { json, refused, scratch, succeed } from '../support/cli.js';
import { tinyFile } from '../support/features.js';
import { model, pictures } from '../support/pictures.js';

const folder = await scratch();
const run = join(folder, 'run');
beforeAll(() => succeed(['train', '--data', pictures, '--model', model, '--method', 'taskres', '--shots', '1',
  '--epochs', '2', '--no-cache', '--out', run]), 60_000);

describe('export', () => {
  test('writes a folder for transformers.js and says what is in it', async () => {
    const out = join(folder, 'web');
    const { files } = await json<{ files: string[] }>(['export', run, '--to', 'transformers.js', out, '--dtype', 'q8,fp32']);
    expect(files).toEqual(['onnx/model_quantized.onnx', 'onnx/model.onnx', 'config.json', 'preprocessor_config.json']);
    expect((await readdir(out)).sort()).toEqual(['config.json', 'onnx', 'preprocessor_config.json']);
    const config = JSON.parse(await readFile(join(out, 'config.json'), 'utf8')) as Record<string, unknown>;
    expect(config).toMatchObject({
      id2label: { 0: 'Blue stripes', 1: 'grün', 2: 'red_square' }, 'transformers.js_config': { dtype: 'q8' },
    });
  });

  test.each([
    [['--to', 'tflite'], 2, /--to: unknown target "tflite"; known: onnx, transformers\.js/],
    [[], 2, /--to: missing: expected onnx, transformers\.js, peft/],
    [['--to', 'onnx', '--dtype', 'fp32,int4'], 2, /--dtype: unknown format "int4"; did you mean int8/],
    [['--to', 'onnx', '--task', 'captioning'], 2, /--task: unknown task "captioning"/],
    [['--to', 'onnx', '--task', 'zero-shot-image-classification'], 1, /run: taskres is tied to the classes/],
    [['--to', 'onnx', '--model', 'picto'], 1, /is another model than the run was trained on/],
  ] as const)('refuses %j', async (flags, code, message) => {
    await refused(folder, code, ['export', run, join(folder, 'none'), ...flags], [message]);
  });

  test('a run of a feature file needs its backbone, and one of the right width', async () => {
    const features = join(folder, 'features');
    await succeed(['train', '--features', await tinyFile(folder, 'tiny'), '--method', 'taskres', '--shots', '2',
      '--epochs', '1', '--out', features]);
    const args = ['export', features, join(folder, 'none'), '--to', 'onnx'];
    await refused(folder, 2, args, [/--model: missing: the run was trained on a feature file/]);
    await refused(folder, 1, [...args, '--model', model], [/takes features of \d+ numbers, the model makes 12/]);
  });
});
