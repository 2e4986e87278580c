import { describe, expect, test } from 'vitest';
import { readSafetensors } from '../../formats/safetensors-node.js';
import { readCheckpoint } from '../../hub/checkpoint.js';
import * as f from '../../nn/functional.js';
import { bind, frozen, init, trained } from '../../nn/parameter.js';
import { compileInference, compileObjective } from '../../trainer/compile.js';
import { openProgram } from '../../trainer/program.js';
import { batchFirst, expectClose, expected as reference, fixtures, run, testRuntime } from '../testing/reference.js';
import { fromCheckpoint } from '../weights.js';
import { isResNet, parseClipConfig } from './config.js';
import { Clip, loadClip } from './model.js';

const runtime = testRuntime();
const clipFixtures = `${fixtures}clip/`;
const expected = (name: string): ReturnType<typeof reference> => reference(`clip/${name}`);
const loaded = async (name: string): Promise<Clip> => loadClip(await readCheckpoint(clipFixtures + name));

describe.each([
  ['quick-gelu'], ['gelu-half'], ['openai-vit'], ['openai-resnet'], ['quick-gelu', 'pytorch_model.bin'],
])('%s %s', (name, file = '') => {
  test('gives the features and logits of PyTorch', async () => {
    const [clip, want] = [await loaded(`${name}/${file}`), await expected(name)];
    const [images, ids] = [want('images'), want('ids')];
    const got = await run(runtime, (graph) => {
      const image_features = clip.imageFeatures(graph.input('images', 'float32', images.shape));
      const text_features = clip.textFeatures(graph.input('ids', 'int64', ids.shape));
      return { image_features, text_features, logits_per_image: clip.logits(image_features, text_features) };
    }, { images, ids });
    for (const key of ['image_features', 'text_features', 'logits_per_image']) expectClose(got[key], want(key), key);
  });
});

test('features cost the last vision layer its MLP for the class token alone', async () => {
  const clip = await loaded('quick-gelu');
  const { image_size: size } = clip.config.vision_config;
  const { step } = compileInference((graph) => ({
    y: clip.imageFeatures(graph.input('images', 'float32', [2, 3, size, size])),
  }));
  const rows = step.nodes.filter((n) => n.path.endsWith('mlp.fc1')).map((n) => n.outputs[0]!.shape[0]);
  expect(rows.length).toBeGreaterThan(1);
  expect(rows.pop()).toBe(2);
  expect(rows.every((n) => n! > 2)).toBe(true);
});

test.each([
  ['quick-gelu', 3, 3], ['gelu-half', 3, 4],
])('%s has the hidden states of transformers', async (name, v, t) => {
  const [clip, want] = [await loaded(name), await expected(name)];
  const [images, ids] = [want('images'), want('ids')];
  const got = await run(runtime, (graph) => ({
    ...batchFirst(clip.vision!.forward(graph.input('images', 'float32', images.shape)).states, 'vision_state'),
    ...batchFirst(clip.text.forward(graph.input('ids', 'int64', ids.shape)).states, 'text_state'),
  }), { images, ids });
  expect(Object.keys(got).length).toBe(v + t);
  for (const [key, tensor] of Object.entries(got)) expectClose(tensor, want(key), key);
});

test('gradients by a prompt and by a weight deep in the image tower are those of PyTorch', async () => {
  const want = await expected('quick-gelu');
  const checkpoint = await readCheckpoint(`${clipFixtures}quick-gelu`);
  const name = 'vision_model.encoder.layers.0.self_attn.q_proj.weight';
  const stored = (await readSafetensors(`${clipFixtures}quick-gelu/model.safetensors`)).tensors.get(name)!;
  const clip = fromCheckpoint(checkpoint.tensors, 'fixture', (weights) => new Clip(
    (n, shape) => {
      const parameter = weights(n, shape);
      return n === name ? trained(shape, init.zeros) : parameter;
    },
    parseClipConfig(checkpoint.config, 'fixture'),
  ));
  const prefix = trained(want('prefix').shape, init.zeros);
  prefix.name = 'prefix';
  const cotangent = frozen(want('cotangent'));
  cotangent.name = 'cotangent';
  const [images, ids] = [want('images'), want('prefix_ids')];
  const program = compileObjective((graph) => {
    const tokens = graph.input('ids', 'int64', ids.shape);
    const plain = clip.text.embed(tokens); // [T, B, width]
    const [length, batch, width] = plain.shape as [number, number, number];
    const put = f.expand(f.reshape(bind(graph, prefix), [2, 1, width]), [2, batch, width]);
    const prompts = f.concat([f.slice(plain, 0, 0, 1), put, f.slice(plain, 0, 3, length)], 0);
    const texts = clip.projectText(clip.text.encode(prompts, clip.text.ends(tokens)).pooled);
    const logits = clip.logits(clip.imageFeatures(graph.input('images', 'float32', images.shape)), texts);
    graph.output('logits', logits);
    return f.reduceSum(f.mul(logits, bind(graph, cotangent)));
  });
  const session = await openProgram(runtime, program, { prefix: want('prefix'), [name]: stored });
  const got = await session.run({ images, ids });
  await session.release();
  expectClose(got.logits, want('prefix_logits'), 'logits');
  expectClose(got['grad.prefix'], want('grad_prefix'), 'prefix');
  expectClose(got[`grad.${name}`], want('grad_weight'), name);
});

describe('the module tree', () => {
  test('has exactly the parameters of the checkpoint, by their names', async () => {
    const clip = await loaded('quick-gelu');
    const { tensors } = await readSafetensors(`${clipFixtures}quick-gelu/model.safetensors`);
    const names = [...clip.parameters()].map(([name]) => name);
    expect(names.sort()).toEqual([...tensors.keys()].sort());
    for (const [name, p] of clip.parameters()) {
      expect([p.name, ...p.shape]).toEqual([name, ...tensors.get(name)!.shape]);
    }
  });

  test('of a ResNet keeps OpenAI\'s names for the images and has Hugging Face\'s for the texts', async () => {
    const names = [...(await loaded('openai-resnet')).parameters()].map(([name]) => name);
    for (const name of [
      'visual.conv3.weight', 'visual.layer1.0.downsample.0.weight', 'visual.layer4.0.bn2.running_var',
      'visual.attnpool.positional_embedding', 'text_model.encoder.layers.1.self_attn.k_proj.bias', 'logit_scale',
    ]) expect(names).toContain(name);
  });

  test('reads the sizes of OpenAI\'s checkpoints from their shapes', async () => {
    const [vit, resnet] = [(await loaded('openai-vit')).config, (await loaded('openai-resnet')).config];
    expect(vit.vision_config).toMatchObject({
      image_size: 12, patch_size: 4, num_attention_heads: 2, num_hidden_layers: 1, intermediate_size: 20,
    });
    expect(isResNet(resnet.vision_config)).toBe(true);
    expect(resnet.vision_config).toEqual({ layers: [2, 1, 1, 1], width: 4, num_attention_heads: 2, image_size: 64 });
    expect(resnet.text_config).toMatchObject({ vocab_size: 30, max_position_embeddings: 8, num_hidden_layers: 2 });
  });
});

describe('config.json', () => {
  const json = { model_type: 'clip', text_config: {}, vision_config: {} };

  test('has the defaults of transformers: ViT-B/32', () => {
    const parsed = parseClipConfig({ model_type: 'clip' }, 'config.json');
    expect(parsed).toEqual({
      projection_dim: 512, logit_scale_init_value: 2.6592,
      text_config: {
        hidden_size: 512, intermediate_size: 2048, num_hidden_layers: 12, num_attention_heads: 8,
        hidden_act: 'quick_gelu', layer_norm_eps: 1e-5, vocab_size: 49408, max_position_embeddings: 77,
        eos_token_id: 49407,
      },
      vision_config: {
        hidden_size: 768, intermediate_size: 3072, num_hidden_layers: 12, num_attention_heads: 12,
        hidden_act: 'quick_gelu', layer_norm_eps: 1e-5, num_channels: 3, image_size: 224, patch_size: 32,
      },
    });
  });

  test('of an old file: what stands in text_config_dict and vision_config_dict goes before', () => {
    const parsed = parseClipConfig({
      ...json, text_config_dict: { num_hidden_layers: 3 }, text_config: { num_hidden_layers: 5 },
      vision_config_dict: null, vision_config: { patch_size: 14 },
    }, 'config.json');
    expect(parsed.text_config.num_hidden_layers).toBe(3);
    expect(parsed.vision_config).toMatchObject({ patch_size: 14 });
  });

  test.each([
    [{ ...json, model_type: 'siglip' }, /^config\.json: model_type "siglip" is not supported; supported is "clip"/],
    [{}, /^config\.json: has no model_type; supported/],
    [null, /has no model_type/],
    [{ ...json, vision_config: 3 }, /^config\.json: vision_config: is 3, expected/],
    [{ ...json, vision_config: { hidden_act: 'swish' } },
      /^config\.json: vision_config\.hidden_act: is "swish", expected .*"quick_gelu"/],
    [{ ...json, text_config: { hidden_size: 10, num_attention_heads: 3 } },
      /text_config\.num_attention_heads: 3 does not divide hidden_size 10/],
  ])('%j is refused by name', (input, message) => {
    expect(() => parseClipConfig(input, 'config.json')).toThrow(message);
  });

  test('tells everything that is wrong at once', () => {
    const towers = { text_config: { vocab_size: 1.5 }, vision_config: { patch_size: '16' } };
    const wrong = { ...json, projection_dim: -1, ...towers };
    expect(() => parseClipConfig(wrong, 'c')).toThrow(new RegExp([
      'c: projection_dim: is -1, .*', 'c: text_config\\.vocab_size: is 1\\.5, .*',
      'c: vision_config\\.patch_size: is "16", expected number; .*$',
    ].join('\n')));
  });
});

test('every tensor that does not fit is named, in one error', async () => {
  const checkpoint = await readCheckpoint(`${clipFixtures}quick-gelu`);
  const tensors = new Map(checkpoint.tensors);
  const change = (name: string, to: object | undefined): void => {
    const stored = tensors.get(name)!;
    if (to) tensors.set(name, { ...stored, ...to });
    else tensors.delete(name);
  };
  change('text_model.final_layer_norm.bias', undefined);
  change('visual_projection.weight', { shape: [14, 25] });
  change('logit_scale', { dtype: 'int64' });
  tensors.set('text_model.encoder.layers.2.mlp.fc1.bias', tensors.get('text_model.encoder.layers.1.mlp.fc1.bias')!);
  tensors.set('text_model.embeddings.position_ids', tensors.get('logit_scale')!); // of no use to anybody
  let error: unknown;
  try {
    loadClip({ ...checkpoint, path: 'model', tensors });
  } catch (e) {
    error = e;
  }
  const lines = (error as Error).message.split('\n');
  expect((error as { kind?: string }).kind).toBe('input');
  expect(lines.length).toBe(4);
  const all = lines.join('\n');
  expect(all).toContain('model: text_model.final_layer_norm.bias: is missing, expected shape [20]');
  expect(all).toContain('model: visual_projection.weight: has shape [14, 25], expected [14, 24]');
  expect(all).toContain('model: logit_scale: has dtype int64, expected float32, float16, bfloat16');
  expect(all).toContain('model: text_model.encoder.layers.2.mlp.fc1.bias: the file has it, shape [28], and the model');
});

describe('a checkpoint without config.json', () => {
  test('is refused where its names are not OpenAI\'s', async () => {
    const checkpoint = await readCheckpoint(`${clipFixtures}quick-gelu`);
    expect(() => loadClip({ ...checkpoint, path: 'model', config: undefined })).toThrow(/^model: has no config\.json/);
  });

  test.each([
    ['text_projection', /^model: has no tensor text_projection/],
    ['transformer.resblocks.0.mlp.c_proj.bias', /^model: text_model\.encoder\.layers\.0\.mlp\.fc2\.bias: is missing/],
    ['visual.transformer.resblocks.0.attn.in_proj_weight', /0\.self_attn\.q_proj\.weight: is missing(.*\n?){3}$/],
  ])('lacks %s: says so', async (name, message) => {
    const checkpoint = await readCheckpoint(`${clipFixtures}openai-vit`);
    const tensors = new Map([...checkpoint.tensors].filter(([n]) => n !== name));
    expect(() => loadClip({ ...checkpoint, path: 'model', tensors })).toThrow(message);
  });
});
