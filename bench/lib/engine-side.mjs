// Scion's side of the engine benchmark.
import { readSafetensors, readSafetensorsHeader, readTensors } from '../../packages/scion/dist/formats/safetensors-node.js';
import { serveSteps, squaredDifference } from './step-side.mjs';
import { config, vit } from './vit.mjs';

await serveSteps(async ({ weights, inputs, batch, tokens }) => {
  const file = await readSafetensorsHeader(weights);
  const lora = await readTensors(file, [...file.tensors.keys()].filter((name) => name.includes('lora_')));
  const { x, target } = Object.fromEntries((await readSafetensors(inputs)).tensors);
  return {
    model: (graph) => {
      const y = vit(file, (name) => lora.get(name)).forward(graph.input('x', 'float32', x.shape));
      return { loss: squaredDifference(y), y };
    },
    trained: (name) => lora.get(name.replace('encoder.', '')),
    feeds: { x, target },
    rows: batch * tokens,
    chain: Array.from({ length: config.num_hidden_layers }, (_, i) => ['fc1', 'fc2'].map((part) => {
      const { dtype, shape, offset, byteLength } = file.tensors.get(`layers.${i}.mlp.${part}.weight`);
      return { dtype, shape, path: file.path, offset, byteLength };
    })).flat(),
  };
});
