// npm run bench -- lora: a training step of LoRA on the image tower of CLIP ViT-B/16, Scion against Python's PEFT.
import { files, tokens } from './lib/clip-vision.mjs';
import { compareSteps } from './lib/step-pairs.mjs';

const batch = 16;

/** @param {{ repetitions?: number, threads: number, python: string, profile: boolean, recompute: boolean }} options */
export function lora({ repetitions, threads, python, profile, recompute }) {
  const cases = [{
    title: `LoRA of rank 16 on q and v of CLIP ViT-B/16's image tower, ${batch} pictures`,
    load: async () => ({ ...await files(new URL('out', import.meta.url).pathname, batch), batch, tokens }),
    calls: { forward: 1, train: 1 }, steps: 6, repetitions: 5,
  }];
  return compareSteps({ side: 'lib/lora-side.mjs', peer: 'peers/lora.py', cases }, { repetitions, threads, python, profile, recompute });
}
