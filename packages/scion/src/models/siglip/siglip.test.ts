import { describe, expect, test } from 'vitest';
import { processImage } from '../../data/image-processor.js';
import { readSafetensors } from '../../formats/safetensors-node.js';
import { readCheckpoint } from '../../hub/checkpoint.js';
import { Linear } from '../../nn/layers.js';
import { openBackbone } from '../../pipeline/backbone.js';
import { compileInference } from '../../trainer/compile.js';
import { toFloat64 } from '../../util/tensor.js';
import { batchFirst, expectClose, expected, fixtures, run, testRuntime } from '../testing/reference.js';
import { parseSiglipConfig } from './config.js';
import { type Siglip, loadSiglip } from './model.js';

const runtime = testRuntime();
const loaded = async (name: string): Promise<Siglip> => loadSiglip(await readCheckpoint(`${fixtures}siglip/${name}`));
const metadata = async (name: string): Promise<{ texts: string[]; pictures: string[] }> => {
  const { metadata: all } = await readSafetensors(`${fixtures}siglip/${name}/expected.safetensors`);
  return { texts: JSON.parse(all['texts']!) as string[], pictures: JSON.parse(all['pictures']!) as string[] };
};

describe.each(['sentencepiece', 'gemma'])('%s', (name) => {
  test('gives the features, logits, probabilities and hidden states of transformers', async () => {
    const [model, want] = [await loaded(name), await expected(`siglip/${name}`)];
    const [images, ids] = [want('images'), want('ids')];
    const got = await run(runtime, (graph) => {
      const [pixels, tokens] = [graph.input('images', 'float32', images.shape), graph.input('ids', 'int64', ids.shape)];
      const [image_features, text_features] = [model.imageFeatures(pixels), model.textFeatures(tokens)];
      return {
        image_features, text_features,
        logits_per_image: model.logits(image_features, text_features),
        probabilities: model.probabilities(image_features, text_features),
        ...batchFirst(model.vision.forward(pixels).states, 'vision_state'),
        ...batchFirst(model.text.forward(tokens).states, 'text_state'),
      };
    }, { images, ids });
    expect(Object.keys(got).length).toBeGreaterThan(7);
    for (const [key, tensor] of Object.entries(got)) expectClose(tensor, want(key), key);
  });

  test('tokenizes and prepares pictures as transformers does', async () => {
    const { text, processor } = await openBackbone(`${fixtures}siglip/${name}`);
    const want = await expected(`siglip/${name}`);
    const { texts, pictures } = await metadata(name);
    const ids = text!.tokenizer.encode(texts, text!.encoder.textLength);
    expect(ids.shape).toEqual(want('ids').shape);
    expect([...ids.data]).toEqual([...want('ids').data]);
    const pixels = await Promise.all(pictures.map((path) => processImage(fixtures + path, processor)));
    expect(pixels.flatMap((p) => [...p])).toEqual([...want('images').data]);
  });

  test('has exactly the parameters of the checkpoint, by their names', async () => {
    const { tensors } = await readSafetensors(`${fixtures}siglip/${name}/model.safetensors`);
    const parameters = [...(await loaded(name)).parameters()];
    expect(parameters.map(([n]) => n).sort()).toEqual([...tensors.keys()].sort());
    for (const [n, p] of parameters) expect([p.name, ...p.shape]).toEqual([n, ...tensors.get(n)!.shape]);
  });
});

test('padding is read: another pad token gives another feature', async () => {
  const [model, want] = [await loaded('sentencepiece'), await expected('siglip/sentencepiece')];
  const ids = want('ids');
  const other = { ...ids, data: (ids.data as BigInt64Array).map((id) => (id === 1n ? 0n : id)) };
  const features = async (data: typeof ids): Promise<Float64Array> => toFloat64((await run(runtime, (graph) => ({
    y: model.textFeatures(graph.input('ids', 'int64', ids.shape)),
  }), { ids: data })).y!);
  const [one, two] = [await features(ids), await features(other)];
  expect(Math.max(...one.map((v, i) => Math.abs(v - two[i]!)))).toBeGreaterThan(0.01);
});

test('texts cost the last layer its MLP for the last token alone', async () => {
  const model = await loaded('sentencepiece');
  const { step } = compileInference((graph) => ({ y: model.textFeatures(graph.input('ids', 'int64', [2, 16])) }));
  const rows = step.nodes.filter((n) => n.path.endsWith('mlp.fc1')).map((n) => n.outputs[0]!.shape[0]);
  expect(rows).toEqual([32, 2]);
});

test('the layers that adapters look for are linear modules, at the paths of the checkpoint', async () => {
  const modules = new Map((await loaded('sentencepiece')).modules());
  for (const path of [
    'vision_model.encoder.layers.1.self_attn.q_proj', 'text_model.encoder.layers.0.self_attn.out_proj',
    'vision_model.head.attention.out_proj', 'vision_model.head.mlp.fc1', 'text_model.head',
  ]) expect(modules.get(path), path).toBeInstanceOf(Linear);
});

describe('config.json', () => {
  test('has the defaults of transformers: siglip-base-patch16-224', () => {
    const tower = {
      hidden_size: 768, intermediate_size: 3072, num_hidden_layers: 12, num_attention_heads: 12,
      hidden_act: 'gelu_pytorch_tanh', layer_norm_eps: 1e-6,
    };
    expect(parseSiglipConfig({ model_type: 'siglip' }, 'config.json')).toEqual({
      text_config: { ...tower, vocab_size: 32000, max_position_embeddings: 64, projection_size: 768 },
      vision_config: { ...tower, num_channels: 3, image_size: 224, patch_size: 16, vision_use_head: true },
    });
  });

  test.each([
    [{ model_type: 'siglip2' }, /^c: model_type "siglip2" is not supported; supported is "siglip"/],
    [{ model_type: 'siglip', text_config: { projection_size: 12 } },
      /^c: text_config\.projection_size: is 12, expected 768 as vision_config\.hidden_size/],
    [{ model_type: 'siglip', vision_config: { vision_use_head: false } },
      /^c: vision_config\.vision_use_head: is false, expected true, since without its pooling head/],
    [{ model_type: 'siglip', vision_config: { num_attention_heads: 7 } },
      /^c: vision_config\.num_attention_heads: 7 does not divide hidden_size 768/],
  ])('%j is refused by name', (json, message) => {
    expect(() => parseSiglipConfig(json, 'c')).toThrow(message);
  });
});
