// Scion's side of check-generation.py: one JSON request per line on stdin, one answer per line on stdout.
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

/** Logits [B, T, vocabulary] and the cross entropy of labels [B, T], those of the next words where none are given. */
function readout(model, last, ids, labels) {
  const [count, batch] = last.shape;
  const logits = model.logits(f.reshape(last, [-1, model.width]));
  const seen = labels ? count : count - 1;
  const targets = labels ?? f.slice(ids, 1, 1, count);
  return {
    logits: f.transpose(f.reshape(logits, [count, batch, -1]), [1, 0, 2]),
    loss: f.crossEntropy(f.slice(logits, 0, 0, seen * batch), f.reshape(f.transpose(targets, [1, 0]), [-1])),
  };
}

const operations = {
  async forward({ model: folder, inputs, output }) {
    const model = loadTextModel(await readCheckpoint(folder));
    const feeds = Object.fromEntries((await readSafetensors(inputs)).tensors);
    const program = compileInference((graph) => {
      const given = Object.fromEntries(Object.entries(feeds).map(([n, { dtype, shape }]) => [n, graph.input(n, dtype, shape)]));
      const tokens = model.embed(given.ids);
      if (model.kind === 'decoder') {
        const { states: all, last } = model.decode(tokens);
        return { ...states([...all.slice(0, -1), last], 'state'), ...readout(model, last, given.ids) };
      }
      const encoded = model.encode(model.embed(given.sources), given.source_mask);
      const { states: all, last } = model.decode(tokens, { last: encoded.last, mask: given.source_mask });
      return {
        ...states(encoded.states, 'encoder_state'), ...states(all, 'state'), ...readout(model, last, given.ids, given.labels),
      };
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
