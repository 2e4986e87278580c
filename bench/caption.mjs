// npm run bench -- caption: a training step of GPT-2 with a visual token and routed LoRA, Scion against PyTorch.
import { files } from './lib/gpt2-routed.mjs';
import { compareSteps } from './lib/step-pairs.mjs';

const [batch, words] = [16, 20];

/** @param {{ repetitions?: number, threads: number, python: string, profile: boolean, recompute: boolean }} options */
export function caption({ repetitions, threads, python, profile, recompute }) {
  const cases = [{
    title: `GPT-2 with a visual token, routed LoRA of rank 128 on queries and values, ${batch} captions of ${words} words`,
    load: async () => ({ ...await files(new URL('out', import.meta.url).pathname, batch, words), batch, tokens: words + 1 }),
    calls: { forward: 1, train: 1 }, steps: 6, repetitions: 5,
  }];
  return compareSteps({ side: 'lib/caption-side.mjs', peer: 'peers/caption.py', cases }, { repetitions, threads, python, profile, recompute });
}
