/** Whole-number weights and activations. No gradient passes the ops that round activations. */
import type { Value } from '../../ir/graph.js';
import * as b from '../../ops/build.js';
import type { Call, Converter } from './call.js';

/** A scale or zero point per place of an axis, ready to broadcast. */
function along(call: Call, v: Value, x: Value): Value {
  if (v.shape.length === 0 || (v.shape.length === 1 && v.shape[0] === 1)) return b.reshape(v, []);
  const axis = call.axis(1, x);
  if (v.shape.length === 1 && v.shape[0] === x.shape[axis]) {
    return b.reshape(v, x.shape.map((d, i) => (i === axis ? d : 1)));
  }
  const [given, whole] = [v.shape.join(', '), x.shape.join(', ')];
  return call.refuse(`has scales of shape [${given}] for [${whole}]; supported is one per tensor or axis`);
}

/** `(x - zero point) · scale` */
const dequantize: Converter = (call) => {
  const [x, scale, zero] = [call.input(0), call.input(1), call.optional(2)];
  call.only('block_size', 0);
  const centred = zero ? b.sub(b.cast(x, 'float32'), b.cast(along(call, zero, x), 'float32')) : b.cast(x, 'float32');
  return b.mul(centred, along(call, scale, x));
};

const limits: Readonly<Record<string, readonly [number, number]>> = {
  uint8: [0, 255], int8: [-128, 127], uint16: [0, 65535], int16: [-32768, 32767],
};

/** `round(x / scale) + zero point`, within the type */
const quantize: Converter = (call) => {
  const [x, scale, zero] = [call.input(0), call.input(1), call.optional(2)];
  call.only('block_size', 0);
  const type = zero?.dtype ?? 'uint8';
  const [min, max] = limits[type] ?? call.refuse(`rounds to ${type}; supported are ${Object.keys(limits).join(', ')}`);
  const steps = b.round(b.div(x, along(call, scale, x)));
  return b.cast(b.clip(zero ? b.add(steps, b.cast(along(call, zero, x), x.dtype)) : steps, min, max), type);
};

/** Zero points that are left out are 0. */
const integerProduct = (f: (x: Value, w: Value, zeros: readonly [Value, Value]) => Value): Converter => (call) => {
  const [x, w] = [call.input(0), call.input(1)];
  const zeroOf = (i: number, like: Value): Value => call.optional(i) ?? b.constantLike(like, 0);
  return f(x, w, [zeroOf(2, x), zeroOf(3, w)]);
};

const convInteger: Converter = (call) => {
  const w = call.input(1);
  if (w.shape.length !== 4) return call.refuse(`has a kernel of rank ${w.shape.length}; supported is 4`);
  call.only('auto_pad', 'NOTSET');
  const x = call.input(0);
  const zero = (i: number, like: Value): Value => call.optional(i) ?? b.constantLike(like, 0);
  const weightZero = zero(3, w);
  return b.apply('ConvInteger', [x, w, zero(2, x), weightZero.shape.length === 1 && weightZero.shape[0] === 1
    ? b.reshape(weightZero, []) : weightZero], {
    strides: call.ints('strides') ?? [1, 1], pads: call.ints('pads') ?? [0, 0, 0, 0],
    dilations: call.ints('dilations') ?? [1, 1], group: call.number('group', 1),
  })[0]!;
};

/**
 * Weights of 4 or 8 bits in blocks along the inputs, each with a scale and perhaps a zero point: [N, blocks, bytes].
 * They are unpacked once; the product is that of floats.
 */
const matMulNBits: Converter = (call) => {
  const [x, packed, scales] = [call.input(0), call.input(1), call.input(2)];
  const [inputs, outputs] = [call.number('K', 0), call.number('N', 0)];
  const [bits, size] = [call.number('bits', 4), call.number('block_size', 32)];
  if (bits !== 4 && bits !== 8) return call.refuse(`has weights of ${bits} bits; supported are 4 and 8`);
  if (call.optional(4)) return call.refuse('has g_idx, which is not supported');
  const blocks = Math.ceil(inputs / size);
  const unpacked = (v: Value, count: number): Value => {
    const shape = [outputs, blocks, -1];
    if (bits === 8) return call.reshape(b.cast(v, 'float32'), shape);
    const bytes = b.cast(v, 'float32');
    const high = b.floor(b.mul(bytes, 1 / 16));
    const low = b.sub(bytes, b.mul(high, 16));
    const halves = [low, high].map((p) => b.reshape(p, [...p.shape, 1]));
    const pairs = b.reshape(b.concat(halves, v.shape.length), [outputs, -1]);
    return call.reshape(b.slice(pairs, 1, 0, count), shape);
  };
  const given = call.optional(3);
  const zeros = !given ? undefined : given.dtype === 'uint8' ? unpacked(call.reshape(given, [outputs, -1]), blocks)
    : call.reshape(given, [outputs, blocks, 1]);
  const steps = unpacked(call.reshape(packed, [outputs, -1]), blocks * size);
  const centred = b.sub(steps, zeros ?? 2 ** (bits - 1));
  const weight = b.reshape(b.mul(centred, call.reshape(scales, [outputs, blocks, 1])), [outputs, blocks * size]);
  const product = b.fusedMatMul(x, b.slice(weight, 1, 0, inputs), { transB: 1 });
  const bias = call.optional(5);
  return bias ? b.add(product, bias) : product;
};

export const quantized: Readonly<Record<string, Converter>> = {
  DequantizeLinear: dequantize,
  QuantizeLinear: quantize,
  DynamicQuantizeLinear: (call) => b.apply('DynamicQuantizeLinear', [call.input(0)], {}),
  MatMulInteger: integerProduct((x, w, zeros) => b.apply('MatMulInteger', [x, w, ...zeros], {})[0]!),
  ConvInteger: convInteger,
};

export const contribQuantized: Readonly<Record<string, Converter>> = {
  MatMulNBits: matMulNBits, DequantizeLinear: dequantize, QuantizeLinear: quantize,
};
