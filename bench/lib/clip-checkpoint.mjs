// A CLIP checkpoint of random weights with a vision tower of ViT-B/32's size, in Hugging Face's layout, with the ONNX
// file that transformers.js reads: written once, from the names and shapes of Scion's own modules.
import { existsSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { writeSafetensors } from '../../packages/scion/dist/formats/safetensors-node.js';
import { parseClipConfig } from '../../packages/scion/dist/models/clip/config.js';
import { Clip } from '../../packages/scion/dist/models/clip/model.js';
import { Parameter } from '../../packages/scion/dist/nn/parameter.js';
import { Random } from '../../packages/scion/dist/util/random.js';
import { float32 } from '../../packages/scion/dist/util/tensor.js';
import { exportVision } from './vision-onnx.mjs';

const config = {
  architectures: ['CLIPModel'], model_type: 'clip', projection_dim: 512, logit_scale_init_value: 2.6592,
  vision_config: {
    hidden_size: 768, intermediate_size: 3072, num_hidden_layers: 12, num_attention_heads: 12, hidden_act: 'quick_gelu',
    layer_norm_eps: 1e-5, num_channels: 3, image_size: 224, patch_size: 32,
  },
  // as small as it can be: no words are encoded here
  text_config: {
    hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 1, vocab_size: 8, max_position_embeddings: 8,
  },
};

const size = config.vision_config.image_size;
/** OpenAI's, of openai/clip-vit-base-patch32. */
const preprocessor = {
  image_processor_type: 'CLIPImageProcessor', do_resize: true, size: { shortest_edge: size }, resample: 3,
  do_center_crop: true, crop_size: { height: size, width: size }, do_rescale: true, rescale_factor: 1 / 255,
  do_normalize: true, image_mean: [0.48145466, 0.4578275, 0.40821073], image_std: [0.26862954, 0.26130258, 0.27577711],
};

/** Of about the size that training gives them, so that features differ from picture to picture. */
function draw(name, shape, random) {
  const norm = /norm|layrnorm/.test(name);
  const mean = norm && name.endsWith('.weight') ? 1 : name === 'logit_scale' ? config.logit_scale_init_value : 0;
  const inputs = shape.slice(1).reduce((a, d) => a * d, 1);
  const bound = Math.sqrt(3) * (/weight$/.test(name) && !norm ? inputs ** -0.5 : 0.02);
  const values = new Float32Array(shape.reduce((a, d) => a * d, 1));
  for (let i = 0; i < values.length; i++) values[i] = mean + random.uniform(-bound, bound);
  return float32(shape, values);
}

/** Writes what is not there yet (700 MB, once) and returns the folder. */
export async function clipCheckpoint(folder) {
  if (existsSync(folder)) return folder;
  console.error(`writing ${folder}`);
  const shapes = new Map();
  new Clip((name, shape) => {
    shapes.set(name, shape);
    return new Parameter(shape, { kind: 'trained', init: () => { throw new Error('names and shapes alone'); } });
  }, parseClipConfig(config, 'config.json'));
  const random = Random.seeded(0);
  const tensors = Object.fromEntries([...shapes].map(([name, shape]) => [name, draw(name, shape, random.child(name))]));
  const unfinished = `${folder}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(`${unfinished}/onnx`, { recursive: true });
  await writeFile(`${unfinished}/config.json`, JSON.stringify(config, null, 2));
  await writeFile(`${unfinished}/preprocessor_config.json`, JSON.stringify(preprocessor, null, 2));
  await writeSafetensors(`${unfinished}/model.safetensors`, tensors);
  await writeFile(`${unfinished}/onnx/vision_model.onnx`, exportVision(tensors, config.vision_config));
  await rename(unfinished, folder);
  return folder;
}
