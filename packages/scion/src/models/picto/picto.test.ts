import { afterAll, describe, expect, test } from 'vitest';
import * as f from '../../nn/functional.js';
import { openBackbone } from '../../pipeline/backbone.js';
import { nodeRuntime } from '../../runtime/node.js';
import { compileInference } from '../../trainer/compile.js';
import { openProgram } from '../../trainer/program.js';
import { Random } from '../../util/random.js';
import { float32 } from '../../util/tensor.js';
import { newPictoClip } from './index.js';

const runtime = nodeRuntime();
afterAll(() => runtime.close());

const config = {
  model_type: 'picto_clip', projection_dim: 8, logit_scale_init_value: 3,
  text_config: {
    vocab_size: 20, hidden_size: 12, intermediate_size: 16, max_position_embeddings: 6, eos_token_id: 0, layer_norm_eps: 1e-5,
  },
  vision_config: {
    image_size: 16, num_channels: 3, stem_size: 4, hidden_sizes: [6, 10], depths: [1, 2], layer_norm_eps: 1e-5,
  },
};

describe('the built-in model', () => {
  test('reads texts as bags of words: order and padding change nothing, words do', async () => {
    const { encoder, tokenizer } = (await openBackbone('picto')).text!;
    const texts = ['arrow left', 'left arrow', 'guitar', 'Arrow  Left'];
    const program = compileInference((graph) => ({
      long: f.l2Normalize(encoder.textFeatures(graph.input('ids.long', 'int64', [4, encoder.textLength]))),
      short: f.l2Normalize(encoder.textFeatures(graph.input('ids.short', 'int64', [4, 4]))),
    }));
    const session = await openProgram(runtime, program, {});
    const { long, short } = await session.run({
      'ids.long': tokenizer.encode(texts, encoder.textLength), 'ids.short': tokenizer.encode(texts, 4),
    });
    await session.release();
    const dim = long!.shape[1]!;
    const cosine = (a: number, b: number, other = long!): number => Array.from({ length: dim }, (_, i) =>
      Number(long!.data[a * dim + i]) * Number(other.data[b * dim + i])).reduce((s, v) => s + v, 0);
    for (const same of [1, 3]) expect(cosine(0, same)).toBeCloseTo(1, 5);
    for (const row of [0, 1, 2, 3]) expect(cosine(row, row, short)).toBeCloseTo(1, 5);
    expect(cosine(0, 2)).toBeLessThan(0.8);
  });

  test('gives a feature for each picture, whatever else is in the batch', async () => {
    const { encoder, processor } = await openBackbone('picto');
    const random = Random.seeded(3);
    const size = processor.height;
    const pixels = Float32Array.from({ length: 3 * 3 * size * size }, () => random.uniform(-1, 1));
    const features = async (rows: number, data: Float32Array): Promise<Float32Array> => {
      const program = compileInference((graph) => ({
        out: encoder.imageFeatures(graph.input('images', 'float32', [rows, 3, size, size])) }));
      const session = await openProgram(runtime, program, {});
      const { out } = await session.run({ images: float32([rows, 3, size, size], data) });
      await session.release();
      return out!.data as Float32Array;
    };
    const [all, second] = [await features(3, pixels), await features(1, pixels.slice(3 * size * size, 6 * size * size))];
    const dim = second.length;
    expect(Math.max(...second.map((v, i) => Math.abs(v - all[dim + i]!)))).toBeLessThan(1e-4);
    expect(Math.max(...second.map((v, i) => Math.abs(v - all[i]!)))).toBeGreaterThan(1e-2);
  });
});

test('a configuration that makes no sense is refused by the value', () => {
  const withVision = (changes: object): unknown => ({ ...config, vision_config: { ...config.vision_config, ...changes } });
  expect(() => newPictoClip(withVision({ depths: [1] }))).toThrow(/vision_config: expected as many depths as hidden_sizes/);
  expect(() => newPictoClip(withVision({ image_size: 18 }))).toThrow(/image_size: expected a multiple of 4/);
  expect(() => newPictoClip(withVision({ image_size: 12 }))).toThrow(/an image_size that the stages can halve/);
  expect(() => newPictoClip({ ...config, projection_dim: 0 })).toThrow(/projection_dim/);
});

test('a new model has the parameters of its configuration', () => {
  const names = [...newPictoClip(config).parameters()].map(([name, { shape }]) => `${name} ${shape.join('x')}`);
  expect(names).toEqual(expect.arrayContaining([
    'text_model.token_embedding.weight 20x12', 'vision_model.stem.0.weight 4x3x3x3', 'vision_model.stages.1.norm.weight 6x4x4',
    'vision_model.stages.1.downsample.weight 10x6x3x3', 'vision_model.stages.1.blocks.1.conv2.bias 10',
    'visual_projection.weight 8x10', 'logit_scale ',
  ]));
});
