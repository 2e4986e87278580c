/** The whole way from pictures to predictions with SigLIP, and with ViT and DINOv2, which read no words. */
import { join } from 'node:path';
import { offeredDevices } from 'scion-peft';
import { beforeAll, describe, expect, test } from 'vitest';
import { readFeatureFile } from '../../src/data/feature-file.js';
import { repository } from '../command.js';
import { json, pictograms, readRun, refused, scratch, succeed } from '../support/cli.js';
import { makeData } from '../support/pictures.js';

const fixture = (name: string): string => join(repository, 'fixtures', name);
const folder = await scratch();
const data = join(folder, 'data');
const offered = await offeredDevices();
beforeAll(() => makeData(data, { train: 6, test: 3 }));

describe('SigLIP', () => {
  test('trains on words and pictures, and predicts', async () => {
    const run = join(folder, 'siglip');
    const given = ['--data', data, '--model', fixture('siglip/sentencepiece')];
    await succeed(['train', ...given, '--method', 'graph-adapter', '--epochs', '3', '--shots', '2', '--out', run]);
    const { info } = await readRun(run);
    expect(info.pictures).toMatchObject({
      preprocessing: { resize: { height: 12, width: 12 }, crop: null, resample: 'bicubic' },
    });
    expect(info.logit_scale).toBeCloseTo(Math.exp(1.3), 4);
    const { predictions } = await json<{ predictions: { label: string }[] }>(['predict', run, join(data, 'test')]);
    expect(predictions).toHaveLength(9);
    const { accuracy } = await json<{ accuracy: number }>(['eval', run]);
    expect(accuracy).toBeGreaterThanOrEqual(0);
  });
});

describe.each(['vit/model', 'vit/classifier', 'dinov2/interpolated', 'dinov2/swiglu'])('%s', (name) => {
  const model = fixture(name);

  test('trains, evaluates and predicts without words', async () => {
    const run = join(folder, name.replace('/', '-'));
    const result = await json<{ accuracy: number }>([
      'train', '--data', data, '--model', model, '--method', 'linear-probe', '--shots', '4', '--views', '2', '--out', run,
    ]);
    expect(result.accuracy).toBeGreaterThan(1 / 3); // colours: a probe of random features tells them better than chance
    const { info } = await readRun(run);
    expect(info.pictures).toMatchObject({ prompts: [], model: { name: model } });
    expect((await json<{ accuracy: number }>(['eval', run])).accuracy).toBeCloseTo(result.accuracy, 6);
    const { predictions } = await json<{ predictions: { label: string }[] }>(['predict', run, join(data, 'test')]);
    expect(predictions).toHaveLength(9);
  });

  test('gives a feature file without text features', async () => {
    const out = join(folder, `${name.replace('/', '-')}.safetensors`);
    const said = await json<object>(['features', '--data', data, '--model', model, '--out', out]);
    expect(said).toMatchObject({ classes: 3, dim: 24, rows: { train: 18, test: 9 } });
    expect(said).not.toHaveProperty('templates');
    expect((await readFeatureFile(out, { train: true, test: true })).text).toBeUndefined();
    await refused(folder, 1, ['train', '--features', out, '--method', 'taskres', '--out', join(folder, 'x')],
      ['text.features: missing but needed by taskres']);
  });
});

describe('methods and words that a model of pictures alone cannot serve', () => {
  const given = ['--data', data, '--model', fixture('vit/model')];

  test('are refused by name, with the way out', async () => {
    await refused(folder, 2, ['train', ...given, '--method', 'graph-adapter', '--out', join(folder, 'x')], [
      /--model: .*vit\/model sees pictures alone, and graph-adapter needs words too/,
      /take a CLIP or SigLIP model, or a method without words: linear-probe, simpleshot/,
    ]);
    await refused(folder, 2, ['compare', ...given, '--methods', 'linear-probe,zero-shot,tip-adapter', '--shots', '1'],
      [/sees pictures alone, and zero-shot, tip-adapter needs words too/]);
    await refused(folder, 2, [
      'train', ...given, '--method', 'linear-probe', '--template', 'a {}', '--out', join(folder, 'x'),
    ], [/--template: is for models that read words/]);
  });

  test('those without words are compared', async () => {
    const { cells } = await json<{ cells: { method: string; accuracy: number }[] }>([
      'compare', ...given, '--methods', 'linear-probe,simpleshot', '--shots', '2,4', '--seeds', '1',
    ]);
    expect(cells.map(({ method }) => method)).toEqual(['linear-probe', 'simpleshot', 'linear-probe', 'simpleshot']);
    for (const { accuracy } of cells) expect(accuracy).toBeGreaterThan(1 / 3);
  });
});

describe('--device', () => {
  const train = ['train', '--features', pictograms, '--method', 'taskres', '--epochs', '1', '--shots', '1'];

  test('is the processor unless said otherwise, and stands in the run', async () => {
    const run = join(folder, 'processor');
    await succeed([...train, '--out', run]);
    expect((await readRun(run)).info).toMatchObject({ environment: { device: 'cpu' }, recipe: { device: 'cpu' } });
  });

  test('that is unknown is refused with the known ones', async () => {
    const own = ['--device', 'tpu'];
    await refused(folder, 2, [...train, ...own, '--out', join(folder, 'x')], [/--device: "tpu": expected/, 'webgpu']);
    for (const args of [
      ['eval', join(folder, 'processor')], ['predict', join(folder, 'processor'), data],
      ['features', '--data', data, '--out', join(folder, 'x.safetensors')],
    ]) await refused(folder, 2, [...args, ...own], ['--device: tpu: expected one of cpu, webgpu, cuda']);
  });

  test.skipIf(offered.includes('cuda'))('that is missing is refused with what there is', async () => {
    const own = ['--device', 'cuda'];
    const says = [/--device: cuda is not available: .*; this machine offers cpu/];
    await refused(folder, 2, [...train, ...own, '--out', join(folder, 'x')], says);
    await refused(folder, 2, ['eval', join(folder, 'processor'), ...own], says);
    await refused(folder, 2, ['compare', '--features', pictograms, '--methods', 'zero-shot', '--shots', '1', ...own], says);
    await refused(folder, 2, ['features', '--data', data, '--out', join(folder, 'x.safetensors'), ...own], says);
  });
});
