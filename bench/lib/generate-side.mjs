// Scion's side of the generation half of the caption benchmark.
import { readSafetensors, readSafetensorsHeader } from '../../packages/scion/dist/formats/safetensors-node.js';
import { loadGpt2 } from '../../packages/scion/dist/models/gpt2/index.js';
import { nodeRuntime } from '../../packages/scion/dist/runtime/node.js';
import { openGenerator } from '../../packages/scion/dist/trainer/generate/index.js';
import { config, routed, sight } from './gpt2-routed.mjs';
import { serve } from './processes.mjs';

const runtime = nodeRuntime();
let generator, visual;

await serve({
  async load({ weights, inputs, adapter, batch, beams, words, threads }) {
    const { path, tensors } = await readSafetensorsHeader(weights);
    const model = await routed(loadGpt2({
      path: weights, config, tensors: new Map([...tensors].map(([name, t]) => [name, { ...t, path }])),
    }));
    ({ visual } = Object.fromEntries((await readSafetensors(inputs)).tensors));
    generator = await openGenerator(runtime, {
      model: model.text,
      inputs: { visual: { dtype: 'float32', shape: [sight.tokens, sight.dim] } },
      condition: (given) => {
        const seen = model.look(given.visual);
        return { prefix: seen, routes: { visual: seen } };
      },
    }, { num_beams: beams, max_new_tokens: words, eos_token_id: null }, {
      batch, promptLength: 1, values: Object.fromEntries((await readSafetensors(adapter)).tensors), session: { threads },
    });
    return {};
  },
  async generate() {
    const start = performance.now();
    const texts = await generator.generate({ ids: Array.from({ length: visual.shape[0] }, () => [config.bos_token_id]), inputs: { visual } });
    return { seconds: (performance.now() - start) / 1e3, ids: texts.map(([best]) => best.ids) };
  },
});
await generator?.release();
await runtime.close();
