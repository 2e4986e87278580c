import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readSafetensors } from '../../formats/safetensors-node.js';
import { readCheckpoint } from '../../hub/checkpoint.js';
import { Graph } from '../../ir/graph.js';
import { imported, onnxModel, run } from '../../onnx/testing/model.js';
import { openBackbone } from '../../pipeline/backbone.js';
import { nodeRuntime } from '../../runtime/node.js';
import { type Tensor, float32, int64 } from '../../util/tensor.js';
import { type DualBackbone, loadBackbone } from '../index.js';
import { OnnxImage } from './model.js';

const fixtures = fileURLToPath(new URL('../../../../../fixtures/onnx/', import.meta.url));
const runtime = nodeRuntime();
afterAll(() => runtime.close());
const { tensors } = await readSafetensors(`${fixtures}clip.safetensors`);

let folder: string;
beforeEach(async () => { folder = await mkdtemp(join(tmpdir(), 'scion-model-onnx-')); });
afterEach(() => rm(folder, { recursive: true }));

const rows = (t: Tensor): number[][] => {
  const width = t.shape.at(-1)!;
  return Array.from({ length: t.shape[0]! }, (_, i) =>
    [...(t.data as Float32Array).subarray(i * width, (i + 1) * width)]);
};
const unit = (row: number[]): number[] => row.map((v) => v / Math.hypot(...row));

describe('the towers of every fixture give the features of PyTorch', () => {
  test.each([
    ['clip', 100, 1e-5], ['clip/onnx/vision_model_fp16.onnx', 100, 2e-3], ['clip/onnx/vision_model_quantized.onnx', 100, 0.2],
    ['clip-dynamo', 100, 1e-5], ['clip-joint', Math.exp(2.6592), 1e-5],
  ])('%s', async (name, scale, tolerance) => {
    await cp(`${fixtures}clip`, join(folder, 'clip'), { recursive: true });
    for (const other of ['clip-dynamo', 'clip-joint']) {
      await cp(fixtures + other, join(folder, other), { recursive: true });
      await cp(`${fixtures}clip/config.json`, join(folder, other, 'config.json'));
    }
    const backbone = loadBackbone(await readCheckpoint(join(folder, name))) as DualBackbone;
    expect([backbone.imageSize, backbone.textLength]).toEqual([16, 24]);
    const graph = new Graph();
    const [pixels, ids] = [tensors.get('pixel_values')!, tensors.get('input_ids')!];
    graph.output('image', backbone.imageFeatures(graph.input('pixels', 'float32', pixels.shape)));
    graph.output('text', backbone.textFeatures(graph.input('ids', 'int64', ids.shape)));
    graph.output('scale', backbone.scale(graph));
    const results = await run(runtime, graph, { pixels, ids });
    expect((results['scale']!.data as Float32Array)[0]).toBeCloseTo(scale, 3);
    for (const [what, known] of [['image', 'image_embeds'], ['text', 'text_embeds']] as const) {
      // a file with both towers gives unit rows
      const normal = name === 'clip-joint' ? unit : (row: number[]) => row;
      const [actual, expected] = [rows(results[what]!), rows(tensors.get(known)!).map(normal)];
      expect(actual.length).toBe(expected.length);
      actual.forEach((row, i) => row.forEach((v, k) =>
        expect(Math.abs(v - expected[i]![k]!), `${what}[${i}][${k}]`).toBeLessThanOrEqual(tolerance)));
    }
  });
});

test('without pooled rows the first token stands for the picture', async () => {
  const model = imported(onnxModel({
    opset: 18, inputs: { pixel_values: { dtype: 'float32', shape: ['b', 3, 2, 5] } }, outputs: ['last_hidden_state'],
    nodes: [{ op: 'Flatten', inputs: ['pixel_values'], outputs: ['r'], attributes: { axis: 1 } },
      { op: 'Reshape', inputs: ['r', 'shape'], outputs: ['last_hidden_state'] }],
    constants: { shape: int64([3], [0, 6, 5]) },
  }));
  expect(() => new OnnxImage('m', {}, { image: model })).toThrow(/takes "pixel_values" as float32\[b, 3, 2, 5\]/); // no square
  const square = imported(onnxModel({
    opset: 18, inputs: { pixel_values: { dtype: 'float32', shape: ['b', 3, 2, 2] } }, outputs: ['last_hidden_state'],
    nodes: [{ op: 'Reshape', inputs: ['pixel_values', 'shape'], outputs: ['last_hidden_state'] }],
    constants: { shape: int64([3], [0, 4, 3]) },
  }));
  const graph = new Graph();
  graph.output('y', new OnnxImage('m', {}, { image: square }).imageFeatures(graph.input('x', 'float32', [2, 3, 2, 2])));
  const x = float32([2, 3, 2, 2], Float32Array.from({ length: 24 }, (_, i) => i));
  expect(rows((await run(runtime, graph, { x }))['y']!)).toEqual([[0, 1, 2], [12, 13, 14]]);
});

describe('what is missing is named with the fix', () => {
  const open = async (name: string): Promise<unknown> => openBackbone(join(folder, name));
  beforeEach(() => cp(`${fixtures}clip`, folder, { recursive: true }));

  test('no text tower: a model that sees pictures alone', async () => {
    await rm(join(folder, 'onnx/text_model.onnx'));
    expect(await open('onnx/vision_model.onnx')).not.toHaveProperty('text');
  });

  test('no preprocessor, no tokenizer', async () => {
    await rm(join(folder, 'tokenizer.json'));
    await expect(open('')).rejects.toThrow(/tokenizer\.json: there is no such file, so texts cannot be encoded/);
    await rm(join(folder, 'preprocessor_config.json'));
    await expect(open('')).rejects.toThrow(
      /preprocessor_config\.json: there is no such file, and an ONNX graph does not say how pictures are prepared/);
  });

  test('no config.json, where the graph does not say the length of a text', async () => {
    await rm(join(folder, 'config.json'));
    await expect(open('')).rejects.toThrow(/says nowhere what its max_position_embeddings is; put the model's config\.json/);
  });

  test('pictures of another size', async () => {
    const file = join(folder, 'preprocessor_config.json');
    const settings = JSON.parse(await readFile(file, 'utf8')) as object;
    await writeFile(file, JSON.stringify({ ...settings, crop_size: { height: 8, width: 8 } }));
    await expect(open('')).rejects.toThrow(/makes pictures of 8 × 8, the model takes 16 × 16/);
  });

  const vision = (shape: (number | string)[], outputs: string[], dtype: 'float32' | 'int64' = 'float32'): Uint8Array =>
    onnxModel({ opset: 18, inputs: { image: { dtype, shape } }, nodes: outputs.map((name) => (
      { op: 'Flatten', inputs: ['image'], outputs: [name] })), outputs });
  test.each([
    [vision(['b', 3, 16], ['y']), /takes no pictures \[B, 3, H, W\] as "pixel_values"; its inputs are "image" float32\[b, 3, 16\]/],
    [vision(['b', 3, 16, 16], ['y', 'z']), /gives no features of images as image_embeds or pooler_output; its outputs are "y"/],
  ])('a graph that is no image tower %#', async (bytes, message) => {
    await writeFile(join(folder, 'onnx/vision_model.onnx'), bytes);
    await expect(open('')).rejects.toThrow(message);
  });

  test('a text tower whose features depend on a mask', async () => {
    await writeFile(join(folder, 'config.json'), JSON.stringify({ model_type: 'chinese_clip' }));
    await writeFile(join(folder, 'onnx/text_model.onnx'), onnxModel({ opset: 18, outputs: ['pooler_output'],
      inputs: { input_ids: { dtype: 'int64', shape: ['b', 's'] }, attention_mask: { dtype: 'int64', shape: ['b', 's'] } },
      nodes: [{ op: 'Mul', inputs: ['input_ids', 'attention_mask'], outputs: ['pooler_output'] }] }));
    await expect(open('')).rejects.toThrow(/takes "attention_mask", and is no clip or siglip by the model_type/);
  });
});
