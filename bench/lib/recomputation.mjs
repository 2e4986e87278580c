// What recomputing activations costs and saves: the same training step with and without, in pairs.
import os from 'node:os';
import { megabytes, percent, spread, table } from './markdown.mjs';
import { quartiles, repeat, tolerated } from './pairs.mjs';

/** Less memory by at least a third for at most 40 % more time. */
const goal = { memory: 2 / 3, time: 1.4 };
/** Steps of one repetition, and steps until the peak stands: JavaScript frees late. */
const [calls, steps] = [1, 10];

/**
 * Measures and prints. A side answers `train` with seconds and loss, and `memory` with its peak.
 * @param {(recompute: boolean) => Promise<ReturnType<typeof import('./processes.mjs').start>>} open a loaded side in a
 *   process of its own
 * @param {number} wanted paired repetitions
 */
export async function recomputation(open, wanted) {
  const losses = { kept: [], recomputed: [] };
  const sides = {};
  for (const name of ['kept', 'recomputed']) {
    const side = await open(name === 'recomputed');
    const run = async () => {
      let seconds = 0;
      for (let i = 0; i < calls; i++) {
        const answer = await side.ask('train');
        seconds += answer.seconds / calls;
        losses[name].push(answer.loss);
      }
      return { seconds };
    };
    sides[name] = { pid: side.pid, side, run };
  }
  const repeated = await repeat(sides, { wanted });
  const loadAverage = os.loadavg()[0];
  for (const { side } of Object.values(sides)) await side.quit();
  const difference = Math.max(...losses.kept.map((loss, i) => Math.abs(losses.recomputed[i] - loss) / Math.abs(loss)));
  if (!(difference <= 1e-6)) throw new Error(`the losses differ by ${difference}: not the same step`);

  const memory = {};
  for (const name of ['kept', 'recomputed']) {
    const side = await open(name === 'recomputed');
    for (let i = 0; i < steps; i++) await side.ask('train');
    memory[name] = (await side.ask('memory')).peak_rss_bytes;
    await side.quit();
  }
  const { rounds } = repeated;
  const result = {
    ...repeated, loadAverage, difference, memory,
    seconds: {
      kept: quartiles(rounds.map((r) => r.kept.seconds)), recomputed: quartiles(rounds.map((r) => r.recomputed.seconds)),
    },
    ratio: { time: quartiles(rounds.map((r) => r.recomputed.seconds / r.kept.seconds)), memory: memory.recomputed / memory.kept },
  };
  print(result);
  return result;
}

function print({ seconds, memory, ratio, difference, rounds, discarded, disturbed, competing, loadAverage }) {
  console.log(table(['activations', 'step, s', 'peak memory'], [
    ['kept', spread(seconds.kept, 3), megabytes(memory.kept)],
    ['recomputed', spread(seconds.recomputed, 3), megabytes(memory.recomputed)],
    ['ratio', spread(ratio.time), ratio.memory.toFixed(3)],
  ]));
  const verdict = (ok) => (ok ? 'reached' : 'missed');
  console.log(`
Medians (quartiles) of ${rounds.length} paired repetitions; ${discarded} more were left out and ${disturbed} kept although \
other processes used over ${tolerated} cores.
Other processes: ${spread(quartiles(competing))} cores; load average at the end ${loadAverage.toFixed(2)}.
Losses of all steps within ${difference.toExponential(1)} (relative).
Goals: memory at most ${percent(goal.memory)} ${verdict(ratio.memory <= goal.memory)}; time at most ${goal.time} \
${verdict(ratio.time.median <= goal.time)}.`);
}
