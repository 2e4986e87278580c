// Scion's side of the encode benchmark, in a process of its own; the requests are those of peers/transformers-js.mjs.
import { decodeImage } from '../../packages/scion/dist/data/image-decode.js';
import { processPixels, readImageProcessor } from '../../packages/scion/dist/data/image-processor.js';
import { sha256 } from '../../packages/scion/dist/formats/files.js';
import { readCheckpoint } from '../../packages/scion/dist/hub/checkpoint.js';
import { loadClip } from '../../packages/scion/dist/models/clip/model.js';
import { nodeRuntime } from '../../packages/scion/dist/runtime/node.js';
import { compileInference } from '../../packages/scion/dist/trainer/compile.js';
import { openImageEncoder } from '../../packages/scion/dist/trainer/encode.js';
import { openProgram } from '../../packages/scion/dist/trainer/program.js';
import { float32 } from '../../packages/scion/dist/util/tensor.js';
import { matrixFlops } from './flops.mjs';
import { peakMemory } from './machine.mjs';
import { serve } from './processes.mjs';

const runtime = nodeRuntime();
let clip, processor, encoder, session;

/** Milliseconds per item, of the wall and of all processors. */
async function cost(items, body) {
  const [processors, start] = [process.cpuUsage(), performance.now()];
  for (const item of items) await body(item);
  const wall = performance.now() - start;
  const { user, system } = process.cpuUsage(processors);
  return { wall: wall / items.length, processors: (user + system) / 1e3 / items.length };
}

await serve({
  async load({ checkpoint, batch, threads }) {
    processor = await readImageProcessor(`${checkpoint}/preprocessor_config.json`);
    clip = loadClip(await readCheckpoint(checkpoint));
    const backbone = { name: checkpoint, path: checkpoint, digest: 'not cached', encoder: clip, processor };
    encoder = openImageEncoder({ runtime, backbone, batchSize: batch, threads });
  },
  async encode({ paths, features: wanted }) {
    const start = performance.now();
    const pictures = [];
    // hashed as the commands do it
    for (const path of paths) pictures.push({ path, sha256: await sha256(path), view: 0 });
    const { features } = await encoder.encode(pictures);
    const seconds = (performance.now() - start) / 1e3;
    return { seconds, ...(wanted && { features: [...features.data] }) };
  },
  memory: () => ({ peak_rss_bytes: peakMemory() }),

  /** What each part costs alone, per picture; the tower's runs are profiled. */
  async parts({ paths, batch, threads, profile, runs }) {
    const images = [];
    const decode = await cost(paths, async (path) => { images.push(await decodeImage(path)); });
    const resize = await cost(images, (image) => processPixels(image, processor));
    const shape = [batch, 3, processor.height, processor.width];
    const program = compileInference((graph) => ({ y: clip.imageFeatures(graph.input('images', 'float32', shape)) }));
    session = await openProgram(runtime, program, {}, { prepack: true, threads, profile });
    const pixels = float32(shape, Float32Array.from({ length: shape.reduce((a, d) => a * d) }, () => Math.random() - 0.5));
    const tower = await cost(Array.from({ length: runs }), () => session.run({ images: pixels }));
    return { decode, resize, tower, flops: matrixFlops(program.step) };
  },
  async release() {
    await session?.release();
  },
});
await encoder?.release();
await runtime.close();
