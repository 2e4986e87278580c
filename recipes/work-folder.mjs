// The work folder of a training that can be stopped: its checkpoint, its log, and the runtime that it goes on with.
import { appendFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { nodeRuntime, readSafetensors, writeSafetensors } from 'scion-peft';

export async function openWork(folder) {
  const checkpoint = join(folder, 'checkpoint.safetensors');
  const saved = existsSync(checkpoint) ? await readSafetensors(checkpoint) : undefined;
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  process.once('SIGTERM', () => stop.abort());
  return {
    /** Where the training goes on; undefined where it begins. */
    resume: saved && { step: Number(saved.metadata.step), state: Object.fromEntries(saved.tensors) },
    /** The tensors of the last checkpoint. */
    read: async () => (await readSafetensors(checkpoint)).tensors,
    save: (step, state) => writeSafetensors(checkpoint, state, { step: String(step) }),
    log: (line) => appendFileSync(join(folder, 'metrics.jsonl'), `${JSON.stringify(line)}\n`),
    runtime: nodeRuntime(),
    signal: stop.signal,
  };
}
