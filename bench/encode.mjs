// npm run bench -- encode: photographs through a ViT-B/32-sized CLIP tower, Scion against transformers.js.
import os from 'node:os';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { clipCheckpoint } from './lib/clip-checkpoint.mjs';
import { describe, machine } from './lib/machine.mjs';
import { megabytes, spread, table } from './lib/markdown.mjs';
import { quartiles, repeat, tolerated } from './lib/pairs.mjs';
import { cropped, photographs } from './lib/photos.mjs';
import { start } from './lib/processes.mjs';
import { profiled } from './lib/profile.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const batch = 16;
const goal = 1; // times the rate of transformers.js
/** Largest difference of a feature where both sides get the same pixels, as a part of how much pictures differ in it. */
const tolerance = 1e-3;
const ortVersion = createRequire(import.meta.url)('onnxruntime-node/package.json').version;

/** @param {{ data?: string, images: number, repetitions?: number, threads: number, profile: boolean }} options */
export async function encode({ data, images, repetitions = 5, threads, profile }) {
  const out = `${here}out`;
  const checkpoint = await clipCheckpoint(`${out}/clip-vit-b32`);
  const paths = await photographs({ data, count: images, out });
  const result = { machine: machine(), onnxruntime: ortVersion, threads, batch, images };
  console.log(`${describe(result.machine)}; ONNX Runtime ${ortVersion}, ${threads} threads; ${images} pictures, batch ${batch}\n`);
  const load = { checkpoint, batch, threads };
  const ours = start(process.execPath, [`${here}lib/encode-side.mjs`]);
  await ours.ask('load', load);
  if (profile) return { ...result, parts: await printParts(ours, paths.slice(0, 100), load) };
  const theirs = start(process.execPath, [`${here}peers/transformers-js.mjs`]);
  const { version } = await theirs.ask('load', load);

  const some = paths.slice(0, 8 * batch);
  const same = await agreement(ours, theirs, await cropped(some.slice(0, 4 * batch), 224, out));
  if (!(same.difference <= tolerance)) {
    throw new Error(`on the same pixels, features differ by ${same.difference} of their spread: not the same tower`);
  }
  const resized = await agreement(ours, theirs, some);
  const ahead = await better(theirs, some);
  const { rounds, competing, discarded, disturbed } = await repeat({
    scion: { pid: ours.pid, run: () => ours.ask('encode', { paths }) },
    peer: { pid: theirs.pid, run: () => theirs.ask('encode', { paths, ahead }) },
  }, { wanted: repetitions, warmUp: 0 });
  const loadAverage = os.loadavg()[0];
  const rate = (side) => quartiles(rounds.map((r) => images / r[side].seconds));
  Object.assign(result, {
    peer: version, ahead, same, resized, rounds, competing, discarded, disturbed, loadAverage,
    rates: { scion: rate('scion'), peer: rate('peer') },
    faster: quartiles(rounds.map((r) => r.peer.seconds / r.scion.seconds)),
    memory: {
      scion: (await ours.ask('memory')).peak_rss_bytes, peer: (await theirs.ask('memory')).peak_rss_bytes,
    },
  });
  await ours.quit();
  await theirs.quit();
  print(result);
  return result;
}

/**
 * How far the two sides' features are apart, each less its mean over the pictures: the largest difference as a part of
 * the root mean square, and the cosines of every picture's two rows.
 */
async function agreement(ours, theirs, paths) {
  const ask = async (side) => centred((await side.ask('encode', { paths, features: true })).features, paths.length);
  const [a, b] = [await ask(ours), await ask(theirs)];
  const dot = (x, y) => x.reduce((sum, v, i) => sum + v * y[i], 0);
  const square = dot(b.flat(), b.flat()) / b.flat().length;
  return {
    difference: Math.max(...a.flatMap((row, i) => row.map((v, j) => Math.abs(v - b[i][j])))) / Math.sqrt(square),
    cosine: quartiles(a.map((row, i) => dot(row, b[i]) / Math.sqrt(dot(row, row) * dot(b[i], b[i])))),
  };
}

/** [count · d] → count rows of d numbers, the mean row taken off. */
function centred(features, count) {
  const d = features.length / count;
  const rows = Array.from({ length: count }, (_, i) => features.slice(i * d, (i + 1) * d));
  const mean = rows[0].map((_, j) => rows.reduce((sum, row) => sum + row[j], 0) / count);
  return rows.map((row) => row.map((v, j) => v - mean[j]));
}

/** Whether transformers.js is faster with one batch at a time or with the next one begun before. */
async function better(theirs, paths) {
  const seconds = new Map([1, 2].map((ahead) => [ahead, Infinity]));
  for (const ahead of [1, 2, 2, 1]) {
    const { seconds: time } = await theirs.ask('encode', { paths, ahead });
    seconds.set(ahead, Math.min(seconds.get(ahead), time));
  }
  return seconds.get(1) <= seconds.get(2) ? 1 : 2;
}

function print({ peer, ahead, rates, memory, faster, same, resized, competing, discarded, disturbed, loadAverage, rounds }) {
  console.log(table(['', 'pictures/s', 'ms per picture', 'peak memory'], [
    ['Scion', spread(rates.scion, 1), (1e3 / rates.scion.median).toFixed(1), megabytes(memory.scion)],
    [`transformers.js ${peer}`, spread(rates.peer, 1), (1e3 / rates.peer.median).toFixed(1), megabytes(memory.peer)],
  ]));
  console.log(`
Scion has ${spread(faster)} times the rate of transformers.js: medians (quartiles) of ${rounds.length} paired repetitions; \
${discarded} more were left out and ${disturbed} kept although other processes used over ${tolerated} cores.
Other processes: ${spread(quartiles(competing))} cores; load average at the end ${loadAverage.toFixed(2)}.
transformers.js: ${ahead === 1 ? 'one batch at a time' : 'the next batch begun while one runs'}, the faster of the two ways.
Same computation: on the same pixels, features within ${same.difference.toExponential(1)} of their spread over pictures.
On the photographs, which transformers.js resizes without antialiasing, the features' cosines (mean taken off) are \
${spread(resized.cosine, 3)}.
Goal: rate ≥ ${goal.toFixed(1)} ${faster.median >= goal ? 'reached' : 'missed'}.`);
}

/** Where the time goes: the parts alone, and ONNX Runtime's profile of the tower. */
async function printParts(ours, paths, load) {
  let parts;
  await profiled(ours, async (profile, runs) => {
    parts = await ours.ask('parts', { ...load, paths, profile, runs });
  });
  const row = (name, { wall, processors }, n = 1) => [name, (wall / n).toFixed(2), (processors / n).toFixed(2)];
  console.log(`\n${table(['part alone, per picture', 'ms', 'ms of all processors'], [
    row('decode', parts.decode), row('resize, crop, normalise', parts.resize), row('tower', parts.tower, batch),
  ])}\n
The tower: ${(parts.flops / batch / 1e9).toFixed(2)} GFLOP in matrix products per picture.`);
  return parts;
}
