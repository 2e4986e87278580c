/** SHA-256 of tensors that are in memory. */
import { createHash } from 'node:crypto';
import type { Tensor } from '../util/tensor.js';

/** In hexadecimal, of names, shapes and contents whatever their order; `seed` tells apart what else decides. */
export function digestOfTensors(tensors: Iterable<readonly [string, Tensor]>, seed: string): string {
  const hash = createHash('sha256').update(seed);
  for (const [name, { dtype, shape, data }] of [...tensors].sort(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(JSON.stringify([name, dtype, shape]));
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex');
}
