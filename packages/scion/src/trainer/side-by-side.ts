/** Trainings of a comparison side by side, each with its share of the cores. */
import { withRuntime } from '../runtime/node.js';
import type { Runtime } from '../runtime/session.js';
import { ScionError } from '../util/errors.js';
import { cores } from './train.js';
import type { Machine } from './pictures.js';

/** One thread compiles and scores for all runtimes, which more than this many would wait for. */
const mostSideBySide = 4;

export interface SideBySideOptions<P> {
  machine: Machine;
  /** Released sessions that each runtime keeps for the next training. */
  keep?: number;
  signal: AbortSignal | undefined;
  /** @param threads of this training */
  train: (runtime: Runtime, plan: P, threads: number) => Promise<void>;
  /** A training that failed and is left out. */
  failed: (plan: P, error: ScionError) => void;
}

/**
 * Trains what is planned, in its order. A failure of one ends nothing else, unless it is no fault of its recipe or the
 * system refuses.
 * @returns the failures
 */
export async function trainSideBySide<P>(
  plans: readonly P[], { machine: { threads: wanted, device }, keep = 0, signal, train, failed }: SideBySideOptions<P>,
): Promise<ScionError[]> {
  const failures: ScionError[] = [];
  const available = cores();
  const sideBySide = Math.min(mostSideBySide, plans.length, wanted === undefined ? available
    : Math.max(1, Math.floor(available / wanted)));
  const threads = wanted ?? Math.max(1, Math.floor(available / Math.max(1, sideBySide)));
  const queue = plans[Symbol.iterator]();
  let broken = false;
  const work = async (runtime: Runtime): Promise<void> => {
    try {
      for (const plan of queue) {
        if (signal?.aborted || broken) return;
        try {
          await train(runtime, plan, threads);
        } catch (error) {
          // what is done already is not lost for one training that failed
          if (!(error instanceof ScionError) || error.kind === 'io') throw error;
          if (error.kind === 'interrupted') return;
          failures.push(error);
          failed(plan, error);
        }
      }
    } catch (error) {
      broken = true;
      throw error;
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: sideBySide }, () => withRuntime({ keep, device }, work)));
  for (const end of ended) if (end.status === 'rejected') throw end.reason;
  return failures;
}
