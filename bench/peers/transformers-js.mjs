// transformers.js as the encode benchmark's other side: the pipeline `image-feature-extraction` on lists of paths.
import { env, pipeline } from '@huggingface/transformers';
import { basename, dirname } from 'node:path';
import { peakMemory } from '../lib/machine.mjs';
import { serve } from '../lib/processes.mjs';

env.allowRemoteModels = false;
let extract;
let size;

await serve({
  async load({ checkpoint, batch, threads }) {
    env.localModelPath = dirname(checkpoint);
    size = batch;
    extract = await pipeline('image-feature-extraction', basename(checkpoint), {
      dtype: 'fp32', device: 'cpu', session_options: { intraOpNumThreads: threads },
    });
    return { version: env.version };
  },
  /** `ahead` batches are begun before the first of them is awaited. */
  async encode({ paths, ahead = 1, features: wanted }) {
    const start = performance.now();
    const batches = Array.from({ length: Math.ceil(paths.length / size) }, (_, i) =>
      paths.slice(i * size, (i + 1) * size));
    const rows = [];
    const begun = [];
    let next = 0;
    while (next < batches.length || begun.length > 0) {
      while (next < batches.length && begun.length < ahead) begun.push(extract(batches[next++]));
      rows.push(await begun.shift());
    }
    const seconds = (performance.now() - start) / 1e3;
    return { seconds, ...(wanted && { features: rows.flatMap((tensor) => [...tensor.data]) }) };
  },
  memory: () => ({ peak_rss_bytes: peakMemory() }),
});
await extract?.dispose();
