/** Elementwise ops of ONNX; activations that the IR has no op for are written with those that it has. */
import type { Value } from '../../ir/graph.js';
import * as b from '../../ops/build.js';
import { isFloat } from '../../ops/elementwise.js';
import { computed } from '../dtypes.js';
import { type Call, type Converter, valueOf } from './call.js';
import { fusedAdd, fusedDiv, fusedMul } from './fuse.js';

const unary = (f: (x: Value) => Value): Converter => (call) => f(call.input(0));
const binary = (f: (x: Value, y: Value) => Value): Converter => (call) => f(call.input(0), call.input(1));
/** An op over any number of operands. */
const folded = (f: (x: Value, y: Value) => Value): Converter => ({ all }) => all.reduce((x, y) => f(x, y));

const negativePart = (x: Value): Value => b.minimum(x, 0);
const positivePart = (x: Value): Value => b.maximum(x, 0);

/** `above` where x > 0, else `below`; the side that is not taken is computed at a place where it is finite. */
const bySign = (x: Value, above: Value, below: Value): Value => b.where(b.greater(x, 0), above, below);

/** x · min(1, max(0, x / 6 + 1/2)) */
const hardSwish = (x: Value): Value => b.mul(x, b.hardSigmoid(x, 1 / 6, 0.5));
/** α (exp x - 1) of the negative part */
const expm1 = (x: Value, alpha: number): Value => b.mul(b.sub(b.exp(negativePart(x)), 1), alpha);

/** What is left after division, with the sign of the divisor; with `fmod` that of the dividend. */
const mod: Converter = (call) => {
  const [x, y] = [call.input(0), call.input(1)];
  const quotient = b.div(x, y); // of whole numbers: rounded towards 0
  const towardsZero = isFloat(x) ? b.mul(b.sign(quotient), b.floor(b.abs(quotient))) : quotient;
  const rest = b.sub(x, b.mul(towardsZero, y));
  if (call.number('fmod', 0) === 1) return rest;
  if (isFloat(x)) return call.refuse('is a Mod of floats without fmod');
  if (x.dtype.startsWith('uint')) return rest;
  const zero = b.constantLike(x, 0);
  const otherSign = b.and(b.not(b.equal(rest, zero)), b.not(b.equal(b.less(rest, zero), b.less(y, zero))));
  return b.where(otherSign, b.add(rest, y), rest);
};

const pow: Converter = (call) => {
  const x = call.input(0);
  const exponent = valueOf(call.input(1));
  const fixed = exponent?.data.length === 1 && exponent.shape.length <= x.shape.length ? exponent.data[0] : undefined;
  if (fixed === 2) return b.mul(x, x);
  if (fixed === 3) return b.mul(b.mul(x, x), x);
  if (fixed === 0.5 && isFloat(x)) return b.sqrt(x);
  return b.pow(x, b.cast(call.input(1), x.dtype));
};

/** Bounds are attributes up to version 6 and inputs from 11 on, each of which may be left out. */
const clip: Converter = (call) => {
  const x = call.input(0);
  const [low, high] = call.opset < 11
    ? ([['min', -Infinity], ['max', Infinity]] as const).map(([name, absent]) =>
      b.constantLike(x, call.number(name, absent)))
    : [call.optional(1), call.optional(2)];
  const [min, max] = [low && valueOf(low)?.data[0], high && valueOf(high)?.data[0]];
  const limit = 3.4028234663852886e38; // of float32
  if (isFloat(x) && (!low || min !== undefined) && (!high || max !== undefined)) {
    return b.clip(x, Math.max(min ?? -limit, -limit), Math.min(max ?? limit, limit));
  }
  const above = low ? b.maximum(x, low) : x;
  return high ? b.minimum(above, high) : above;
};

const gelu: Converter = (call) => {
  const approximate = call.string('approximate', 'none');
  return b.gelu(call.input(0), approximate === 'tanh' ? 'tanh' : 'none');
};

/** `x · sigmoid(alpha x)` */
const quickGelu: Converter = (call) => b.quickGelu(call.input(0), call.number('alpha', 1.702));

const where: Converter = (call) => b.where(call.input(0), call.input(1), call.input(2));

/** A truth value as a number and back: Cast rounds towards 0, and what is not 0 is true. */
function cast(x: Value, to: Value['dtype']): Value {
  return b.cast(x, computed(to));
}

export const elementwise: Readonly<Record<string, Converter>> = {
  Abs: unary(b.abs), Cos: unary(b.cos), Erf: unary(b.erf), Exp: unary(b.exp), Floor: unary(b.floor), Log: unary(b.log),
  Neg: unary(b.neg), Not: unary(b.not), Reciprocal: unary(b.reciprocal), Relu: unary(b.relu), Sigmoid: unary(b.sigmoid),
  Sign: unary(b.sign), Sin: unary(b.sin), Softplus: unary(b.softplus), Sqrt: unary(b.sqrt), Tanh: unary(b.tanh),
  Round: unary(b.round),
  Identity: unary((x) => x),
  Ceil: unary((x) => b.neg(b.floor(b.neg(x)))),
  Add: binary((x, y) => fusedAdd(x, y) ?? b.add(x, y)),
  Sub: binary(b.sub),
  Mul: binary((x, y) => fusedMul(x, y) ?? b.mul(x, y)),
  Div: binary((x, y) => fusedDiv(x, y) ?? b.div(x, y)),
  And: binary(b.and), Or: binary(b.or), Equal: binary(b.equal), Greater: binary(b.greater), Less: binary(b.less),
  GreaterOrEqual: binary(b.greaterOrEqual), LessOrEqual: binary(b.lessOrEqual),
  Xor: binary((x, y) => b.not(b.equal(x, y))),
  Sum: folded(b.add), Max: folded(b.maximum), Min: folded(b.minimum),
  Mean: (call) => b.div(folded(b.add)(call) as Value, call.all.length),
  Mod: mod,
  Pow: pow,
  Where: where,
  Clip: clip,
  Cast: (call) => cast(call.input(0), call.dtype('to', 'float32')),
  CastLike: (call) => cast(call.input(0), call.input(1).dtype),
  /** Only a NaN differs from itself. */
  IsNaN: unary((x) => b.not(b.equal(x, x))),
  IsInf: unary((x) => b.equal(b.abs(x), Infinity)),
  // as in inference
  Dropout: (call) => {
    const training = call.optional(2);
    const off = !training || valueOf(training)?.data[0] === 0;
    return off ? call.input(0) : call.refuse('drops elements as in training; export the model in eval mode');
  },
  Elu: (call) => bySign(call.input(0), call.input(0), expm1(call.input(0), call.number('alpha', 1))),
  Celu: (call) => {
    const [x, alpha] = [call.input(0), call.number('alpha', 1)];
    return b.add(positivePart(x), expm1(b.mul(x, 1 / alpha), alpha));
  },
  Selu: (call) => {
    const x = call.input(0);
    const [alpha, gamma] = [call.number('alpha', 1.6732632423543772), call.number('gamma', 1.0507009873554805)];
    return b.mul(bySign(x, x, expm1(x, alpha)), gamma);
  },
  LeakyRelu: (call) => {
    const x = call.input(0);
    return bySign(x, x, b.mul(x, call.number('alpha', 0.01)));
  },
  PRelu: (call) => bySign(call.input(0), call.input(0), b.mul(call.input(0), call.input(1))),
  ThresholdedRelu: (call) => b.where(b.greater(call.input(0), call.number('alpha', 1)), call.input(0), 0),
  HardSigmoid: (call) => b.hardSigmoid(call.input(0), call.number('alpha', 0.2), call.number('beta', 0.5)),
  HardSwish: unary(hardSwish),
  Mish: unary((x) => b.mul(x, b.tanh(b.softplus(x)))),
  Softsign: unary((x) => b.div(x, b.add(b.abs(x), 1))),
  Gelu: gelu,
};

/** Of the domain com.microsoft. */
export const contribElementwise: Readonly<Record<string, Converter>> = {
  Gelu: gelu,
  QuickGelu: quickGelu,
  FastGelu: (call: Call) => {
    const bias = call.optional(1);
    return b.gelu(bias ? b.add(call.input(0), bias) : call.input(0), 'tanh');
  },
  BiasGelu: (call: Call) => b.gelu(b.add(call.input(0), call.input(1))),
};
