import { describe, expect, test } from 'vitest';
import { processImage } from '../../data/image-processor.js';
import { readSafetensors } from '../../formats/safetensors-node.js';
import { readCheckpoint } from '../../hub/checkpoint.js';
import { Linear } from '../../nn/layers.js';
import { openBackbone } from '../../pipeline/backbone.js';
import { compileInference } from '../../trainer/compile.js';
import { loadDinov2, parseDinov2Config } from '../dinov2/model.js';
import { expectClose, expected, fixtures, run, testRuntime } from '../testing/reference.js';
import { loadVit, parseVitConfig } from './model.js';

const runtime = testRuntime();

describe.each([
  ['vit/model', loadVit, /^pooler\./],
  ['vit/classifier', loadVit, /^classifier\./],
  ['dinov2/interpolated', loadDinov2, /mask_token$/],
  ['dinov2/swiglu', loadDinov2, /^classifier\.|mask_token$/],
] as const)('%s', (name, load, unread) => {
  const loaded = async (): Promise<ReturnType<typeof load>> => load(await readCheckpoint(fixtures + name));

  test('gives the features of transformers', async () => {
    const [model, want] = [await loaded(), await expected(name)];
    const images = want('images');
    const { y } = await run(runtime, (graph) => ({
      y: model.imageFeatures(graph.input('images', 'float32', images.shape)),
    }), { images });
    expectClose(y, want('image_features'), name);
  });

  test('prepares pictures as transformers does, and reads no words', async () => {
    const { processor, text } = await openBackbone(fixtures + name);
    const { metadata } = await readSafetensors(`${fixtures}${name}/expected.safetensors`);
    const pictures = JSON.parse(metadata['pictures']!) as string[];
    const pixels = await Promise.all(pictures.map((path) => processImage(fixtures + path, processor)));
    expect(pixels.flatMap((p) => [...p])).toEqual([...(await expected(name))('images').data]);
    expect(text).toBeUndefined();
  });

  test('has the parameters of the checkpoint, by their names, but for what no feature needs', async () => {
    const { tensors } = await readSafetensors(`${fixtures}${name}/model.safetensors`);
    const parameters = [...(await loaded()).parameters()];
    const left = [...tensors.keys()].filter((n) => !parameters.some(([own]) => own === n));
    expect(left.length).toBeGreaterThan(0);
    for (const n of left) expect(n).toMatch(unread);
    for (const [n, p] of parameters) expect([p.name, ...p.shape]).toEqual([n, ...tensors.get(n)!.shape]);
  });

  test('computes the last layer for the class token alone, and has linear modules where adapters look', async () => {
    const [model, want] = [await loaded(), await expected(name)];
    const { shape } = want('images');
    const { step } = compileInference((graph) => ({ y: model.imageFeatures(graph.input('x', 'float32', shape)) }));
    const hidden = /(intermediate\.dense|mlp\.(fc1|weights_out))$/;
    const rows = step.nodes.filter((n) => hidden.test(n.path) && n.op === 'Gemm')
      .map((n) => n.outputs[0]!.shape[0]);
    expect(rows).toEqual([3 * want('last_hidden_state').shape[1]!, 3]);
    const linear = [...model.modules()].filter(([, m]) => m instanceof Linear).map(([path]) => path);
    const paths = (end: RegExp): number => linear.filter((path) => end.test(path)).length;
    expect(paths(/encoder\.layer\.\d\.attention\.attention\.(query|key|value)$/)).toBe(6);
    expect(paths(/encoder\.layer\.\d\.attention\.output\.dense$/)).toBe(2);
  });
});

test('DINOv2 takes pictures of any size, ViT its own alone', async () => {
  const shape = [1, 3, 9, 25] as const;
  const [dinov2, vit] = [
    loadDinov2(await readCheckpoint(`${fixtures}dinov2/interpolated`)),
    loadVit(await readCheckpoint(`${fixtures}vit/model`)),
  ];
  const build = (model: typeof vit) => compileInference((graph) => ({
    y: model.imageFeatures(graph.input('x', 'float32', shape)),
  }));
  expect(build(dinov2).step.outputs.get('y')!.shape).toEqual([1, 24]);
  expect(() => build(vit)).toThrow('images [1, 3, 9, 25], expected size 16');
});

describe('config.json', () => {
  const vit = {
    hidden_size: 768, intermediate_size: 3072, num_hidden_layers: 12, num_attention_heads: 12, hidden_act: 'gelu',
    layer_norm_eps: 1e-12, num_channels: 3, image_size: 224, patch_size: 16, qkv_bias: true,
  };

  test('has the defaults of transformers: vit-base-patch16-224 and dinov2-base', () => {
    expect(parseVitConfig({ model_type: 'vit' }, 'c')).toEqual(vit);
    const { intermediate_size: _, ...shared } = vit;
    expect(parseDinov2Config({ model_type: 'dinov2' }, 'c')).toEqual({
      ...shared, layer_norm_eps: 1e-6, patch_size: 14, mlp_ratio: 4, use_swiglu_ffn: false,
    });
  });

  test.each([
    [parseVitConfig, { model_type: 'deit' }, /^c: model_type "deit" is not supported; supported is "vit"/],
    [parseVitConfig, { model_type: 'vit', image_size: [224, 224] }, /^c: image_size: is \[224,224\], expected number/],
    [parseDinov2Config, { model_type: 'dinov2_with_registers' }, /supported is "dinov2"/],
    [parseDinov2Config, { model_type: 'dinov2', num_attention_heads: 5 }, /^c: num_attention_heads: 5 does not divide/],
  ])('is refused by name: %#', (parse, json, message) => {
    expect(() => parse(json, 'c')).toThrow(message);
  });
});
