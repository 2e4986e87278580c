// GPT-2 small with a visual token before its words and routed LoRA on c_attn: random weights and a batch for both sides.
import { existsSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { writeSafetensors } from '../../packages/scion/dist/formats/safetensors-node.js';
import { newGpt2 } from '../../packages/scion/dist/models/gpt2/index.js';
import { VisionText } from '../../packages/scion/dist/nn/vision-text.js';
import { attachLora, loraConfig } from '../../packages/scion/dist/peft/lora/index.js';
import { Random } from '../../packages/scion/dist/util/random.js';
import { float32, int64, numel } from '../../packages/scion/dist/util/tensor.js';

/** As in the config.json of openai-community/gpt2, without its dropout. */
export const config = {
  model_type: 'gpt2', n_embd: 768, n_layer: 12, n_head: 12, n_positions: 1024, vocab_size: 50257, activation_function: 'gelu_new',
  attn_pdrop: 0, embd_pdrop: 0, resid_pdrop: 0, bos_token_id: 50256, eos_token_id: 50256,
};
/** As published for COCO: r = alpha = 128, queries and values, `mul`. */
export const lora = { r: 128, lora_alpha: 128, target_modules: ['c_attn'], fused_parts: ['q', 'v'], routing: 'mul' };
export const sight = { tokens: 1, dim: config.n_embd, prefix: true };

/** The model that sees, over a tree of GPT-2. */
export async function routed(text) {
  const model = new VisionText(text, sight);
  await attachLora(model, loraConfig.parse(lora), {}); // plain LoRA without biases reads nothing
  return model;
}

/** Both factors of the adapter other than zero, so that both have a gradient. */
function draw(name, shape, random) {
  const mean = /ln_\w+\.weight$/.test(name) ? 1 : 0;
  const std = /lora_A/.test(name) ? shape[1] ** -0.5 : 0.02;
  const bound = std * Math.sqrt(3);
  return float32(shape, Float32Array.from({ length: numel(shape) }, () => mean + random.uniform(-bound, bound)));
}

/** As transformers keeps its matrices: [in, out]. */
function turned({ shape: [rows, columns], data }) {
  const out = new Float32Array(data.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = data[i * columns + j];
  return float32([columns, rows], out);
}

/** Writes what is not there yet (520 MB, once) and returns the paths. */
export async function files(folder, batch, words) {
  await mkdir(folder, { recursive: true });
  const paths = {
    weights: `${folder}/gpt2.safetensors`, adapter: `${folder}/gpt2-routed.safetensors`, settings: `${folder}/gpt2.json`,
    inputs: `${folder}/captions-${batch}x${words}.safetensors`,
  };
  const random = Random.seeded(0);
  const once = async (path, write) => {
    if (existsSync(path)) return;
    console.error(`writing ${path}`);
    await rm(`${path}.unfinished`, { force: true });
    await write(`${path}.unfinished`);
    await rename(`${path}.unfinished`, path);
  };
  const shapes = (model, wanted) => [...model.parameters()].filter(([name]) => wanted(name)).map(([name, { shape }]) => [name, shape]);
  await once(paths.weights, (path) => writeSafetensors(path, Object.fromEntries(shapes(newGpt2(config), () => true).map(([name, shape]) => {
    const value = draw(name, shape, random.child(name));
    return [name, /(c_attn|c_proj|c_fc)\.weight$/.test(name) ? turned(value) : value];
  }))));
  await once(paths.adapter, async (path) => writeSafetensors(path, Object.fromEntries(
    shapes(await routed(newGpt2(config)), (name) => name.includes('lora_')).map(([name, shape]) => [name, draw(name, shape, random.child(name))]))));
  await once(paths.inputs, (path) => {
    const own = random.child('inputs');
    const ids = Array.from({ length: batch * words }, () => own.integer(config.vocab_size));
    const visual = Float32Array.from({ length: batch * sight.dim }, () => own.normal());
    return writeSafetensors(path, {
      visual: float32([batch, 1, sight.dim], visual), ids: int64([batch, words], ids), labels: int64([batch, words], ids.map(() => own.integer(config.vocab_size))),
    });
  });
  await writeFile(paths.settings, JSON.stringify(config, null, 2));
  return paths;
}
