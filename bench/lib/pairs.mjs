// Paired repetitions: both sides in turn, under the same conditions, and again where something else used the machine.
import { setTimeout as sleep } from 'node:timers/promises';
import { quiet, watched } from './machine.mjs';

/** More than this many cores used by other processes disturb a repetition. */
export const tolerated = 0.15;

/**
 * Runs every side once per round, in alternating order, until `wanted` rounds were undisturbed or 3 × `wanted` were
 * made; then the least disturbed ones fill up.
 * @param {Record<string, { pid: number, run: () => Promise<object> }>} sides
 * @param {{ wanted: number, warmUp?: number }} options
 * @returns {Promise<{ rounds: Record<string, any>[], competing: number[], discarded: number, disturbed: number }>}
 *   the results by side, the cores that others used in each, how many rounds were left out, how many were kept
 *   although disturbed
 */
export async function repeat(sides, { wanted, warmUp = 2 }) {
  for (let i = 0; i < warmUp; i++) for (const side of Object.values(sides)) await side.run();
  const all = [];
  const calm = () => all.filter((r) => !(r.competing > tolerated));
  while (calm().length < wanted && all.length < 3 * wanted) {
    const order = Object.entries(sides);
    if (all.length % 2) order.reverse();
    const round = { results: {}, competing: 0 };
    await quiet(tolerated, 10);
    for (const [name, { pid, run }] of order) {
      await sleep(250); // the other side's threads spin for a while after their work
      const { result, competing } = await watched(pid, run);
      round.results[name] = result;
      round.competing = Math.max(round.competing, competing);
    }
    all.push(round);
    const others = `others used ${round.competing.toFixed(2)} cores`;
    console.error(`pair ${all.length}: ${others}; ${calm().length} of ${wanted} undisturbed`);
  }
  const kept = [...all].sort((a, b) => (a.competing - b.competing) || 0).slice(0, wanted);
  return {
    rounds: all.filter((r) => kept.includes(r)).map((r) => r.results),
    competing: kept.map((r) => r.competing),
    discarded: all.length - kept.length,
    disturbed: kept.filter((r) => r.competing > tolerated).length,
  };
}

/** Median and quartiles (linear interpolation). */
export function quartiles(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q) => {
    const i = q * (sorted.length - 1);
    const low = sorted[Math.floor(i)];
    return low + (i % 1) * (sorted[Math.ceil(i)] - low);
  };
  return { median: at(0.5), low: at(0.25), high: at(0.75) };
}
