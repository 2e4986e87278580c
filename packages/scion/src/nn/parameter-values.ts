/** The values of parameters, read from where they lie. Most stay in their files; methods that start from them ask. */
import { readRange } from '../formats/files.js';
import { assert } from '../util/errors.js';
import { type Shape, type Tensor, arrayOver, float32, toFloat32 } from '../util/tensor.js';
import type { Parameter } from './parameter.js';

/**
 * The value that a parameter has without any training, as float32 of its shape: from its file, whatever its dtype and
 * layout there, or from memory. Of an unfrozen one, the value that it had before.
 * @throws ScionError: `io` where the system refuses, `input` for a file that is cut short
 */
export async function readParameter({ name, shape, origin }: Parameter): Promise<Tensor<'float32'>> {
  const source = origin.kind === 'trained' ? origin.before : origin;
  assert(source, `${name} is new, there is no value of it to read`);
  if (source.kind !== 'external') return toFloat32(source.value);
  const { data, dtype, transposed } = source;
  const stored = toFloat32({ dtype, shape, data: arrayOver(dtype, await readRange(data)) });
  return transposed ? fromColumns(stored.data, shape) : stored;
}

/** A matrix [rows, columns] whose columns are given one after the other. */
export function fromColumns(columns: Float32Array, shape: Shape): Tensor<'float32'> {
  const [rows, width] = shape as [number, number];
  return float32(shape, columns.map((_, i) => columns[(i % width) * rows + Math.floor(i / width)]!));
}
