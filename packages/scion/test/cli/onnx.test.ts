/** ONNX files as models: the whole way from pictures to predictions, and what is refused. */
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readOnnxModel } from 'scion-peft';
import { describe, expect, test } from 'vitest';
import { readFeatureFile } from '../../src/data/feature-file.js';
import { onnxModel } from '../../src/onnx/testing/model.js';
import { repository } from '../command.js';
import { json, readRun, refused, scratch, succeed } from '../support/cli.js';
import { model, pictures } from '../support/pictures.js';

const folder = await scratch();
const fixtures = join(repository, 'fixtures/onnx');
const clip = join(fixtures, 'clip');
const features = (from: string, out: string): Promise<string> =>
  succeed(['features', '--data', pictures, '--model', from, '--out', join(folder, out)]);

describe('features', () => {
  test('of the exported model are those of its checkpoint', async () => {
    await features(model, 'torch.safetensors');
    const expected = await readFeatureFile(join(folder, 'torch.safetensors'));
    for (const [name, tolerance] of [['', 1e-5], ['onnx/vision_model.onnx', 1e-5], ['onnx/vision_model_fp16.onnx', 1e-2]] as const) {
      await features(join(clip, name), 'onnx.safetensors');
      const actual = await readFeatureFile(join(folder, 'onnx.safetensors'));
      expect(actual.classNames).toEqual(expected.classNames);
      const pairs = [[actual.train!.features, expected.train!.features], [actual.test!.features, expected.test!.features],
        [actual.text!, expected.text!]] as const;
      for (const [a, e] of pairs) {
        expect(a.shape).toEqual(e.shape);
        const worst = a.data.reduce((m, v, i) => Math.max(m, Math.abs(v - e.data[i]!)), 0);
        expect(worst).toBeLessThanOrEqual(tolerance);
      }
      await rm(join(folder, 'onnx.safetensors'));
    }
  });
});

describe('a run on an ONNX model', () => {
  test('is trained, tested, used for prediction and compared', async () => {
    const out = join(folder, 'run');
    await succeed(['train', '--data', pictures, '--model', clip, '--method', 'taskres', '--shots', '1', '--epochs', '2', '--out', out]);
    const { info } = await readRun(out);
    expect(info).toMatchObject({ pictures: { model: { name: clip } } });
    const evaluation = await json<{ rows: number; accuracy: number }>(['eval', out]);
    expect(evaluation).toMatchObject({ rows: 3, accuracy: expect.any(Number) as number });
    const { predictions } = await json<{ predictions: unknown[] }>(['predict', out, join(pictures, 'test')]);
    expect(predictions.length).toBe(3);
    const table = await succeed(['compare', '--data', pictures, '--model', join(clip, 'onnx/vision_model_quantized.onnx'),
      '--methods', 'zero-shot,tip-adapter', '--shots', '1']);
    expect(table).toContain('Tip-Adapter');
  });

  test('knows when a tower has changed', async () => {
    const copy = join(folder, 'copy');
    await cp(clip, copy, { recursive: true });
    const out = join(folder, 'changed');
    await succeed(['train', '--data', pictures, '--model', copy, '--method', 'zero-shot', '--shots', '1', '--out', out]);
    const text = join(copy, 'onnx/text_model.onnx');
    const bytes = await readFile(text);
    bytes.write('PyTorch', bytes.indexOf('pytorch'));
    await writeFile(text, bytes);
    await refused(folder, 1, ['predict', out, join(pictures, 'test')], [/model/]);
  });
});

describe('what cannot be taken is refused with the file and the fix', () => {
  const train = (from: string): string[] => ['train', '--data', pictures, '--model', from, '--method', 'zero-shot', '--shots', '1',
    '--out', join(folder, 'none')];

  test('a lone file, an op that is not read, no graph at all', async () => {
    const lone = join(folder, 'lone.onnx');
    await cp(join(clip, 'onnx/vision_model.onnx'), lone);
    await cp(join(clip, 'preprocessor_config.json'), join(folder, 'preprocessor_config.json'));
    await refused(folder, 2, train(lone), [/lone\.onnx sees pictures alone, and zero-shot needs words too/]);
    const odd = join(folder, 'odd');
    await cp(clip, odd, { recursive: true });
    await writeFile(join(odd, 'onnx/vision_model.onnx'), onnxModel({
      opset: 18, inputs: { pixel_values: { dtype: 'float32', shape: ['b', 3, 16, 16] } },
      nodes: [{ op: 'GridSample', name: '/warp/GridSample', inputs: ['pixel_values'], outputs: ['image_embeds'] }],
    }));
    await refused(folder, 1, train(odd), [/vision_model\.onnx: node "\/warp\/GridSample" is a GridSample, an op that Scion does not read/]);
    await writeFile(join(odd, 'onnx/vision_model.onnx'), 'version https://git-lfs.github.com/spec/v1');
    await refused(folder, 1, train(odd), [/vision_model\.onnx: is no ONNX model/]);
  });
});

describe('--model-dtype chooses among the ONNX files of a folder', () => {
  const trained = (from: string, dtype: string, out: string): string[] => ['train', '--data', pictures, '--model', from,
    '--model-dtype', dtype, '--method', 'zero-shot', '--shots', '1', '--out', out];

  test.each([['fp16', '_fp16'], ['q8', '_quantized'], ['q4', '_q4']])('%s', async (dtype, suffix) => {
    const outs = ['named', 'chosen', 'full'].map((name) => join(folder, `${dtype}-${name}.safetensors`));
    const rows: number[][] = [];
    for (const [i, more] of [[join(clip, `onnx/vision_model${suffix}.onnx`)], [clip, '--model-dtype', dtype], [clip]].entries()) {
      await succeed(['features', '--data', pictures, '--model', ...more, '--out', outs[i]!]);
      const { train, text } = await readFeatureFile(outs[i]!);
      rows.push([...train!.features.data, ...text!.data]);
    }
    expect(rows[1]).toEqual(rows[0]);
    expect(rows[1]).not.toEqual(rows[2]);
  });

  test('is remembered by a run, for predictions, tests and exports, and compared', async () => {
    const out = join(folder, 'run-q8');
    await succeed(trained(clip, 'q8', out));
    const { info } = await readRun(out);
    expect(info).toMatchObject({ recipe: { model_dtype: 'q8' }, pictures: { model: { name: clip, dtype: 'q8' } } });
    const { predictions } = await json<{ predictions: unknown[] }>(['predict', out, join(pictures, 'test')]);
    expect(predictions.length).toBe(3);
    await json(['eval', out]);
    // the same files elsewhere
    const copy = join(folder, 'clip-copy');
    await cp(clip, copy, { recursive: true });
    await succeed(['predict', out, join(pictures, 'test'), '--model', copy]);
    await succeed(['predict', out, join(pictures, 'test'), '--model', join(copy, 'onnx/vision_model_quantized.onnx')]);
    await succeed(['export', out, join(folder, 'run-q8-exported'), '--to', 'onnx']);
    expect(await succeed(['compare', '--data', pictures, '--model', clip, '--model-dtype', 'q8',
      '--methods', 'zero-shot', '--shots', '1', '--seeds', '1'])).toContain('Zero-shot');
  });

  test('what a folder does not have is refused with what it has', async () => {
    const out = join(folder, 'never');
    await refused(folder, 2, trained(clip, 'uint8', out),
      [/--model-dtype: uint8: .* has no model of this precision \(onnx\/vision_model_uint8\.onnx .*; it has fp32, fp16, q8, q4$/m]);
    await refused(folder, 2, trained(clip, 'float16', out), [/--model-dtype/, /fp32.*fp16.*q8/]);
    await refused(folder, 2, trained(model, 'fp16', out), [/has no ONNX files.*leave it out: weights of a checkpoint are read/]);
    await refused(folder, 2, trained(join(clip, 'onnx/vision_model.onnx'), 'fp16', out), [/is a file, .*name its folder/]);
    const half = join(folder, 'half');
    await cp(clip, half, { recursive: true });
    await rm(join(half, 'onnx/text_model_fp16.onnx'));
    await refused(folder, 2, trained(half, 'fp16', out), [/fp16: .*; it has fp32, q8, q4$/m]);
  });
});

describe('a tokenizer that does not fit the model is named, with the number and the size', () => {
  interface Pipeline { model: { vocab: Record<string, number> }; post_processor: { sep: [string, number] } }
  test.each([['checkpoint', model], ['onnx', clip]])('%s', async (kind, from) => {
    const copy = join(folder, `tokenizer-${kind}`);
    await cp(from, copy, { recursive: true });
    const file = join(copy, 'tokenizer.json');
    const original = await readFile(file, 'utf8');
    const changed = async (change: (pipeline: Pipeline) => void, message: RegExp): Promise<void> => {
      const pipeline = JSON.parse(original) as Pipeline;
      change(pipeline);
      await writeFile(file, JSON.stringify(pipeline));
      await refused(folder, 1, ['features', '--no-cache', '--data', pictures, '--model', copy,
        '--out', join(folder, 'none.safetensors')], [message]);
    };
    await changed(({ model: { vocab } }) => {
      for (const [token, id] of Object.entries(vocab)) if (id > 1) vocab[token] = id + 700;
    }, /tokenizer\.json: makes token \d+ of ".*", and the model has 640 tokens, 0 to 639; get the tokenizer\.json/);
    await changed(({ post_processor }) => { post_processor.sep = ['x', 89]; },
      /tokenizer\.json: ends ".*" with token \d+, and the model reads a text at its end token 1; get the tokenizer\.json/);
  });
});

test('a program reads a graph and its linear layers', async () => {
  const { inputs, outputs, linears } = await readOnnxModel(join(fixtures, 'clip-dynamo/vision_model.onnx'));
  expect([[...inputs.keys()], [...outputs.keys()]]).toEqual([['pixel_values'], ['image_embeds', 'last_hidden_state']]);
  expect(linears.get('vision_model.encoder.layers.0.mlp.fc1')).toMatchObject({ inFeatures: 16, outFeatures: 32 });
});
