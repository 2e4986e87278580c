// Compares a checkpoint of published size with what transformers computes: the largest differences of features and
// logits. `make-backbone-fixtures.py --published NAME FOLDER` writes the folder; build Scion first.
//
//     node tools/compare-features.mjs FOLDER
import { join } from 'node:path';
import { loadBackbone, nodeRuntime, readCheckpoint, readSafetensors, toFloat64 } from '../packages/scion/dist/index.js';
import { compileInference } from '../packages/scion/dist/trainer/compile.js';
import { openProgram } from '../packages/scion/dist/trainer/program.js';

const [folder] = process.argv.slice(2);
if (!folder) throw new Error('usage: node tools/compare-features.mjs FOLDER');
const { tensors } = await readSafetensors(join(folder, 'expected.safetensors'));
const backbone = loadBackbone(await readCheckpoint(folder));
const [images, ids] = [tensors.get('images'), tensors.get('ids')];
const program = compileInference((graph) => {
  const image_features = backbone.imageFeatures(graph.input('images', 'float32', images.shape));
  if (!ids) return { image_features };
  const text_features = backbone.textFeatures(graph.input('ids', 'int64', ids.shape));
  return { image_features, text_features, logits_per_image: backbone.logits(image_features, text_features) };
});
const runtime = nodeRuntime();
const session = await openProgram(runtime, program, {});
const started = performance.now();
const found = await session.run({ images, ...(ids ? { ids } : {}) });
console.log(`one run of ${images.shape[0]} pictures${ids ? ` and ${ids.shape[0]} texts` : ''}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
for (const [name, tensor] of Object.entries(found)) {
  const [actual, wanted] = [toFloat64(tensor), toFloat64(tensors.get(name))];
  const largest = wanted.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  const difference = actual.reduce((m, v, i) => Math.max(m, Number.isFinite(v) ? Math.abs(v - wanted[i]) : Infinity), 0);
  console.log(`${name} [${tensor.shape.join(', ')}]: largest difference ${difference.toExponential(1)}, largest value ${largest.toFixed(2)}`);
}
await session.release();
await runtime.close();
