import { describe, expect, test } from 'vitest';
import {
  arrayOver, bytesOf, float32, fromBfloat16, fromFloat16, fromFloat64, int64, narrowFloat16, tensor, toBfloat16,
  toFloat16, toFloat32, toFloat64,
} from './tensor.js';

const patterns = Uint16Array.from({ length: 2 ** 16 }, (_, i) => i);
const formats = [
  { dtype: 'float16', from: fromFloat16, to: toFloat16, exponentMask: 0x7c00 },
  { dtype: 'bfloat16', from: fromBfloat16, to: toBfloat16, exponentMask: 0x7f80 },
] as const;

describe.each(formats)('$dtype', ({ dtype, from, to, exponentMask }) => {
  const isNaNPattern = (bits: number): boolean =>
    (bits & exponentMask) === exponentMask && (bits & ~exponentMask & 0x7fff) !== 0;

  test('every bit pattern comes back, NaN as NaN', () => {
    for (const bits of patterns) {
      const back = to(from(bits));
      if (isNaNPattern(bits) ? !isNaNPattern(back) : back !== bits) {
        expect.fail(`${bits.toString(16)} is ${from(bits)}, which becomes ${back.toString(16)}`);
      }
    }
  });

  test('between two neighbours the nearer one is taken, and the even one at a tie', () => {
    for (const sign of [0, 0x8000]) {
      for (let bits = 0; bits < exponentMask - 1; bits++) {
        const [low, high] = [from(sign | bits), from(sign | (bits + 1))];
        const middle = (low + high) / 2;
        const step = high - low;
        const even = bits % 2 === 0 ? bits : bits + 1;
        const expected = [bits, even, bits + 1];
        // an eighth of a step to either side is exact in float32
        const actual = [middle - step / 8, middle, middle + step / 8].map((x) => to(x) & 0x7fff);
        if (actual.join() !== expected.join()) expect.fail(`between ${low} and ${high}: ${actual.join()}`);
      }
    }
  });

  test('beyond the largest number: half a step further is infinity, zeros keep their sign', () => {
    const [largest, below] = [from(exponentMask - 1), from(exponentMask - 2)];
    const step = largest - below;
    expect(to(largest + step / 4)).toBe(exponentMask - 1);
    expect(to(largest + step / 2)).toBe(exponentMask);
    expect([Infinity, -Infinity, 0, -0].map(to)).toEqual([exponentMask, 0x8000 | exponentMask, 0, 0x8000]);
  });

  test('whole tensors are widened to the same numbers', () => {
    const t = tensor(dtype, [2 ** 16], patterns);
    const [single, double] = [toFloat32(t), toFloat64(t)];
    expect(single.shape).toEqual([2 ** 16]);
    patterns.forEach((bits) => {
      if (!Object.is(single.data[bits], from(bits)) || !Object.is(double[bits], from(bits))) {
        expect.fail(`${bits.toString(16)}: ${single.data[bits]}, ${double[bits]} for ${from(bits)}`);
      }
    });
    const some = Uint16Array.from(patterns).subarray(3, 10); // a view that does not start at its buffer's beginning
    expect([...toFloat32(tensor(dtype, [7], some)).data]).toEqual([...some].map(from));
  });
});

test('float16 in known numbers', () => {
  expect([0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x3555].map(fromFloat16)).toEqual(
    [1, -2, 65504, 2 ** -14, 2 ** -24, 0.333251953125]);
  expect([65519, 65520, 2 ** -25, 2 ** -25 * 1.001].map(toFloat16)).toEqual([0x7bff, 0x7c00, 0, 1]);
});

test('bfloat16 in known numbers', () => {
  expect([0x3f80, 0xc000, 0x3eab].map(fromBfloat16)).toEqual([1, -2, 0.333984375]);
});

describe('conversions', () => {
  test('doubles to each kind of integer truncate, to bool they are "not zero"', () => {
    const x = Float64Array.of(-1.7, 0, 2.9);
    expect(fromFloat64('int64', [3], x).data).toEqual(BigInt64Array.of(-1n, 0n, 2n));
    expect(fromFloat64('int32', [3], x).data).toEqual(Int32Array.of(-1, 0, 2));
    expect(fromFloat64('bool', [3], x).data).toEqual(Uint8Array.of(1, 0, 1));
  });

  test('a float32 tensor is returned as it is, others are converted', () => {
    const t = float32([2], [1, 2]);
    expect(toFloat32(t)).toBe(t);
    expect(toFloat32(int64([2], [3, -4])).data).toEqual(Float32Array.of(3, -4));
    expect(toFloat32(tensor('uint8', [2], Uint8Array.of(0, 255))).data).toEqual(Float32Array.of(0, 255));
  });

  test('a typed array over bytes at any offset, and back', () => {
    const bytes = new Uint8Array(11);
    bytes.set(new Uint8Array(Float32Array.of(1.5, -2).buffer), 3);
    const values = arrayOver('float32', bytes.subarray(3));
    expect(values).toEqual(Float32Array.of(1.5, -2));
    expect(bytesOf(float32([2], values))).toEqual(bytes.subarray(3));
  });
});

test('a length that does not fit the shape is refused', () => {
  expect(() => float32([2, 2], [1, 2, 3])).toThrow('3 elements for shape [2, 2]');
});

test('whole arrays are rounded to float16 as single numbers are', () => {
  // every float16, what lies in the middle of two, and the float32 numbers next to these
  const values = new Float32Array(Array.from(patterns, (bits) => [
    fromFloat16(bits), (fromFloat16(bits) + fromFloat16(bits ^ 1)) / 2, (fromFloat16(bits) + fromFloat16(bits + 1)) / 2,
  ]).flat());
  const bits = new Uint32Array(values.buffer);
  const all = new Float32Array(3 * values.length);
  const raw = new Uint32Array(all.buffer);
  bits.forEach((u, i) => raw.set([u, u + 1, Math.max(0, u - 1)], 3 * i));
  const found = narrowFloat16(all);
  const wrong = all.findIndex((x, i) => found[i] !== toFloat16(x));
  expect(wrong < 0 ? undefined : [all[wrong], found[wrong], toFloat16(all[wrong]!)]).toBeUndefined();
  expect(narrowFloat16(Float32Array.of(65519, 65520, -1e30, 1e-30))).toEqual(Uint16Array.of(0x7bff, 0x7c00, 0xfc00, 0));
});
