/** Elementwise ops with one input, and those that broadcast two. */
import type { TypeInfo, Value } from '../ir/graph.js';
import type { OpAttributes, OpType } from '../ir/op-types.js';
import { assert } from '../util/errors.js';
import { fromFloat64, toFloat64 } from '../util/tensor.js';
import * as b from './build.js';
import { type OpDef, type Vjp, broadcastIndex, broadcastShapes } from './def.js';

const sqrt2 = Math.SQRT2;
const twoOverSqrtPi = 2 / Math.sqrt(Math.PI);

/** The error function to double precision: a series near 0, a continued fraction beyond. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a < 2.5) {
    let term = a;
    let sum = a;
    for (let n = 1; Math.abs(term) > 1e-17 * sum; n++) {
      term *= (-a * a) / n;
      sum += term / (2 * n + 1);
    }
    return Math.sign(x) * twoOverSqrtPi * sum;
  }
  if (a > 6) return Math.sign(x);
  let fraction = a;
  for (let k = 60; k >= 1; k--) fraction = a + k / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * fraction));
}

/** Rounds to the nearest whole number, halves to the even one. */
export function roundHalfEven(x: number): number {
  const r = Math.round(x);
  return r - x === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** One input, one output of the same type; `df` is the derivative times the cotangent. */
function unary<A>(
  f: (x: number, attributes: A) => number,
  df: ((x: Value, y: Value, dy: Value, attributes: A) => Value) | 'nondifferentiable',
  onnx?: OpDef<A>['onnx'],
): OpDef<A> {
  return {
    infer: ([x]) => [x!],
    evaluate: ([x], attributes) => [x!.data.map((v) => f(v, attributes))],
    vjp: df === 'nondifferentiable'
      ? df
      : ({ inputs: [x], outputs: [y], attributes, dy }) => [() => df(x!, y!, dy, attributes)],
    ...(onnx ? { onnx } : {}),
  };
}

/** Two operands with broadcasting; the derivatives are unbroadcast here. */
function binary(
  f: (a: number, b: number) => number,
  df: ((a: Value, b: Value, y: Value, dy: Value) => readonly [() => Value, () => Value]) | 'nondifferentiable',
  result?: 'bool',
): OpDef<Record<string, never>> {
  const vjp: Vjp<unknown> | 'nondifferentiable' = df === 'nondifferentiable' ? df : ({ inputs, outputs, dy }) =>
    df(inputs[0]!, inputs[1]!, outputs[0]!, dy).map((g, i) => () => b.unbroadcast(g(), inputs[i]!));
  return {
    infer: ([x, y]) => {
      assert(x!.dtype === y!.dtype, `operands of ${x!.dtype} and ${y!.dtype}`);
      return [{ dtype: result ?? x!.dtype, shape: broadcastShapes(x!.shape, y!.shape) }];
    },
    evaluate: ([x, y], _, [out]) => {
      const [ix, iy] = [broadcastIndex(out!.shape, x!.shape), broadcastIndex(out!.shape, y!.shape)];
      return [Float64Array.from(ix, (i, k) => f(x!.data[i]!, y!.data[iy[k]!]!))];
    },
    vjp,
  };
}

const compare = (f: (a: number, b: number) => boolean): OpDef<Record<string, never>> =>
  binary((x, y) => Number(f(x, y)), 'nondifferentiable', 'bool');

/** The cotangent where `condition` holds, else 0. */
const only = (condition: Value, dy: Value): Value => b.where(condition, dy, 0);

/** Φ'(x) for the exact form: the normal density, as few full-size operations as ONNX allows. */
function geluGrad(x: Value, dy: Value, approximate: 'none' | 'tanh'): Value {
  if (approximate === 'none') {
    // with z = x/√2: y' = ½(1 + erf z) + z·exp(-z²)/√π; HardSigmoid is ½e + ½ in one pass, exact on [-1, 1]
    const z = b.mul(x, 1 / sqrt2);
    const cdf = b.hardSigmoid(b.erf(z), 0.5, 0.5);
    const density = b.mul(b.exp(b.neg(b.mul(z, z))), b.mul(z, 1 / Math.sqrt(Math.PI)));
    return b.mul(dy, b.add(cdf, density));
  }
  // y = x·½(1 + tanh u), u = k(x + c x³): y' = ½(1 + t) + ½ x (1 - t²) k (1 + 3 c x²)
  const [k, c] = [Math.sqrt(2 / Math.PI), 0.044715];
  const x2 = b.mul(x, x);
  const t = b.tanh(b.mul(b.mul(x, b.add(b.mul(x2, c), 1)), k));
  const du = b.add(b.mul(x2, 3 * c * k), k);
  const slope = b.mul(b.mul(x, b.sub(1, b.mul(t, t))), du);
  return b.mul(dy, b.mul(b.add(b.add(t, 1), slope), 0.5));
}

const shiftLimit = 2 ** 32;

type Family = Extract<OpType,
  | 'Abs' | 'Cos' | 'Erf' | 'Exp' | 'Floor' | 'Identity' | 'Log' | 'Neg' | 'Not' | 'Reciprocal' | 'Relu' | 'Round'
  | 'Sigmoid' | 'Sign' | 'Sin' | 'Softplus' | 'Sqrt' | 'Tanh' | 'Cast' | 'Clip' | 'Gelu' | 'HardSigmoid' | 'QuickGelu'
  | 'Add' | 'Sub' | 'Mul' | 'Div' | 'Pow' | 'Max' | 'Min' | 'And' | 'Or' | 'Equal' | 'Greater' | 'GreaterOrEqual' | 'Less'
  | 'LessOrEqual' | 'BitwiseXor' | 'BitShift' | 'Where'>;

export const elementwise: { [T in Family]: OpDef<OpAttributes[T]> } = {
  Abs: unary(Math.abs, (x, _, dy) => b.mul(dy, b.sign(x))),
  Cos: unary(Math.cos, (x, _, dy) => b.neg(b.mul(dy, b.sin(x)))),
  Erf: unary(erf, (x, _, dy) => b.mul(dy, b.mul(b.exp(b.neg(b.mul(x, x))), twoOverSqrtPi))),
  Exp: unary(Math.exp, (_, y, dy) => b.mul(dy, y)),
  Floor: unary(Math.floor, 'nondifferentiable'),
  Identity: unary((x) => x, (_x, _y, dy) => dy),
  Log: unary(Math.log, (x, _, dy) => b.div(dy, x)),
  Neg: unary((x) => -x, (_x, _y, dy) => b.neg(dy)),
  Not: unary((x) => Number(x === 0), 'nondifferentiable'),
  Reciprocal: unary((x) => 1 / x, (_, y, dy) => b.neg(b.mul(dy, b.mul(y, y)))),
  Relu: unary((x) => Math.max(x, 0), (x, _, dy) => only(b.greater(x, 0), dy)),
  Round: unary(roundHalfEven, 'nondifferentiable'),
  Sigmoid: unary(sigmoid, (_, y, dy) => b.mul(dy, b.mul(y, b.sub(1, y)))),
  Sign: unary(Math.sign, 'nondifferentiable'),
  Sin: unary(Math.sin, (x, _, dy) => b.mul(dy, b.cos(x))),
  Softplus: unary(
    (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))), (x, _, dy) => b.mul(dy, b.sigmoid(x))),
  Sqrt: unary(Math.sqrt, (_, y, dy) => b.div(b.mul(dy, 0.5), y)),
  Tanh: unary(Math.tanh, (_, y, dy) => b.mul(dy, b.sub(1, b.mul(y, y)))),

  Cast: {
    infer: ([x], { to }) => [{ dtype: to, shape: x!.shape }],
    // through the target type and back, so that rounding and truncation are the real ones
    evaluate: ([x], { to }) => [
      to === 'float32' || to === 'float64' ? x!.data : toFloat64(fromFloat64(to, x!.shape, x!.data)),
    ],
    vjp: ({ inputs: [x], dy }) => [isFloat(x!) ? () => b.cast(dy, x!.dtype) : undefined],
  },
  Clip: unary(
    (x, { min, max }) => Math.min(Math.max(x, min), max),
    (x, _, dy, { min, max }) => only(b.and(b.greaterOrEqual(x, min), b.lessOrEqual(x, max)), dy),
    { inputs: [{ attribute: 'min', as: 'like' }, { attribute: 'max', as: 'like' }] }),
  Gelu: unary(
    (x, { approximate }) => approximate === 'none'
      ? 0.5 * x * (1 + erf(x / sqrt2))
      : 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
    (x, _, dy, { approximate }) => geluGrad(x, dy, approximate)),
  HardSigmoid: unary(
    (x, { alpha, beta }) => Math.max(0, Math.min(1, alpha * x + beta)),
    (_, y, dy, { alpha }) => only(b.and(b.greater(y, 0), b.less(y, 1)), b.mul(dy, alpha))),
  QuickGelu: unary(
    (x, { alpha }) => x * sigmoid(alpha * x),
    // with s = sigmoid(alpha x): y' = s + alpha·y·(1 - s)
    (x, y, dy, { alpha }) => {
      const s = b.sigmoid(b.mul(x, alpha));
      return b.mul(dy, b.add(s, b.mul(b.mul(y, alpha), b.sub(1, s))));
    },
    { domain: 'com.microsoft' }),

  Add: binary((x, y) => x + y, (_a, _b, _y, dy) => [() => dy, () => dy]),
  Sub: binary((x, y) => x - y, (_a, _b, _y, dy) => [() => dy, () => b.neg(dy)]),
  Mul: {
    ...binary((x, y) => x * y, (x, y, _, dy) => [() => b.mul(dy, y), () => b.mul(dy, x)]),
    // integers wrap around, as the counter-based generators need
    evaluate: ([x, y], _, [out]) => {
      const [ix, iy] = [broadcastIndex(out!.shape, x!.shape), broadcastIndex(out!.shape, y!.shape)];
      const wraps = out!.dtype === 'uint32';
      return [Float64Array.from(ix, (i, k) => {
        const [p, q] = [x!.data[i]!, y!.data[iy[k]!]!];
        return wraps ? Math.imul(p, q) >>> 0 : p * q;
      })];
    },
  },
  Div: {
    ...binary((x, y) => x / y, (_, y, q, dy) => [() => b.div(dy, y), () => b.neg(b.div(b.mul(dy, q), y))]),
    // whole numbers round towards 0
    evaluate: ([x, y], _, [out]) => {
      const [ix, iy] = [broadcastIndex(out!.shape, x!.shape), broadcastIndex(out!.shape, y!.shape)];
      const quotient = (i: number, k: number): number => x!.data[i]! / y!.data[iy[k]!]!;
      return [Float64Array.from(ix, isFloat(out!) ? quotient : (i, k) => Math.trunc(quotient(i, k)))];
    },
  },
  Pow: binary((x, y) => x ** y, (x, y, z, dy) => [
    // 0 where the power does not depend on the operand, though one factor is infinite there
    () => b.where(b.equal(y, 0), 0, b.mul(dy, b.mul(y, b.pow(x, b.sub(y, 1))))),
    () => b.where(b.equal(x, 0), 0, b.mul(dy, b.mul(z, b.log(x)))),
  ]),
  // a tie gives the whole cotangent to the first operand
  Max: binary(Math.max, (x, y, _, dy) => [
    () => only(b.greaterOrEqual(x, y), dy), () => only(b.greater(y, x), dy),
  ]),
  Min: binary(Math.min, (x, y, _, dy) => [() => only(b.lessOrEqual(x, y), dy), () => only(b.less(y, x), dy)]),
  And: compare((x, y) => x !== 0 && y !== 0),
  Or: compare((x, y) => x !== 0 || y !== 0),
  Equal: compare((x, y) => x === y),
  Greater: compare((x, y) => x > y),
  GreaterOrEqual: compare((x, y) => x >= y),
  Less: compare((x, y) => x < y),
  LessOrEqual: compare((x, y) => x <= y),
  BitwiseXor: binary((x, y) => (x ^ y) >>> 0, 'nondifferentiable'),
  BitShift: {
    infer: ([x, y]) => [{ dtype: x!.dtype, shape: broadcastShapes(x!.shape, y!.shape) }],
    evaluate: ([x, y], { direction }, [out]) => {
      const [ix, iy] = [broadcastIndex(out!.shape, x!.shape), broadcastIndex(out!.shape, y!.shape)];
      return [Float64Array.from(ix, (i, k) => {
        const by = 2 ** y!.data[iy[k]!]!;
        return direction === 'RIGHT' ? Math.floor(x!.data[i]! / by) : (x!.data[i]! * by) % shiftLimit;
      })];
    },
    vjp: 'nondifferentiable',
  },
  Where: {
    infer: ([c, x, y]) => {
      assert(c!.dtype === 'bool' && x!.dtype === y!.dtype, `Where(${c!.dtype}, ${x!.dtype}, ${y!.dtype})`);
      return [{ dtype: x!.dtype, shape: broadcastShapes(c!.shape, broadcastShapes(x!.shape, y!.shape)) }];
    },
    evaluate: ([c, x, y], _, [out]) => {
      const [ic, ix, iy] = [c!, x!, y!].map((t) => broadcastIndex(out!.shape, t.shape));
      return [Float64Array.from(ic!, (i, k) => (c!.data[i] ? x!.data[ix![k]!]! : y!.data[iy![k]!]!))];
    },
    vjp: ({ inputs: [c, x, y], dy }) => [
      undefined,
      () => b.unbroadcast(b.where(c!, dy, 0), x!),
      () => b.unbroadcast(b.where(c!, 0, dy), y!),
    ],
  },
};

/** Types that carry a gradient. */
export function isFloat(type: TypeInfo): boolean {
  return /float/.test(type.dtype);
}
