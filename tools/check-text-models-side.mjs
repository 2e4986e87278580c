// Scion's side of check-text-models.py: one JSON request per line on stdin, one answer per line on stdout.
//   {"op": "forward", model, inputs, output}                            states, logits and loss
//   {"op": "generate", model, prompts, options, threads, repeat}        ids, and seconds of the last of the repetitions
import readline from 'node:readline';
import { readSafetensors, writeSafetensors } from '../packages/scion/dist/formats/safetensors-node.js';
import { readCheckpoint } from '../packages/scion/dist/hub/checkpoint.js';
import { loadTextModel } from '../packages/scion/dist/models/text-models.js';
import * as f from '../packages/scion/dist/nn/functional.js';
import { nodeRuntime } from '../packages/scion/dist/runtime/node.js';
import { compileInference } from '../packages/scion/dist/trainer/compile.js';
import { openGenerator } from '../packages/scion/dist/trainer/generate/index.js';
import { openProgram } from '../packages/scion/dist/trainer/program.js';

const runtime = nodeRuntime();

const states = (all, name) => Object.fromEntries(all.map((state, i) => [`${name}.${i}`, f.transpose(state, [1, 0, 2])]));

/** Logits [B, T, vocabulary], and the cross entropy of labels [N] at rows [N], row = token · B + text. */
function readout(model, last, { rows, labels }) {
  const [count, batch] = last.shape;
  const logits = model.logits(f.reshape(last, [-1, model.width]));
  return {
    logits: f.transpose(f.reshape(logits, [count, batch, -1]), [1, 0, 2]),
    loss: f.crossEntropy(f.gather(logits, rows), labels),
  };
}

/** States and what is read of them, by the kind of model. */
const forward = {
  encoder(model, given) {
    const { states: all, last } = model.encode(model.embed(given.ids), given.mask);
    return { ...states(all, 'state'), ...readout(model, last, given) };
  },
  decoder(model, given) {
    const { states: all, last } = model.decode(model.embed(given.ids), { mask: given.mask });
    return { ...states([...all.slice(0, -1), last], 'state'), ...readout(model, last, given) };
  },
  'encoder-decoder'(model, given) {
    const encoded = model.encode(model.embed(given.sources), given.source_mask);
    const { states: all, last } = model.decode(model.embed(given.ids), { last: encoded.last, mask: given.source_mask });
    return { ...states(encoded.states, 'encoder_state'), ...states(all, 'state'), ...readout(model, last, given) };
  },
};

const operations = {
  async forward({ model: folder, inputs, output }) {
    const model = loadTextModel(await readCheckpoint(folder));
    const feeds = Object.fromEntries((await readSafetensors(inputs)).tensors);
    const program = compileInference((graph) => {
      const given = Object.fromEntries(Object.entries(feeds).map(([n, { dtype, shape }]) => [n, graph.input(n, dtype, shape)]));
      return forward[model.kind](model, given);
    });
    const session = await openProgram(runtime, program, {});
    await writeSafetensors(output, await session.run(feeds));
    await session.release();
    return {};
  },
  async generate({ model: folder, prompts, options, threads, repeat }) {
    const model = loadTextModel(await readCheckpoint(folder));
    const generator = await openGenerator(runtime, { model }, options, {
      batch: prompts.length, promptLength: Math.max(...prompts.map((p) => p.length)), session: { threads },
    });
    let [texts, seconds] = [[], 0];
    for (let i = 0; i < repeat; i++) {
      const begun = performance.now();
      texts = await generator.generate({ ids: prompts });
      seconds = (performance.now() - begun) / 1000;
    }
    await generator.release();
    return { ids: texts.map(([{ ids }]) => ids), seconds };
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { op, ...request } = JSON.parse(line);
  const answer = await operations[op](request).catch((error) => ({ error: error.stack }));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await runtime.close();
