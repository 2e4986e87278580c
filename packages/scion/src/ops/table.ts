/** Every op that Scion knows. An op without a rule does not compile. */
import type { TypeInfo } from '../ir/graph.js';
import type { OpAttributes, OpType } from '../ir/op-types.js';
import { conv } from './conv.js';
import type { OpDef, OpTable } from './def.js';
import { elementwise } from './elementwise.js';
import { indexing } from './indexing.js';
import { matmul } from './matmul.js';
import { normalization } from './normalization.js';
import { quantized } from './quantized.js';
import { reduction } from './reduction.js';
import { shape } from './shape.js';

export const ops = {
  ...elementwise, ...matmul, ...conv, ...normalization, ...reduction, ...shape, ...indexing, ...quantized,
} satisfies OpTable;

const table: OpTable = ops;

/** The definition of an op, with its attributes' type. */
export function opDef<T extends OpType>(op: T): OpDef<OpAttributes[T]> {
  return table[op];
}

/** Output types; a mismatch says which op it was. */
export function inferTypes<T extends OpType>(
  op: T, inputs: readonly TypeInfo[], attributes: OpAttributes[T],
): readonly TypeInfo[] {
  try {
    return opDef(op).infer(inputs, attributes).map(({ dtype, shape }) => ({ dtype, shape }));
  } catch (error) {
    const types = inputs.map((v) => `${v.dtype}[${v.shape.join(', ')}]`).join(', ');
    throw new Error(`${op}(${types}): ${(error as Error).message}`, { cause: error });
  }
}
