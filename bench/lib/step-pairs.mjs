// Training steps of Scion and of PyTorch in pairs: outputs and losses compared, time, memory, rate of products.
import os from 'node:os';
import { createRequire } from 'node:module';
import { describe, machine } from './machine.mjs';
import { megabytes, percent, spread, table } from './markdown.mjs';
import { quartiles, repeat, tolerated } from './pairs.mjs';
import { start, startPeer } from './processes.mjs';
import { profiled } from './profile.mjs';
import { recomputation } from './recomputation.mjs';

/** Square matrix products; the fastest of them counts as the machine's rate. */
const sizes = [1536, 2048, 4096];
const parts = ['forward', 'train'];
const ortVersion = createRequire(import.meta.url)('onnxruntime-node/package.json').version;
const tool = (path) => new URL(`../${path}`, import.meta.url).pathname;

/**
 * Measures and prints some loads one after the other.
 * @param {{ side: string, peer: string, cases: { title: string, load: () => Promise<object>, calls: Record<string, number>,
 *   steps: number, repetitions: number }[] }} benchmark the scripts of both sides; for each case what makes the load, the
 *   calls in one repetition (enough to last about a second, so that the load beside it can be told), the steps until the
 *   peak of memory stands, since JavaScript frees late
 * @param {{ repetitions?: number, threads: number, python: string, profile: boolean, recompute: boolean }} options
 *   `recompute`: the step of Scion with activations recomputed against the one that keeps them, instead of PyTorch's
 */
export async function compareSteps({ side, peer, cases }, { repetitions, threads, python, profile, recompute }) {
  const result = { machine: machine(), onnxruntime: ortVersion, threads, cases: [] };
  console.log(`${describe(result.machine)}; ONNX Runtime ${ortVersion}, ${threads} threads`);
  const scion = () => start(process.execPath, [tool(side)]);
  for (const { title, load: make, ...measured } of cases) {
    const load = { ...await make(), threads };
    console.log(`\n## ${title}\n`);
    if (profile) {
      const ours = scion();
      await profiled(ours, async (profile, steps) => {
        await ours.ask('load', { ...load, parts: ['train'], profile, recompute });
        for (let i = 0; i < steps; i++) await ours.ask('train');
      });
      continue;
    }
    if (recompute) {
      const open = async (recompute) => {
        const ours = scion();
        await ours.ask('load', { ...load, parts: ['train'], recompute });
        return ours;
      };
      result.cases.push({ title, ...await recomputation(open, repetitions ?? measured.repetitions) });
      continue;
    }
    const one = await measure(load, { ...measured, ...(repetitions && { repetitions }) }, { scion, python, script: tool(peer) });
    result.cases.push({ title, ...one });
    print(one);
  }
  return result;
}

async function measure(load, { calls, steps, repetitions: wanted }, { scion, python, script }) {
  const ours = scion();
  const { flops } = await ours.ask('load', { ...load, parts });
  const { peer: theirs, torch, missing } = await startPeer(python, script, load);
  if (missing) console.log(`Compared with nothing: ${missing}\n`);
  const differences = { output: theirs && await outputDifference(ours, theirs), loss: 0 };

  const losses = [];
  const times = async (side) => {
    const seconds = {};
    for (const part of parts) {
      seconds[part] = 0;
      for (let i = 0; i < calls[part]; i++) {
        const answer = await side.ask(part);
        seconds[part] += answer.seconds / calls[part];
        if (part === 'train') losses.push({ side, loss: answer.loss });
      }
    }
    return seconds;
  };
  const sides = {
    scion: {
      pid: ours.pid, run: async () => ({ ...await times(ours), ...await ours.ask('products', { sizes }) }),
    },
    ...(theirs && { torch: { pid: theirs.pid, run: () => times(theirs) } }),
  };
  const repeated = await repeat(sides, { wanted });
  if (theirs) {
    const theirLosses = losses.filter((l) => l.side === theirs);
    differences.loss = Math.max(...losses.filter((l) => l.side === ours)
      .map(({ loss }, i) => Math.abs(loss - theirLosses[i].loss) / Math.abs(theirLosses[i].loss)));
  }
  const load1 = os.loadavg()[0];
  await ours.quit();
  await theirs?.quit();
  if (!(differences.loss <= 1e-5)) throw new Error(`the losses differ by ${differences.loss}: not the same step`);

  const memory = { scion: {}, torch: {} };
  for (const part of parts) {
    memory.scion[part] = await peak(scion(), part, steps, (side) => side.ask('load', { ...load, parts: [part] }));
    if (theirs) {
      memory.torch[part] = await peak(start(python, [script]), part, steps, async (side) => {
        await side.ask('load', load);
        await side.ask('reset_memory'); // loading holds the weights twice for a moment
      });
    }
  }
  return {
    batch: load.batch, tokens: load.tokens, torch, differences, flops, memory, loadAverage: load1, ...repeated,
    ...summary(repeated.rounds, flops),
  };
}

/** The largest difference of the outputs, as a part of the largest output. */
async function outputDifference(ours, theirs) {
  const [{ values: a }, { values: c }] = [await ours.ask('output'), await theirs.ask('output')];
  const difference = Math.max(...a.map((v, i) => Math.abs(v - c[i]))) / Math.max(...c.map(Math.abs));
  if (!(difference <= 1e-4)) throw new Error(`the outputs differ by ${difference}: not the same model`);
  return difference;
}

/** Peak memory of a fresh process that does one thing alone. */
async function peak(side, part, steps, load) {
  await load(side);
  for (let i = 0; i < steps; i++) await side.ask(part);
  const { peak_rss_bytes: bytes } = await side.ask('memory');
  await side.quit();
  return bytes;
}

function summary(rounds, flops) {
  const paired = rounds[0].torch !== undefined;
  const over = (f) => quartiles(rounds.map(f));
  const large = ({ scion }) => Math.max(...Object.values(scion.large));
  const perPart = (f) => Object.fromEntries(parts.map((part) => [part, f(part)]));
  return {
    seconds: {
      scion: perPart((p) => over((r) => r.scion[p])), torch: paired && perPart((p) => over((r) => r.torch[p])),
    },
    ratio: paired && perPart((p) => over((r) => r.scion[p] / r.torch[p])),
    rates: { large: over(large), own: over((r) => r.scion.own) },
    share: perPart((p) => over((r) => flops[p] / r.scion[p] / large(r))),
    shareOfOwn: perPart((p) => over((r) => flops[p] / r.scion[p] / r.scion.own)),
  };
}

function print(one) {
  const names = { forward: 'forward', train: 'forward + backward + AdamW' };
  const header = ['', 'Scion, s',
    ...(one.torch ? [`PyTorch ${one.torch}, s`, 'ratio', 'ratio of memory'] : []),
    'peak memory', ...(one.torch ? ['PyTorch'] : []), 'GFLOP/s', 'of a large product', 'of its own products'];
  console.log(table(header, parts.map((p) => [
    names[p], spread(one.seconds.scion[p], 3),
    ...(one.torch ? [
      spread(one.seconds.torch[p], 3), spread(one.ratio[p]), (one.memory.scion[p] / one.memory.torch[p]).toFixed(3),
    ] : []),
    megabytes(one.memory.scion[p]), ...(one.torch ? [megabytes(one.memory.torch[p])] : []),
    (one.flops[p] / one.seconds.scion[p].median / 1e9).toFixed(0),
    percent(one.share[p].median), percent(one.shareOfOwn[p].median),
  ])));
  const gigaflops = (q) => spread({ median: q.median / 1e9, low: q.low / 1e9, high: q.high / 1e9 }, 0);
  console.log(`
Medians (quartiles) of ${one.rounds.length} paired repetitions; ${one.discarded} more were left out and \
${one.disturbed} kept although other processes used over ${tolerated} cores.
Other processes: ${spread(quartiles(one.competing))} cores; load average at the end ${one.loadAverage.toFixed(2)}.
Matrix products: the fastest of ${sizes.map((n) => `${n}³`).join(', ')} \
${gigaflops(one.rates.large)} GFLOP/s; the encoder's own, in a chain, ${gigaflops(one.rates.own)} GFLOP/s.`);
  if (one.torch) {
    console.log(`Same computation: outputs within ${one.differences.output.toExponential(1)}, losses of all steps \
within ${one.differences.loss.toExponential(1)} (relative).`);
    const { train } = one.ratio;
    const memory = one.memory.scion.train / one.memory.torch.train;
    const verdict = (ok) => (ok ? 'reached' : 'missed');
    console.log(`Goals for training: time ≤ 0.8 ${verdict(train.median <= 0.8)}, \
at most 1.0 ${verdict(train.median <= 1)}; memory ≤ 0.75 ${verdict(memory <= 0.75)}; rate ≥ 85 % ${verdict(one.share.train.median >= 0.85)}.`);
  }
}
