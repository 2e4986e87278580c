/** How prompts, and what comes with them, are laid out for the programs. */
import type { Tensors } from '../../runtime/session.js';
import { type Tensor, bytesOf, float32, int64, zeros } from '../../util/tensor.js';

/** Rows `from` on of every tensor, `count` of them; what is missing is filled up with the first. */
export function pickRows(inputs: Tensors, from: number, count: number): Tensors {
  return Object.fromEntries(Object.entries(inputs).map(([name, tensor]): [string, Tensor] => {
    const [given, ...shape] = tensor.shape as [number, ...number[]];
    const out = zeros(tensor.dtype, [count, ...shape]);
    const [source, target] = [bytesOf(tensor), bytesOf(out)];
    const size = target.length / count;
    for (let i = 0; i < count; i++) {
      const row = from + i < given ? from + i : from;
      target.set(source.subarray(row * size, (row + 1) * size), i * size);
    }
    return [name, out];
  }));
}

/**
 * The prompts of a batch as the first program reads them: those of a decoder end at the same place (`left`: padding comes
 * before), those of an encoder begin there.
 */
export function layOut(
  prompts: readonly (readonly number[])[], length: number, prefix: number, pad: number, left: boolean,
): { feeds: Tensors; mask: Float32Array } {
  const [batch, count] = [prompts.length, prefix + length];
  const ids = new Array<number>(batch * length).fill(pad);
  const mask = new Float32Array(batch * count);
  const positions = new Array<number>(count * batch).fill(0);
  prompts.forEach((prompt, i) => {
    const offset = left ? length - prompt.length : 0;
    prompt.forEach((word, j) => { ids[i * length + offset + j] = word; });
    mask.fill(1, i * count, i * count + prefix);
    mask.fill(1, i * count + prefix + offset, i * count + prefix + offset + prompt.length);
    let place = 0;
    for (let j = 0; j < count; j++) if (mask[i * count + j]) positions[j * batch + i] = place++;
  });
  return {
    mask,
    feeds: {
      ids: int64([batch, length], ids), mask: float32([batch, count], mask),
      ...(left && { positions: int64([count, batch], positions) }),
    },
  };
}
