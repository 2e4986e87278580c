// What the machine is and what else it does while something is measured (Linux; elsewhere nothing is known).
import { existsSync, readFileSync } from 'node:fs';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

const known = existsSync('/proc/stat');
const perSecond = 100; // USER_HZ

/** Seconds of processor time that all processes together have used. */
function busySeconds() {
  const [user, nice, system, , , irq, softirq, steal] =
    readFileSync('/proc/stat', 'utf8').match(/^cpu +(.*)/)[1].split(' ').map(Number);
  return (user + nice + system + irq + softirq + steal) / perSecond;
}

/** Seconds of processor time that one process with all its threads has used. */
function ownSeconds(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / perSecond; // utime, stime
}

/**
 * Runs `body`, work of the process `pid`, and tells how many cores everything else used meanwhile; NaN where unknown.
 * @template T
 * @param {number} pid
 * @param {() => Promise<T>} body
 * @returns {Promise<{ result: T, competing: number }>}
 */
export async function watched(pid, body) {
  if (!known) return { result: await body(), competing: NaN };
  const [busy, own, start] = [busySeconds(), ownSeconds(pid), performance.now()];
  const result = await body();
  const wall = (performance.now() - start) / 1e3;
  return { result, competing: Math.max(0, busySeconds() - busy - (ownSeconds(pid) - own)) / wall };
}

/** Waits until nothing has used more than `tolerated` cores for half a second, at most `patience` seconds. */
export async function quiet(tolerated, patience) {
  for (const start = performance.now(); known && performance.now() - start < patience * 1e3;) {
    const busy = busySeconds();
    await sleep(500);
    if (busySeconds() - busy <= 0.5 * tolerated) return;
  }
}

/** Peak resident memory of this process in bytes. */
export function peakMemory() {
  if (!known) throw new Error('peak memory is read from /proc, which this system has not');
  return Number(readFileSync('/proc/self/status', 'utf8').match(/VmHWM:\s+(\d+)/)[1]) * 1024;
}

/** Bytes that a new process may take without swapping. */
export function availableMemory() {
  if (!known) return os.freemem();
  return Number(readFileSync('/proc/meminfo', 'utf8').match(/MemAvailable:\s+(\d+)/)[1]) * 1024;
}

export const cores = os.availableParallelism();

export function machine() {
  return {
    date: new Date().toISOString().slice(0, 10),
    processor: os.cpus()[0]?.model.trim() ?? 'unknown', cores, memoryGb: Math.round(os.totalmem() / 2 ** 30),
    system: `${os.type()} ${os.release()}`, node: process.version,
  };
}

export const describe = (m) =>
  `${m.date}; ${m.processor}, ${m.cores} cores, ${m.memoryGb} GB; ${m.system}; Node ${m.node}`;
