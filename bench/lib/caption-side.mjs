// Scion's side of the caption benchmark.
import { readSafetensors, readSafetensorsHeader } from '../../packages/scion/dist/formats/safetensors-node.js';
import { loadGpt2 } from '../../packages/scion/dist/models/gpt2/index.js';
import * as f from '../../packages/scion/dist/nn/functional.js';
import { float32, int64 } from '../../packages/scion/dist/util/tensor.js';
import { config, routed } from './gpt2-routed.mjs';
import { serveSteps } from './step-side.mjs';

await serveSteps(async ({ weights, inputs, adapter, batch }) => {
  const { path, tensors } = await readSafetensorsHeader(weights);
  const placed = new Map([...tensors].map(([name, t]) => [name, { ...t, path }]));
  const model = await routed(loadGpt2({ path: weights, config, tensors: placed }));
  const values = (await readSafetensors(adapter)).tensors;
  for (const [name, p] of model.parameters()) if (values.has(name)) p.origin.init = () => values.get(name);
  const { visual, ids, labels } = Object.fromEntries((await readSafetensors(inputs)).tensors);
  const words = ids.shape[1];
  // row = word · batch + example
  const turned = int64([batch * words], Array.from({ length: batch * words }, (_, row) =>
    labels.data[(row % batch) * words + Math.floor(row / batch)]));
  const mask = float32([batch, words], new Float32Array(batch * words).fill(1));
  return {
    model: (graph) => {
      const feed = (name, { dtype, shape }) => graph.input(name, dtype, shape);
      const logits = model.nextWords({ visual: feed('visual', visual), ids: feed('ids', ids), mask: feed('mask', mask) });
      return { loss: f.crossEntropy(logits, feed('labels', turned)), y: f.slice(f.slice(logits, 0, 0, batch), 1, 0, 512) };
    },
    trained: (name) => values.get(name),
    feeds: { visual, ids, mask, labels: turned },
    rows: batch * (words + 1),
    chain: Array.from({ length: config.n_layer }, (_, i) => ['c_fc', 'c_proj'].map((part) => {
      const stored = placed.get(`transformer.h.${i}.mlp.${part}.weight`);
      return { ...stored, shape: [...stored.shape].reverse() }; // only its size matters here
    })).flat(),
  };
});
