// Scion's side of check-peft.py: one JSON request per line on stdin, one answer per line on stdout.
//   {"op": "read", model, adapter, inputs, output}             logits with an adapter that Python wrote
//   {"op": "write", model, settings, adapter, inputs, output}  an adapter of random values, and the logits with it
import readline from 'node:readline';
import { readSafetensors, writeSafetensors } from '../packages/scion/dist/formats/safetensors-node.js';
import { readCheckpoint } from '../packages/scion/dist/hub/checkpoint.js';
import { loadBackbone } from '../packages/scion/dist/models/index.js';
import * as f from '../packages/scion/dist/nn/functional.js';
import { readParameter } from '../packages/scion/dist/nn/parameter-values.js';
import { attachLora, loraConfig } from '../packages/scion/dist/peft/lora/index.js';
import { readPeftAdapter, writePeftAdapter } from '../packages/scion/dist/peft/python/folder.js';
import { fitAdapter, peftAdapterFiles } from '../packages/scion/dist/peft/python/keys.js';
import { nodeRuntime } from '../packages/scion/dist/runtime/node.js';
import { compileInference } from '../packages/scion/dist/trainer/compile.js';
import { openProgram } from '../packages/scion/dist/trainer/program.js';
import { Random } from '../packages/scion/dist/util/random.js';
import { float32 } from '../packages/scion/dist/util/tensor.js';

const runtime = nodeRuntime();

async function adapted(model, config) {
  const backbone = loadBackbone(await readCheckpoint(model));
  await attachLora(backbone, config, { read: readParameter });
  return backbone;
}

/** Writes the scaled cosines of pictures and texts, [N, M]. */
async function logits(backbone, values, inputs, output) {
  backbone.freeze(Object.fromEntries(values));
  const { images, ids } = Object.fromEntries((await readSafetensors(inputs)).tensors);
  const program = compileInference((graph) => {
    const pictures = f.l2Normalize(backbone.imageFeatures(graph.input('images', 'float32', images.shape)));
    const texts = f.l2Normalize(backbone.textFeatures(graph.input('ids', 'int64', ids.shape)));
    return { logits: f.mul(f.fusedMatMul(pictures, texts, { transB: 1 }), backbone.scale(graph)) };
  });
  const session = await openProgram(runtime, program, {});
  await writeSafetensors(output, { logits: (await session.run({ images, ids })).logits });
  await session.release();
}

/** A value that moves what a parameter starts from. */
async function moved(name, { shape, origin }) {
  const random = Random.seeded(1).child(name);
  const start = origin.init(shape, random.child('first')).data;
  const scale = name.includes('lora_') && !name.includes('magnitude')
    ? shape.slice(1).reduce((a, b) => a * b, 1) ** -0.5 : 0.1;
  return float32(shape, start.map((v) => v + scale * random.normal()));
}

const operations = {
  async read({ model, adapter, inputs, output }) {
    const { config, tensors } = await readPeftAdapter(adapter);
    const backbone = await adapted(model, config);
    await logits(backbone, fitAdapter(backbone, tensors, adapter), inputs, output);
  },
  async write({ model, settings, adapter, inputs, output }) {
    const config = loraConfig.parse(settings);
    const backbone = await adapted(model, config);
    const values = new Map();
    for (const [name, p] of backbone.parameters()) if (p.origin.kind === 'trained') values.set(name, await moved(name, p));
    await writePeftAdapter(adapter, peftAdapterFiles(backbone, config, (name) => values.get(name), { baseModel: model }));
    await logits(backbone, values, inputs, output);
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { op, ...request } = JSON.parse(line);
  const answer = await operations[op](request).then(() => ({ ok: true }), (error) => ({ ok: false, error: error.message }));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await runtime.close();
