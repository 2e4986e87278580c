/** Metrics of tasks with words, in words. */
import { percent } from '../output.js';

/** As published tables have them: shares in percent, CIDEr-D times 100. */
export function metricsText(metrics: Readonly<Record<string, number>>): string {
  return Object.entries(metrics)
    .map(([name, value]) => (name === 'accuracy' ? `accuracy ${percent(value)}` : `${name} ${(100 * value).toFixed(1)}`)).join(', ');
}
