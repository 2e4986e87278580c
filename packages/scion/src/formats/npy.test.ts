import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { ScionError } from '../util/errors.js';
import { bytesOf, float32, tensor, toFloat64, zeros } from '../util/tensor.js';
import { encodeNpy, parseNpy } from './npy.js';
import type { NpyDType } from './npy.js';

const read = (name: string): Promise<Uint8Array> =>
  readFile(new URL(`../../../../fixtures/formats/${name}.npy`, import.meta.url));

/** A version 1 file with this dictionary, whatever it says. */
function file(literal: string, dataBytes = 0): Uint8Array {
  const out = new Uint8Array(10 + literal.length + dataBytes);
  out.set([0x93, ...Buffer.from('NUMPY'), 1, 0, literal.length & 255, literal.length >> 8, ...Buffer.from(literal)]);
  return out;
}
const header = (descr: string, shape: string, order = 'False'): string =>
  `{'descr': ${descr}, 'fortran_order': ${order}, 'shape': ${shape}, }\n`;

describe('the golden files of NumPy', () => {
  const floats = [0, -0, 1.5, -2.25, 65504, 2 ** -24];
  const rows: [string, NpyDType, number[], (number | bigint)[]][] = [
    ['f16', 'float16', [2, 3], floats],
    ['f32', 'float32', [2, 3], floats],
    ['f64', 'float64', [2, 3], floats],
    ['i8', 'int8', [4], [-128, -1, 0, 127]],
    ['i16', 'int16', [4], [-32768, -1, 0, 32767]],
    ['i32', 'int32', [4], [-(2 ** 31), -1, 0, 2 ** 31 - 1]],
    ['i64', 'int64', [4], [-(2n ** 63n), -1n, 0n, 2n ** 63n - 1n]],
    ['u8', 'uint8', [3], [0, 1, 255]],
    ['u16', 'uint16', [3], [0, 1, 65535]],
    ['u32', 'uint32', [3], [0, 1, 2 ** 32 - 1]],
    ['u64', 'uint64', [3], [0n, 1n, 2n ** 64n - 1n]],
    ['bool', 'bool', [3], [1, 0, 1]],
    ['scalar', 'int32', [], [7]],
    ['empty', 'float32', [0, 4], []],
  ];
  it.each(rows)('%s is read, and reproduced byte for byte', async (name, dtype, shape, values) => {
    const bytes = await read(name);
    const t = parseNpy(bytes, name);
    expect(t).toMatchObject({ dtype, shape });
    expect(dtype === 'float16' ? [...toFloat64(t)] : [...t.data]).toEqual(values);
    expect(Buffer.from(encodeNpy(t)).equals(bytes)).toBe(true);
  });

  it.each(['version2', 'version3', 'fortran'])('%s holds the numbers 0 to 23 in row-major order', async (name) => {
    expect(parseNpy(await read(name), name)).toEqual(float32([2, 3, 4], Array.from({ length: 24 }, (_, i) => i)));
  });

  const refused: [string, RegExp][] = [
    ['big-endian', /^big-endian: holds big-endian float32, expected little endian; save array.astype\('<f4'\)$/],
    ['objects', /^objects: holds Python objects \(dtype object, a pickle\).*never read; save an array of numbers/],
    ['structured', /^structured: dtype .*\('x', '<f4'\).* is not supported, expected one of f2, f4.*convert it/],
    ['text', /^text: dtype "'<U3'" is not supported, expected one of .*b1; convert it/],
  ];
  it.each(refused)('%s is refused by name', async (name, message) => {
    const bytes = await read(name);
    expect(() => parseNpy(bytes, name)).toThrow(message);
    expect(() => parseNpy(bytes, name)).toThrow(ScionError);
  });
});

describe('hostile files', () => {
  const f4 = "'<f4'";
  const good = header(f4, '(1,)');
  const patched = (at: number, ...bytes: number[]): Uint8Array => {
    const out = file(good, 4);
    out.set(bytes, at);
    return out;
  };
  const rows: [string, Uint8Array, RegExp][] = [
    ['empty', new Uint8Array(0), /the file is empty/],
    ['another format', Buffer.from('PK\x03\x04 a zip file'), /does not begin with \\x93NUMPY/],
    ['magic alone', patched(6).subarray(0, 6), /version 0, expected 1, 2 or 3/],
    ['version 4', patched(6, 4), /version 4, expected 1, 2 or 3/],
    ['no header length', patched(6).subarray(0, 9), /ends within its header/],
    ['a header beyond the file', patched(8, 255, 255), /the header claims 65535 bytes, expected at most \d\d/],
    ['a header of 4 GB', patched(6, 2, 0, 255, 255, 255, 255), /the header claims 4294967295 bytes, expected at most/],
    ['a negative dimension', file(header(f4, '(-1,)'), 4), /shape \(-1,\), expected whole numbers from 0 up/],
    ['a dimension beyond 2^53', file(header(f4, '(9007199254740993,)'), 4), /shape \(9007199254740993,\), expected/],
    ['a huge shape', file(header(f4, '(1000000000000,)'), 4), /claims float32 \[1000000000000\], 4000000000000 bytes/],
    ['an overflowing shape', file(header(f4, '(4294967296, 4294967296)')), /more than 2\^53 bytes, but 0 follow/],
    ['an overflow hidden by a 0', file(header(f4, '(4294967296, 4294967296, 0)')), /more than 2\^53 bytes/],
    ['too few data', file(good, 3), /4 bytes, but 3 follow/],
    ['too many data', file(good, 5), /4 bytes, but 5 follow.*one array a file/],
    ['a second key', file(good.replace('{', "{'shape': (2,), "), 4), /is not one that NumPy writes/],
    ['a missing key', file("{'descr': '<f4', 'shape': (1,), }", 4), /is not one that NumPy writes/],
    ['an unknown key', file(good.replace('{', "{'x': True, "), 4), /is not one that NumPy writes/],
    ['a shape that is no tuple', file(header(f4, '(1)'), 4), /is not one that NumPy writes/],
    ['a shape that is computed', file(header(f4, '(1+0,)'), 4), /is not one that NumPy writes/],
    ['a call', file(header("__import__('os').system('true')", '(1,)'), 4), /is not one that NumPy writes/],
    ['an order that is no bool', file(header(f4, '(1,)', '0'), 4), /is not one that NumPy writes/],
    ['an order that is text', file(header(f4, '(1,)', "'True'"), 4), /is not one that NumPy writes/],
    ['something after the dictionary', file(`${good.trim()} + 1\n`, 4), /is not one that NumPy writes/],
    ['complex numbers', file(header("'<c8'", '(1,)'), 8), /dtype "'<c8'" is not supported/],
  ];
  it.each(rows)('%s', (_what, bytes, message) => {
    expect(() => parseNpy(bytes, 'x.npy')).toThrow(message);
    expect(() => parseNpy(bytes, 'x.npy')).toThrow(/^x\.npy: .*(save|convert|get) it/);
  });

  it('a bool that is neither 0 nor 1', () => {
    const bytes = file(header("'|b1'", '(1,)'), 1);
    bytes[bytes.length - 1] = 7;
    expect(() => parseNpy(bytes, 'x.npy')).toThrow(/holds the byte 7, expected 0 or 1/);
  });

  it('a truncated file is refused at every length', () => {
    const whole = file(good, 4);
    expect(parseNpy(whole, 'x.npy').shape).toEqual([1]);
    for (let n = 0; n < whole.length; n++) {
      expect(() => parseNpy(whole.subarray(0, n), 'x.npy'), `${n} bytes`).toThrow(ScionError);
    }
  });
});

describe('round trips', () => {
  const dtypes: NpyDType[] = [
    'float16', 'float32', 'float64', 'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64', 'bool',
  ];
  it.each(dtypes)('%s, from unaligned memory', (dtype) => {
    const t = zeros(dtype, [3, 1, 2]);
    bytesOf(t).forEach((_, i, bytes) => { bytes[i] = dtype === 'bool' ? i % 2 : (i * 37 + 11) % 256; });
    const bytes = encodeNpy(t);
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    const back = parseNpy(shifted.subarray(1), 'x.npy');
    expect(back).toMatchObject({ dtype, shape: [3, 1, 2] });
    expect(Buffer.from(bytesOf(back)).equals(bytesOf(t))).toBe(true);
  });

  it('a header that needs no padding still gets some, as NumPy does', () => {
    for (let digits = 1; digits <= 15; digits++) {
      const shape = [0, ...Array.from({ length: digits }, () => 10)];
      const bytes = encodeNpy(tensor('uint8', shape, new Uint8Array(0)));
      expect(bytes.length % 64).toBe(0);
      expect(parseNpy(bytes, 'x.npy').shape).toEqual(shape);
    }
  });

  it('refuses to write what is no array', () => {
    expect(() => encodeNpy({ dtype: 'float32', shape: [3], data: new Float32Array(2) })).toThrow(/2 elements for shape/);
  });
});
