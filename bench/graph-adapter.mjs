// npm run bench -- graph-adapter: Scion's training step against the published form of the computation in PyTorch.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { availableMemory, describe, machine } from './lib/machine.mjs';
import { megabytes, spread, table } from './lib/markdown.mjs';
import { quartiles, repeat, tolerated } from './lib/pairs.mjs';
import { start, startPeer } from './lib/processes.mjs';

const here = new URL('.', import.meta.url).pathname;
const batch = 256;
const partitions = 4;
const goal = 10; // times the published form at K = 100

const scion = () => start(process.execPath, [`${here}lib/graph-adapter-side.mjs`]);

/** @param {{ classes: number[], dim: number[], repetitions?: number, threads: number, python: string }} options */
export async function graphAdapter({ classes, dim, repetitions = 5, threads, python }) {
  const result = { machine: machine(), threads, batch, cases: [] };
  console.log(`${describe(result.machine)}; ${threads} threads; batch ${batch}, P = ${partitions}\n`);
  const folder = await mkdtemp(join(tmpdir(), 'scion-bench-'));
  try {
    for (const d of dim) {
      for (const k of classes) {
        console.error(`K = ${k}, d = ${d}`);
        const inputs = join(folder, 'inputs.safetensors');
        const one = await measure({ classes: k, dim: d, batch, threads }, repetitions, python, inputs);
        if (one.faster) console.error(`${spread(one.faster, 1)} times as fast`);
        result.cases.push(one);
      }
    }
    print(result.cases);
    const side = scion();
    result.training = await side.ask('training', { classes: 100, dim: 512, shots: 16, threads, folder });
    await side.quit();
    const { seconds, steps, epochs } = result.training;
    console.log(`
16 shots × 100 classes, d = 512, from feature file to finished run folder, validated after every epoch: \
${epochs} epochs (${steps} steps) in ${seconds.toFixed(1)} s.`);
    return result;
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Bytes that the published form takes: the graphs X of all partitions, their products and adjacencies. */
function published({ classes, dim }) {
  const nodes = classes / partitions + 1;
  return 4 * classes * nodes * (2 * partitions * (dim + nodes) + 3 * dim);
}

async function measure(load, wanted, python, inputs) {
  const ours = scion();
  const { settings } = await ours.ask('load', { ...load, inputs });
  const need = published(load);
  const { peer: theirs, torch, missing } = need > 0.9 * availableMemory()
    ? { missing: `the published form needs about ${megabytes(need)}, more than is free` }
    : await startPeer(python, `${here}peers/graph_adapter.py`, { ...load, ...settings, inputs });
  if (missing) console.log(`K = ${load.classes}, d = ${load.dim}: compared with nothing: ${missing}`);

  const first = await ours.ask('steps', { n: 2 });
  let difference;
  let theirStep = 0;
  if (theirs) {
    const { losses, seconds } = await theirs.ask('steps', { n: 2 });
    theirStep = seconds / 2;
    difference = Math.max(...losses.map((loss, i) => Math.abs(first.losses[i] - loss) / Math.abs(loss)));
    if (!(difference <= 1e-4)) throw new Error(`the losses differ by ${difference}: not the same step`);
  }
  // enough steps for about a second, so that the load beside them can be told
  const count = (seconds) => Math.min(500, Math.max(1, Math.round(1 / seconds)));
  const side = (process, step) => {
    const n = count(step);
    return { pid: process.pid, run: async () => ({ step: (await process.ask('steps', { n })).seconds / n }) };
  };
  const slow = theirStep > 2;
  const { rounds, competing, discarded, disturbed } = await repeat({
    scion: side(ours, (await ours.ask('steps', { n: 10 })).seconds / 10),
    ...(theirs && { torch: side(theirs, theirStep) }),
  }, { wanted: slow ? Math.min(2, wanted) : wanted, warmUp: slow ? 0 : 1 });
  const peak = async (process) => (await process.ask('memory')).peak_rss_bytes;
  const memory = { scion: await peak(ours), torch: theirs && await peak(theirs) };
  await ours.quit();
  await theirs?.quit();
  const over = (f) => quartiles(rounds.map(f));
  return {
    classes: load.classes, dim: load.dim, torch, difference, memory, competing, discarded, disturbed, rounds,
    stepsPerSecond: { scion: over((r) => 1 / r.scion.step), torch: theirs && over((r) => 1 / r.torch.step) },
    faster: theirs && over((r) => r.torch.step / r.scion.step),
  };
}

function print(cases) {
  console.log(table(
    ['K, d', 'Scion, steps/s', 'PyTorch, steps/s', 'times as fast', 'peak memory', 'PyTorch', 'losses within'],
    cases.map((c) => [
      `${c.classes}, ${c.dim}`, spread(c.stepsPerSecond.scion, 0),
      ...(c.faster
        ? [spread(c.stepsPerSecond.torch), spread(c.faster, 1), megabytes(c.memory.scion), megabytes(c.memory.torch),
          c.difference.toExponential(0)]
        : ['–', '–', megabytes(c.memory.scion), '–', '–']),
    ])));
  const sum = (f) => cases.reduce((total, c) => total + f(c), 0);
  console.log(`
Medians (quartiles) of paired repetitions of about a second; ${sum((c) => c.discarded)} were left out and \
${sum((c) => c.disturbed)} kept although other processes used over ${tolerated} cores \
(median of those kept: ${quartiles(cases.flatMap((c) => c.competing)).median.toFixed(2)} cores).`);
  const compared = cases.filter((c) => c.faster);
  for (const { dim, faster } of compared.filter((c) => c.classes === 100)) {
    const verdict = faster.median >= goal ? 'reached' : 'missed';
    console.log(`Goal at K = 100, d = ${dim}: at least ${goal} times as fast: ${verdict}.`);
  }
  for (const dim of new Set(compared.map((c) => c.dim))) {
    const ofDim = compared.filter((c) => c.dim === dim).sort((a, b) => a.classes - b.classes);
    const grows = ofDim.every((c, i) => i === 0 || c.faster.median > ofDim[i - 1].faster.median);
    if (ofDim.length > 1) console.log(`Goal at d = ${dim}: growing with K: ${grows ? 'reached' : 'missed'}.`);
  }
}
