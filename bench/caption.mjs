// npm run bench -- caption: GPT-2 with a visual token and routed LoRA, a training step and beam search, Scion against PyTorch.
import { files } from './lib/gpt2-routed.mjs';
import { spread } from './lib/markdown.mjs';
import { quartiles, repeat } from './lib/pairs.mjs';
import { start, startPeer } from './lib/processes.mjs';
import { compareSteps } from './lib/step-pairs.mjs';

const words = 20;
const training = 16;
/** Pictures that are described at a time, with so many beams each. */
const [pictures, beams] = [4, 5];
const out = new URL('out', import.meta.url).pathname;

/** @param {{ repetitions?: number, threads: number, python: string, profile: boolean, recompute: boolean }} options */
export async function caption({ repetitions, threads, python, profile, recompute }) {
  const cases = [{
    title: `GPT-2 with a visual token, routed LoRA of rank 128 on queries and values, ${training} captions of ${words} words`,
    load: async () => ({ ...await files(out, training, words), batch: training, tokens: words + 1 }),
    calls: { forward: 1, train: 1 }, steps: 6, repetitions: 5,
  }];
  const result = await compareSteps({ side: 'lib/caption-side.mjs', peer: 'peers/caption.py', cases }, {
    repetitions, threads, python, profile, recompute,
  });
  if (profile || recompute) return result;
  return { ...result, generation: await generation({ repetitions, threads, python }) };
}

async function generation({ repetitions = 5, threads, python }) {
  console.log(`\n## Beam search with ${beams} beams, ${pictures} captions of ${words} words at a time\n`);
  const load = { ...await files(out, pictures, words), batch: pictures, threads };
  const asked = { beams, words };
  const ours = start(process.execPath, [new URL('lib/generate-side.mjs', import.meta.url).pathname]);
  await ours.ask('load', { ...load, ...asked });
  const { peer: theirs, torch, missing } = await startPeer(python, new URL('peers/caption.py', import.meta.url).pathname, load);
  if (missing) console.log(`Compared with nothing: ${missing}\n`);
  const first = theirs && [await ours.ask('generate'), await theirs.ask('generate', asked)];
  const equal = first?.[0].ids.filter((ids, i) => ids.join() === first[1].ids[i].join()).length;
  const repeated = await repeat({
    scion: { pid: ours.pid, run: () => ours.ask('generate') },
    ...(theirs && { torch: { pid: theirs.pid, run: () => theirs.ask('generate', asked) } }),
  }, { wanted: repetitions });
  await ours.quit();
  await theirs?.quit();
  const rate = (side) => quartiles(repeated.rounds.map((round) => pictures * words / round[side].seconds));
  const rates = { scion: rate('scion'), ...(theirs && { torch: rate('torch') }) };
  const ratio = theirs && quartiles(repeated.rounds.map(({ scion, torch: other }) => other.seconds / scion.seconds));
  console.log(`Scion ${spread(rates.scion, 1)} tokens per second${theirs
    ? `, transformers on PyTorch ${torch} ${spread(rates.torch, 1)}; ratio ${spread(ratio)} (goal: at least 1.0)` : ''}`);
  if (theirs) console.log(`The same words in ${equal} of ${pictures} captions.`);
  console.log(`${repeated.rounds.length} paired repetitions; ${repeated.discarded} more were left out and ${repeated.disturbed} kept `
    + 'although other processes worked.');
  return { rates, ratio, equal, pictures, beams, words, ...repeated };
}
