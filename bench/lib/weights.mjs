// The random weights and inputs of the engine benchmark, in the files that both sides read.
import { existsSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { writeSafetensors } from '../../packages/scion/dist/formats/safetensors-node.js';
import { Random } from '../../packages/scion/dist/util/random.js';
import { float32, numel } from '../../packages/scion/dist/util/tensor.js';
import { config } from './vit.mjs';

export const rank = 8;
export const classes = 512;
const { hidden_size: width, intermediate_size: mlp, num_hidden_layers: layers } = config;

/** Name → shape, as `peers/engine.py` names them. */
function shapes() {
  const linear = (name, inputs, outputs) => [[`${name}.weight`, [outputs, inputs]], [`${name}.bias`, [outputs]]];
  const norm = (name) => [[`${name}.weight`, [width]], [`${name}.bias`, [width]]];
  const lora = (name) => [[`${name}.lora_A.weight`, [rank, width]], [`${name}.lora_B.weight`, [width, rank]]];
  const layer = (at) => [
    ...norm(`${at}.layer_norm1`), ...norm(`${at}.layer_norm2`),
    ...['q_proj', 'k_proj', 'v_proj', 'out_proj'].flatMap((p) => linear(`${at}.self_attn.${p}`, width, width)),
    ...['q_proj', 'v_proj'].flatMap((p) => lora(`${at}.self_attn.${p}`)),
    ...linear(`${at}.mlp.fc1`, width, mlp), ...linear(`${at}.mlp.fc2`, mlp, width),
  ];
  return [
    ...Array.from({ length: layers }, (_, i) => layer(`layers.${i}`)).flat(),
    ...norm('final_layer_norm'), ...linear('head', width, classes),
  ];
}

/** Uniform values of the given mean and standard deviation. */
function draw(shape, random, std, mean = 0) {
  const values = new Float32Array(numel(shape));
  const bound = std * Math.sqrt(3);
  for (let i = 0; i < values.length; i++) values[i] = mean + random.uniform(-bound, bound);
  return float32(shape, values);
}

/** Factors other than zero on both sides, so that both have a gradient. */
function first(name, shape, random) {
  if (name.includes('lora_A')) return draw(shape, random, rank ** -0.5);
  return draw(shape, random, 0.02, name.includes('norm') && name.endsWith('.weight') ? 1 : 0);
}

/** Writes what is not there yet (343 MB, once) and returns the paths. */
export async function files(folder, batch, tokens) {
  await mkdir(folder, { recursive: true });
  const write = async (name, entries, make) => {
    const path = `${folder}/${name}.safetensors`;
    const bytes = entries.reduce((sum, [, shape]) => sum + 4 * numel(shape), 0);
    if (existsSync(path) && statSync(path).size > bytes) return path;
    console.error(`writing ${path}`);
    const random = Random.seeded(0);
    const tensors = entries.map(([key, shape]) => [key, make(key, shape, random.child(key))]);
    await writeSafetensors(path, Object.fromEntries(tensors));
    return path;
  };
  return {
    weights: await write('vit-b16', shapes(), first),
    inputs: await write(`inputs-${batch}x${tokens}`, [['x', [batch, tokens, width]], ['target', [batch, classes]]],
      (_, shape, random) => draw(shape, random, 1)),
  };
}
