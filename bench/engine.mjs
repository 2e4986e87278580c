// npm run bench -- engine: a ViT-B/16-sized encoder, Scion against PyTorch. bench/README.md says what is measured.
import { compareSteps } from './lib/step-pairs.mjs';
import { files } from './lib/weights.mjs';

/**
 * @param {{ batch: number, tokens: number[], repetitions?: number, threads: number, python: string, profile: boolean,
 *   recompute: boolean }} options
 */
export function engine({ batch, tokens, ...options }) {
  const cases = tokens.map((n) => ({
    title: `${batch} × ${n} tokens`,
    load: async () => ({ ...await files(new URL('out', import.meta.url).pathname, batch, n), batch, tokens: n }),
    ...(n < 100
      ? { calls: { forward: 3, train: 2 }, steps: 25, repetitions: 7 }
      : { calls: { forward: 1, train: 1 }, steps: 10, repetitions: 5 }),
  }));
  return compareSteps({ side: 'lib/engine-side.mjs', peer: 'peers/engine.py', cases }, options);
}
