/**
 * Holds a computation back until the backward pass has come to it. ONNX Runtime would merge a second computation of a
 * forward value with the first (they are the same op on the same inputs), or run it early. So one of its inputs is
 * multiplied by a 1 that depends on what must be done before.
 */
import type { Node, Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import type { DType } from '../util/tensor.js';

/** Whether a node was built by a gradient; `autodiff` marks the path. */
export const isBackward = (node: Node): boolean => node.path.includes('backward');

/** Element types that a value can be held back in: those that ONNX Runtime multiplies. */
const multiplied: ReadonlySet<DType> = new Set<DType>(['float32', 'int32', 'int64', 'uint32']);

export const canWait = (v: Value): boolean => multiplied.has(v.dtype);

/** A scalar 1 that is known once all of the values, float32, are: an element of each, their sum clipped to [1, 1]. */
export function oneAfter(values: readonly Value[]): Value {
  const elements = values.map((v) => {
    const axes = v.shape.map((_, axis) => axis);
    const [first, last] = [axes.map(() => 0), axes.map(() => 1)];
    return axes.length === 0 ? v
      : b.reshape(b.apply('Slice', [v], { starts: first, ends: last, axes, steps: last })[0]!, []);
  });
  return b.clip(elements.reduce((sum, v) => b.add(sum, v)), 1, 1);
}

/** v itself, known only once `one` is. */
export const after = (one: Value, v: Value): Value => b.mul(v, b.cast(one, v.dtype));
