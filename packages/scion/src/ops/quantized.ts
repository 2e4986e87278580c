/** Ops on whole-number activations and weights. They round, so that no gradient passes them. */
import type { OpAttributes } from '../ir/op-types.js';
import { assert } from '../util/errors.js';
import { conv } from './conv.js';
import { type OpDef, type RefTensor, broadcastIndex } from './def.js';
import { roundHalfEven } from './elementwise.js';
import { matmul } from './matmul.js';

const clamp = (x: number): number => Math.max(0, Math.min(255, x));

/** A tensor less its zero point, a scalar or one per place of the last axis. */
function centred(x: RefTensor, zero: RefTensor): RefTensor {
  const at = broadcastIndex(x.shape, zero.shape);
  return { ...x, data: x.data.map((v, i) => v - zero.data[at[i]!]!) };
}

const bytes = (...types: readonly { dtype: string }[]): void => {
  for (const { dtype } of types) {
    assert(dtype === 'uint8' || dtype === 'int8', `an operand of ${dtype}, expected 8 bits`);
  }
};

type Family = 'DynamicQuantizeLinear' | 'MatMulInteger' | 'ConvInteger';

export const quantized: { [T in Family]: OpDef<OpAttributes[T]> } = {
  DynamicQuantizeLinear: {
    // whole numbers, scale and zero point, by the range of the values, 0 always in it
    infer: ([x]) => [
      { dtype: 'uint8', shape: x!.shape }, { dtype: 'float32', shape: [] }, { dtype: 'uint8', shape: [] },
    ],
    evaluate: ([x]) => {
      const min = x!.data.reduce((a, c) => Math.min(a, c), 0);
      const max = x!.data.reduce((a, c) => Math.max(a, c), 0);
      const scale = min === max ? 1 : (max - min) / 255;
      const zero = clamp(roundHalfEven(-min / scale));
      const whole = x!.data.map((v) => clamp(roundHalfEven(v / scale) + zero));
      return [whole, Float64Array.of(scale), Float64Array.of(zero)];
    },
    vjp: 'nondifferentiable',
  },
  MatMulInteger: {
    infer: ([x, w, zx, zw]) => {
      bytes(x!, w!, zx!, zw!);
      return matmul.MatMul.infer([x!, w!], {}).map(({ shape }) => ({ dtype: 'int32', shape }));
    },
    evaluate: ([x, w, zx, zw], _, outputs) => matmul.MatMul.evaluate([centred(x!, zx!), centred(w!, zw!)], {}, outputs),
    vjp: 'nondifferentiable',
  },
  ConvInteger: {
    infer: ([x, w, zx, zw], a) => {
      bytes(x!, w!, zx!, zw!);
      return conv.Conv.infer([x!, w!], a).map(({ shape }) => ({ dtype: 'int32', shape }));
    },
    // padding counts as the zero point, as in the convolution of what is centred
    evaluate: ([x, w, zx, zw], a, outputs) => conv.Conv.evaluate([centred(x!, zx!), centred(w!, zw!)], a, outputs),
    vjp: 'nondifferentiable',
  },
};
