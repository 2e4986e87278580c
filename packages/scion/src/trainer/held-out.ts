/** What a method says about rows that it was not trained on, for its calibration. */
import type { Runtime, SessionOptions, Tensors } from '../runtime/session.js';
import { type Calibration, calibrate } from '../tasks/calibration.js';
import type { Classifying } from './adapted.js';
import { openClassifier } from './classifier.js';
import type { Prepared } from './select.js';

/**
 * Calibrates on the validation rows of all pairs together: a held-out set, or every fold by the training without it.
 * @param pairs with the module on each pair's training rows, and what was trained on them
 */
export async function calibrateHeldOut(
  runtime: Runtime,
  pairs: readonly { val: Prepared['pairs'][number]['val']; module: Classifying; values: Tensors }[],
  options: SessionOptions,
): Promise<Calibration> {
  const parts: Float32Array[] = [];
  for (const { val, module, values } of pairs) {
    const classifier = await openClassifier(runtime, module, values, options);
    try {
      parts.push(await classifier.logits(val));
    } finally {
      await classifier.release();
    }
  }
  const labels = Int32Array.from(pairs.flatMap(({ val }) => [...val.labels]));
  const logits = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => {
    logits.set(part, at);
    return at + part.length;
  }, 0);
  return calibrate(logits, labels, logits.length / labels.length);
}
