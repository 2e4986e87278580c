// The image tower of CLIP ViT-B/16 with LoRA of Python's PEFT: random weights, an adapter and a batch, which both sides read.
import { existsSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { writeSafetensors } from '../../packages/scion/dist/formats/safetensors-node.js';
import { ClipVision } from '../../packages/scion/dist/models/clip/vision.js';
import { Parameter } from '../../packages/scion/dist/nn/parameter.js';
import { attachLora, loraConfig } from '../../packages/scion/dist/peft/lora/index.js';
import { writePeftAdapter } from '../../packages/scion/dist/peft/python/folder.js';
import { peftAdapterFiles } from '../../packages/scion/dist/peft/python/keys.js';
import { Random } from '../../packages/scion/dist/util/random.js';
import { float32, numel } from '../../packages/scion/dist/util/tensor.js';

/** As in the config.json of openai/clip-vit-base-patch16. */
export const config = {
  model_type: 'clip_vision_model', hidden_size: 768, intermediate_size: 3072, num_hidden_layers: 12, num_attention_heads: 12,
  hidden_act: 'quick_gelu', layer_norm_eps: 1e-5, num_channels: 3, image_size: 224, patch_size: 16,
};
export const tokens = (config.image_size / config.patch_size) ** 2 + 1;
const lora = loraConfig.parse({ r: 16, lora_alpha: 16, target_modules: ['q_proj', 'v_proj'] });

/** Of about the size that training gives them; both factors of the adapter other than zero, so that both have a gradient. */
function draw(name, shape, random) {
  const norm = /norm|layrnorm/.test(name);
  const mean = norm && name.endsWith('.weight') ? 1 : 0;
  return uniform(shape, random, shape.length > 1 ? numel(shape.slice(1)) ** -0.5 : 0.02, mean);
}

/** Uniform values of the given mean and standard deviation. */
function uniform(shape, random, std, mean = 0) {
  const bound = std * Math.sqrt(3);
  return float32(shape, Float32Array.from({ length: numel(shape) }, () => mean + random.uniform(-bound, bound)));
}

/** Writes what is not there yet (345 MB, once) and returns the paths. */
export async function files(folder, batch) {
  await mkdir(folder, { recursive: true });
  const paths = {
    weights: `${folder}/clip-vit-b16-vision.safetensors`, inputs: `${folder}/pictures-${batch}.safetensors`,
    adapter: `${folder}/lora-r${lora.r}`, settings: `${folder}/clip-vit-b16-vision.json`,
  };
  const random = Random.seeded(0);
  const once = async (path, write) => {
    if (existsSync(path)) return;
    console.error(`writing ${path}`);
    await rm(`${path}.unfinished`, { recursive: true, force: true });
    await write(`${path}.unfinished`);
    await rename(`${path}.unfinished`, path);
  };
  const tower = () => new ClipVision((_, shape) => new Parameter(shape, { kind: 'external', dtype: 'float32' }), config).named();
  const drawn = (name, { shape }) => draw(name, shape, random.child(name));
  await once(paths.weights, (path) => writeSafetensors(path,
    Object.fromEntries([...tower().parameters()].map(([name, p]) => [name, drawn(name, p)]))));
  await once(paths.adapter, async (path) => {
    const model = tower();
    await attachLora(model, lora, {}); // plain LoRA without biases reads nothing
    const shapes = new Map(model.parameters());
    await writePeftAdapter(path, peftAdapterFiles(model, lora, (name) => drawn(name, shapes.get(name))));
  });
  await once(paths.inputs, (path) => writeSafetensors(path, {
    x: uniform([batch, config.num_channels, config.image_size, config.image_size], random.child('x'), 1),
    target: uniform([batch, config.hidden_size], random.child('target'), 1),
  }));
  await writeFile(paths.settings, JSON.stringify(config, null, 2));
  return paths;
}
