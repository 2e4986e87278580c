// npm run bench -- engine: a ViT-B/16-sized encoder, Scion against PyTorch. bench/README.md says what is measured.
import os from 'node:os';
import { createRequire } from 'node:module';
import { describe, machine } from './lib/machine.mjs';
import { megabytes, percent, spread, table } from './lib/markdown.mjs';
import { quartiles, repeat, tolerated } from './lib/pairs.mjs';
import { start, startPeer } from './lib/processes.mjs';
import { profiled } from './lib/profile.mjs';
import { recomputation } from './lib/recomputation.mjs';
import { files } from './lib/weights.mjs';

const folder = new URL('.', import.meta.url).pathname;
/** Square matrix products; the fastest of them counts as the machine's rate. */
const sizes = [1536, 2048, 4096];
const parts = ['forward', 'train'];
/** Calls in one repetition: enough to last about a second, so that the load beside it can be told. */
const calls = (tokens) => (tokens < 100 ? { forward: 3, train: 2 } : { forward: 1, train: 1 });
const ortVersion = createRequire(import.meta.url)('onnxruntime-node/package.json').version;

const scion = () => start(process.execPath, [`${folder}lib/engine-side.mjs`]);

/**
 * @param {{ batch: number, tokens: number[], repetitions?: number, threads: number, python: string, profile: boolean,
 *   recompute: boolean }} options
 */
export async function engine({ batch, tokens, repetitions, threads, python, profile, recompute }) {
  const result = { machine: machine(), onnxruntime: ortVersion, threads, batch, cases: [] };
  console.log(`${describe(result.machine)}; ONNX Runtime ${ortVersion}, ${threads} threads`);
  for (const n of tokens) {
    const paths = await files(`${folder}out`, batch, n);
    const load = { ...paths, batch, tokens: n, threads };
    console.log(`\n## ${batch} × ${n} tokens\n`);
    if (profile) {
      const side = scion();
      await profiled(side, async (profile, steps) => {
        await side.ask('load', { ...load, parts: ['train'], profile, recompute });
        for (let i = 0; i < steps; i++) await side.ask('train');
      });
      continue;
    }
    const wanted = repetitions ?? (n < 100 ? 7 : 5);
    if (recompute) {
      const open = async (recompute) => {
        const side = scion();
        await side.ask('load', { ...load, parts: ['train'], recompute });
        return side;
      };
      result.cases.push({ tokens: n, ...await recomputation(open, wanted) });
      continue;
    }
    const one = await measure(load, wanted, python);
    result.cases.push(one);
    print(one);
  }
  return result;
}

async function measure(load, wanted, python) {
  const ours = scion();
  const { flops } = await ours.ask('load', { ...load, parts });
  const script = `${folder}peers/engine.py`;
  const { peer: theirs, torch, missing } = await startPeer(python, script, load);
  if (missing) console.log(`Compared with nothing: ${missing}\n`);
  const differences = { output: theirs && await outputDifference(ours, theirs), loss: 0 };

  const losses = [];
  const times = async (side) => {
    const seconds = {};
    for (const part of parts) {
      seconds[part] = 0;
      for (let i = 0; i < calls(load.tokens)[part]; i++) {
        const answer = await side.ask(part);
        seconds[part] += answer.seconds / calls(load.tokens)[part];
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

  const steps = load.tokens < 100 ? 25 : 10; // until the peak stands: JavaScript frees late
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
    tokens: load.tokens, torch, differences, flops, memory, loadAverage: load1, ...repeated,
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
