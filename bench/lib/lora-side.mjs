// Scion's side of the LoRA benchmark.
import { readSafetensors, readSafetensorsHeader } from '../../packages/scion/dist/formats/safetensors-node.js';
import { ClipVision } from '../../packages/scion/dist/models/clip/vision.js';
import { fromCheckpoint } from '../../packages/scion/dist/models/weights.js';
import { attachLora } from '../../packages/scion/dist/peft/lora/index.js';
import { readPeftAdapter } from '../../packages/scion/dist/peft/python/folder.js';
import { fitAdapter } from '../../packages/scion/dist/peft/python/keys.js';
import { config, tokens } from './clip-vision.mjs';
import { serveSteps, squaredDifference } from './step-side.mjs';

await serveSteps(async ({ weights, inputs, adapter, batch }) => {
  const { path, tensors } = await readSafetensorsHeader(weights);
  const placed = new Map([...tensors].map(([name, t]) => [name, { ...t, path }]));
  const model = fromCheckpoint(placed, weights, (make) => new ClipVision(make, config));
  const saved = await readPeftAdapter(adapter);
  await attachLora(model, saved.config, {}); // plain LoRA without biases reads nothing
  const values = fitAdapter(model, saved.tensors, adapter);
  for (const [name, p] of model.parameters()) if (values.has(name)) p.origin.init = () => values.get(name);
  const { x, target } = Object.fromEntries((await readSafetensors(inputs)).tensors);
  return {
    model: (graph) => {
      const y = model.forward(graph.input('x', 'float32', x.shape)).pooled;
      return { loss: squaredDifference(y), y };
    },
    trained: (name) => values.get(name),
    feeds: { x, target },
    rows: batch * tokens,
    chain: Array.from({ length: config.num_hidden_layers }, (_, i) => ['fc1', 'fc2'].map((part) =>
      placed.get(`encoder.layers.${i}.mlp.${part}.weight`))).flat(),
  };
});
