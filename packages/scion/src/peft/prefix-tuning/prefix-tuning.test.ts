import { describe, expect, test } from 'vitest';
import { expectClose, testRuntime } from '../../models/testing/reference.js';
import { Random } from '../../util/random.js';
import type { Tensor } from '../../util/tensor.js';
import {
  type Model, adapted, classificationLoss, compute, descend, distance, drawn, fixtures, load, rowGradients, wordsOf,
} from '../testing/adapted.js';
import { prefixTuning } from './index.js';

const runtime = testRuntime();
const picto = `${fixtures}../packages/scion/models/picto`;
const pictures = (model: Model): Tensor<'float32'> => {
  const { imageSize } = model as unknown as { imageSize: number };
  return drawn([6, 3, imageSize, imageSize], Random.seeded(8));
};

describe.each([
  ['clip/pictures/model', 24], ['siglip/sentencepiece', 16], ['vit/model', 0], ['dinov2/swiglu', 0],
])('%s', (folder, length) => {
  const modality = length > 0 ? 'both' : 'vision';
  const config = { modality, num_virtual_tokens: 3 };

  test('starts as the model that it adapts, and leaves it when the gates open', async () => {
    const [{ model, initial }, plain] = [await adapted(prefixTuning, folder, config), await load(folder)];
    const images = pictures(model);
    const ids = length > 0 ? (await wordsOf(folder, [], length)).tokenize(['a cat', 'of']) : undefined;
    const features = async (of: Model, values: Record<string, Tensor>): Promise<Tensor[]> => {
      const got = await compute(runtime, (graph) => ({
        images: of.imageFeatures(graph.input('x', 'float32', images.shape)),
        ...(ids ? { texts: of.textFeatures(graph.input('ids', 'int64', ids.shape)) } : {}),
      }), { x: images, ...(ids ? { ids } : {}) }, values);
      return Object.values(got);
    };
    const open = Object.fromEntries(Object.entries(initial).map(([name, value]) =>
      [name, name.endsWith('gate') ? { ...value, data: value.data.map(() => 1) } : value]));
    const [before, closed, opened] = [await features(plain.model, {}), await features(model, initial), await features(model, open)];
    expect(before.length).toBe(length > 0 ? 2 : 1);
    before.forEach((want, i) => {
      expectClose(closed[i], want, `features ${i}`, 1e-6);
      expect(distance(opened[i]!, want)).toBeGreaterThan(1e-3);
    });
  });

  test('trains a prefix and a gate for each head in every layer, and nothing else', async () => {
    const { model, initial } = await adapted(prefixTuning, folder, config);
    const names = Object.keys(initial);
    const blocks = [...model.modules()].filter(([path]) => /layers?\.\d+$/.test(path)).map(([path]) => path);
    expect(names.sort()).toEqual(blocks.flatMap((path) =>
      [`${path}.prefix.adaption_gate`, `${path}.prefix.adaption_prompt`]).sort());
    const ids = length > 0 ? (await wordsOf(folder, [], length)).tokenize(['a cat', 'of']) : undefined;
    const feeds = { images: pictures(model), ...(ids ? { ids } : {}) };
    const closed = await rowGradients(runtime, model, feeds, initial);
    expect(Object.keys(closed).sort()).toEqual(names);
    // a closed gate lets no gradient through to the prefix, but moves itself
    for (const [name, rows] of Object.entries(closed)) {
      if (name.endsWith('gate')) expect(Math.min(...rows), name).toBeGreaterThan(1e-7);
      else expect(Math.max(...rows), name).toBe(0);
    }
    const open = Object.fromEntries(Object.entries(initial).map(([name, value]) =>
      [name, name.endsWith('gate') ? drawn(value.shape, Random.seeded(3)) : value]));
    for (const [name, rows] of Object.entries(await rowGradients(runtime, model, feeds, open))) {
      for (const largest of rows) expect(largest, name).toBeGreaterThan(1e-7);
    }
  });
});

test('training opens the gates and lowers the cross entropy', async () => {
  const folder = 'clip/pictures/model';
  const { model, initial } = await adapted(prefixTuning, folder, { num_virtual_tokens: 4 });
  const ids = (await wordsOf(folder, [], 24)).tokenize(['red', 'square', 'photo']);
  const images = pictures(model);
  const { losses, values } = await descend(runtime, (graph) => classificationLoss(
    graph, model.imageFeatures(graph.input('images', 'float32', images.shape)),
    model.textFeatures(graph.input('ids', 'int64', ids.shape)),
  ), { images, ids }, initial, { steps: 100, lr: 1 });
  expect(losses.at(-1)!).toBeLessThan(losses[0]! - 0.05);
  for (const [name, value] of Object.entries(values)) expect(distance(value, initial[name]!), name).toBeGreaterThan(1e-4);
});

test('layers and towers can be chosen', async () => {
  const names = async (config: object): Promise<string[]> => {
    const { initial } = await adapted(prefixTuning, 'clip/gelu-half', config);
    return Object.keys(initial).filter((name) => name.endsWith('gate')).map((name) => name.replace('.prefix.adaption_gate', '')).sort();
  };
  const [vision, text] = ['vision_model.encoder.layers', 'text_model.encoder.layers'];
  expect(await names({ modality: 'text', layers_to_transform: 1 })).toEqual([`${text}.1`]);
  // only one tower has a third layer
  expect(await names({ layers_to_transform: [1, 2] })).toEqual([`${text}.1`, `${text}.2`, `${vision}.1`]);
});

test.each([
  [picto, {}, /^config\.modality: both: no tower of this model has transformer layers/],
  ['vit/model', { modality: 'text' }, /^config\.modality: text: this model has no text tower/],
  ['clip/openai-resnet', { modality: 'vision' }, /use modality text, or a method/],
  ['clip/gelu-half', { layers_to_transform: [0, 3, 7] }, /^config\.layers_to_transform: 3, 7: no transformer layer has this number; there are 0, 1, 2$/],
])('%s %j is refused', async (folder, config, message) => {
  await expect(adapted(prefixTuning, folder, config)).rejects.toThrow(message);
  await expect(adapted(prefixTuning, folder, config)).rejects.toMatchObject({ kind: 'usage' });
});
