// Scion's side of the GraphAdapter benchmark, in a process of its own: the step that the trainer runs.
import { writeSafetensors } from '../../packages/scion/dist/formats/safetensors-node.js';
import { classMeans } from '../../packages/scion/dist/peft/feature-method.js';
import { getMethod } from '../../packages/scion/dist/peft/index.js';
import { nodeRuntime } from '../../packages/scion/dist/runtime/node.js';
import { initialState, stepScalars } from '../../packages/scion/dist/trainer/compile.js';
import { compileFeatureTraining } from '../../packages/scion/dist/trainer/fit.js';
import { openProgram } from '../../packages/scion/dist/trainer/program.js';
import { resolveRecipe } from '../../packages/scion/dist/trainer/recipe.js';
import { train } from '../../packages/scion/dist/trainer/train.js';
import { Random } from '../../packages/scion/dist/util/random.js';
import { float32, int64, scalar } from '../../packages/scion/dist/util/tensor.js';
import { peakMemory } from './machine.mjs';
import { serve } from './processes.mjs';

const logitScale = 100;
const runtime = nodeRuntime();
let session, program, feeds;
let step = 0;

function features(random, rows, dim) {
  return float32([rows, dim], Float32Array.from({ length: rows * dim }, () => random.normal()));
}

/** Rows 0, 1, … have the labels 0, 1, …, so that every class has as many, up to one. */
const labels = (rows, classes) => Int32Array.from({ length: rows }, (_, i) => i % classes);

await serve({
  /** Compiles the step and writes what the peer needs for the same computation to `inputs`. */
  async load({ classes, dim, batch, threads, inputs }) {
    await session?.release();
    step = 0;
    const random = Random.seeded(0);
    const rows = Math.max(batch, 2 * classes);
    const text = features(random.child('text'), classes, dim);
    const support = { features: features(random.child('images'), rows, dim), labels: labels(rows, classes) };
    const method = getMethod('graph-adapter');
    const { recipe } = resolveRecipe({ method: method.name, features: 'random' });
    const given = { text: float32([classes, 1, dim], text.data), support, classes, dim, logitScale };
    const training = { ...recipe.training, batch_size: batch };
    program = compileFeatureTraining(method.create(given, recipe.config), support, training);
    const state = initialState(program, random);
    session = await openProgram(runtime, program, {
      ...state, 'bank.features': support.features, 'bank.labels': int64([rows], support.labels),
    }, { threads });
    feeds = {
      'batch.index': int64([batch], Array.from({ length: batch }, (_, i) => i)),
      'batch.weights': float32([batch], new Float32Array(batch).fill(1)),
    };
    const trained = Object.fromEntries(['text', 'visual'].flatMap((kind) => ['weight', 'bias'].map((name) =>
      [`${kind}_gcn_${name}`, state[`${kind}_gcn.${name}`]])));
    await writeSafetensors(inputs, {
      ...trained, text_features: text, visual_features: classMeans(given),
      image_features: float32([batch, dim], support.features.data.slice(0, batch * dim)),
      labels: int64([batch], support.labels.slice(0, batch)),
    });
    const { alpha, beta, partitions } = recipe.config;
    return { settings: { alpha, beta, partitions, logit_scale: logitScale } };
  },
  async steps({ n }) {
    const losses = [];
    const start = performance.now();
    for (let i = 0; i < n; i++) {
      const scalars = Object.entries(stepScalars(program, step++, 1)).map(([name, v]) => [name, scalar(v)]);
      const inputs = { ...feeds, ...Object.fromEntries(scalars) };
      const { loss } = await session.run(inputs, { carry: program.carry, fetch: ['loss'] });
      losses.push(loss.data[0]);
    }
    return { seconds: (performance.now() - start) / 1e3, losses };
  },
  /** A whole training as a user starts it: feature file in, run folder out. */
  async training({ classes, dim, shots, threads, folder }) {
    const random = Random.seeded(1);
    const rows = classes * (shots + 4); // four more per class to validate on after every epoch
    await writeSafetensors(`${folder}/features.safetensors`, {
      'train.features': features(random, rows, dim), 'train.labels': int64([rows], labels(rows, classes)),
      'text.features': features(random, classes, dim),
    }, {
      class_names: JSON.stringify(Array.from({ length: classes }, (_, k) => `class ${k}`)),
      logit_scale: String(logitScale),
    });
    const start = performance.now();
    let steps = 0;
    let epochs = 0;
    const run = await train({
      method: 'graph-adapter', features: `${folder}/features.safetensors`, shots, threads, out: `${folder}/run`,
    }, { onMetric: (m) => { if (m.type === 'step') steps++; else epochs++; } });
    await run.close();
    return { seconds: (performance.now() - start) / 1e3, steps, epochs };
  },
  memory: () => ({ peak_rss_bytes: peakMemory() }),
});
await session?.release();
await runtime.close();
