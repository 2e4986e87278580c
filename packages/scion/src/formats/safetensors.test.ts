import { mkdtemp, open, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { ScionError } from '../util/errors.js';
import { byteSize, bytesOf, float32, numel, tensor, toFloat64, zeros } from '../util/tensor.js';
import type { DType, Tensor } from '../util/tensor.js';
import { readSafetensors, readSafetensorsHeader, readTensor, writeSafetensors } from './safetensors-node.js';
import { encodeSafetensors, parseSafetensors } from './safetensors.js';

const golden = new URL('../../../../fixtures/formats/all-dtypes.safetensors', import.meta.url).pathname;
const dtypes: DType[] = [
  'float32', 'float64', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8',
  'uint64', 'uint32', 'uint16', 'uint8', 'bool',
];

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-safetensors-'));
});
afterAll(() => rm(folder, { recursive: true }));
afterEach(() => vi.restoreAllMocks());

/** A file with this header, whatever it says. */
function file(header: string | Uint8Array, dataBytes = 0, claimed?: bigint): Uint8Array {
  const json = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const out = new Uint8Array(8 + json.byteLength + dataBytes);
  new DataView(out.buffer).setBigUint64(0, claimed ?? BigInt(json.byteLength), true);
  out.set(json, 8);
  return out;
}

/** The error that reading gives, which must be the same from memory and from a file. */
async function refusal(bytes: Uint8Array): Promise<string> {
  const path = join(folder, 'hostile.safetensors');
  await writeFile(path, bytes);
  const fromFile = await readSafetensors(path).then(() => 'accepted', (e: unknown) => e);
  expect(fromFile).toBeInstanceOf(ScionError);
  let message = 'accepted';
  try {
    parseSafetensors(bytes, path);
  } catch (error) {
    expect(error).toMatchObject({ name: 'ScionError', kind: 'input' });
    message = (error as ScionError).message;
  }
  expect((fromFile as ScionError).message).toBe(message);
  expect(message).toContain(path);
  expect(message.length).toBeLessThan(path.length + 400);
  return message;
}

describe('the golden file of the Python library', () => {
  it('reads every dtype', async () => {
    const { tensors, metadata } = await readSafetensors(golden);
    expect({ ...metadata }).toEqual({ class_names: '["cat", "dög"]' });
    const values = (name: string): unknown[] => [...tensors.get(name)!.data];
    for (const name of ['f16', 'f32', 'f64']) {
      expect(tensors.get(name)!.shape).toEqual([2, 3]);
      expect([...toFloat64(tensors.get(name)!)]).toEqual([0, -0, 1.5, -2.25, 65504, 2 ** -24]);
    }
    expect([...toFloat64(tensors.get('bf16')!)]).toEqual([1, -2.5]);
    expect(values('bool')).toEqual([1, 0, 1]);
    for (const bits of [8, 16, 32]) {
      expect(values(`i${bits}`)).toEqual([-(2 ** (bits - 1)), -1, 0, 2 ** (bits - 1) - 1]);
      expect(values(`u${bits}`)).toEqual([0, 1, 2 ** bits - 1]);
    }
    expect(values('i64')).toEqual([-(2n ** 63n), -1n, 0n, 2n ** 63n - 1n]);
    expect(values('u64')).toEqual([0n, 1n, 2n ** 64n - 1n]);
    expect(tensors.get('scalar')).toEqual(tensor('int32', [], Int32Array.of(7)));
    expect(tensors.get('empty')!.shape).toEqual([0, 4]);
    expect(values('a.näme \u2028\t"')).toEqual([2]);
  });

  it('is reproduced byte for byte', async () => {
    const bytes = await readFile(golden);
    const { tensors, metadata } = parseSafetensors(bytes, golden);
    const reversed = Object.fromEntries([...tensors].reverse());
    expect(Buffer.from(encodeSafetensors(reversed, metadata)).equals(bytes)).toBe(true);
  });

  it('tells where the bytes of a tensor lie without reading them', async () => {
    const header = await readSafetensorsHeader(golden);
    const bytes = await readFile(golden);
    const { offset, byteLength, dtype, shape } = header.tensors.get('f64')!;
    expect({ dtype, shape, byteLength }).toEqual({ dtype: 'float64', shape: [2, 3], byteLength: 48 });
    const read = await readTensor(header, 'f64');
    expect(Buffer.from(bytesOf(read)).equals(bytes.subarray(offset, offset + byteLength))).toBe(true);
    await expect(readTensor(header, 'f99')).rejects.toThrow(/has no tensor "f99"; it has: .*"f64"/);
  });
});

describe('round trips', () => {
  it.each(dtypes)('%s, from a file and from unaligned memory', async (dtype) => {
    const t = zeros(dtype, [2, 1, 3]);
    const bytes = bytesOf(t);
    for (let i = 0; i < bytes.length; i++) bytes[i] = dtype === 'bool' ? i % 2 : (i * 37 + 11) % 256;
    const original = { odd: tensor('uint8', [3], Uint8Array.of(1, 2, 3)), t };
    const path = join(folder, `${dtype}.safetensors`);
    await writeSafetensors(path, original, { note: 'é' });
    const shifted = new Uint8Array((await readFile(path)).byteLength + 1);
    shifted.set(await readFile(path), 1);
    for (const back of [await readSafetensors(path), parseSafetensors(shifted.subarray(1), 'memory')]) {
      expect({ ...back.metadata }).toEqual({ note: 'é' });
      expect([...back.tensors.keys()].sort()).toEqual(['odd', 't']);
      expect(back.tensors.get('t')).toMatchObject({ dtype, shape: [2, 1, 3] });
      expect(Buffer.from(bytesOf(back.tensors.get('t')!)).equals(bytes)).toBe(true);
    }
  });

  it('keeps names that mean something to JavaScript, and the order of names that look like numbers', () => {
    const one = float32([1], [1]);
    const tensors = Object.fromEntries([['__proto__', one], ['constructor', one], ['10', one], ['9', one]]);
    const metadata = Object.fromEntries([['__proto__', 'p'], ['toString', 't']]);
    const bytes = encodeSafetensors(tensors, metadata);
    const back = parseSafetensors(bytes, 'memory');
    expect([...back.tensors.keys()]).toEqual(expect.arrayContaining(['__proto__', 'constructor', '10', '9']));
    expect(Object.entries(back.metadata)).toEqual([['__proto__', 'p'], ['toString', 't']]);
    const text = new TextDecoder().decode(bytes);
    expect(text.indexOf('"10":')).toBeLessThan(text.indexOf('"9":'));
  });

  it('writes a file without tensors and pads the header to 8 bytes', () => {
    expect(Buffer.from(encodeSafetensors({})).toString('latin1')).toBe('\x08\0\0\0\0\0\0\0{}      ');
    expect(parseSafetensors(encodeSafetensors({}), 'memory').tensors.size).toBe(0);
  });

  it('refuses to write what is no tensor', () => {
    const wrong = { dtype: 'float32', shape: [3], data: new Float32Array(2) } as Tensor;
    expect(() => encodeSafetensors({ wrong })).toThrow(/wrong: 2 elements for shape \[3\]/);
    expect(() => encodeSafetensors({ __metadata__: float32([1], [1]) })).toThrow(/reserves/);
  });
});

const entry = (dtype: string, shape: string, offsets: string): string =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
const one = (dtype: string, shape: string, offsets: string): string => `{"a":${entry(dtype, shape, offsets)}}`;

describe('hostile files', () => {
  const again = /get it or write it again$/;
  const rows: [string, Uint8Array, RegExp][] = [
    ['empty', new Uint8Array(0), /the file is empty, expected 8 bytes of header length/],
    ['shorter than the length', new Uint8Array(5), /the file has 5 bytes, expected 8/],
    ['a header of 2^60 bytes', file('{}', 0, 2n ** 60n),
      /claims 1152921504606846976 bytes, expected at most the 2 bytes/],
    ['a header of 2^64 - 1 bytes', file('{}', 0, 2n ** 64n - 1n), /claims 18446744073709551615 bytes/],
    ['a header one byte too long', file('{}', 0, 3n), /claims 3 bytes, expected at most the 2 bytes/],
    ['no header', file(''), /does not start with "\{"/],
    ['a header that is a list', file('[]'), /does not start with "\{"/],
    ['a header after a space', file(' {}'), /does not start with "\{"/],
    ['a byte order mark', file('\uFEFF{}'), /does not start with "\{"/],
    ['a header that is not UTF-8', file(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)), /is not UTF-8 text/],
    ['a header that is not JSON', file('{"a":'), /is not valid JSON \(/],
    ['a second JSON value', file('{}{}'), /is not valid JSON \(/],
    ['deep nesting', file(`{"a":${'['.repeat(50_000)}${']'.repeat(50_000)}}`), /"a": is a list of 1, expected dtype/],
    ['a number for a tensor', file('{"a":1}'), /tensor "a": is 1, expected dtype, shape and data_offsets/],
    ['an empty object', file('{"a":{}}'), /dtype nothing is unknown, expected one of U64, I64/],
    ['an unknown dtype', file(one('F8_E5M2', '[1]', '[0,1]'), 1), /dtype "F8_E5M2" is unknown/],
    ['a dtype from the prototype', file(one('toString', '[1]', '[0,1]'), 1), /dtype "toString" is unknown/],
    ['a dtype that is a list', file('{"a":{"dtype":["F32"]}}'), /dtype a list of 1 is unknown/],
    ['a negative dimension', file(one('F32', '[-1]', '[0,4]'), 4), /shape \[-1\], expected a list of whole numbers/],
    ['a fractional dimension', file(one('F32', '[1.5]', '[0,6]'), 6), /shape \[1.5\], expected/],
    ['a dimension beyond 2^53', file(one('F32', '[9007199254740993]', '[0,4]'), 4),
      /shape \[9007199254740992\], expected/],
    ['an infinite dimension', file(one('F32', '[1e999]', '[0,4]'), 4), /shape \[Infinity\], expected/],
    ['a text dimension', file(one('F32', '["1"]', '[0,4]'), 4), /shape a list of 1, expected/],
    ['a shape that is no list', file(one('F32', '4', '[0,4]'), 4), /shape 4, expected/],
    ['an overflowing shape', file(one('F32', '[4294967296,4294967296]', '[0,0]')), /overflows 2\^53 bytes/],
    ['an overflow hidden by a 0', file(one('F32', '[4294967296,4294967296,0]', '[0,0]')), /overflows 2\^53 bytes/],
    ['an overflow that wraps to 0', file(one('U8', '[4294967296,4294967296]', '[0,0]')), /overflows 2\^53 bytes/],
    ['a huge shape', file(one('F32', '[1000000000000]', '[0,4]'), 4),
      /hold 4 bytes, expected 4000000000000 for float32/],
    ['no offsets', file('{"a":{"dtype":"F32","shape":[]}}', 4), /data_offsets nothing, expected two whole numbers/],
    ['three offsets', file(one('F32', '[1]', '[0,4,4]'), 4), /data_offsets \[0, 4, 4\], expected two/],
    ['a negative offset', file(one('F32', '[1]', '[-4,0]'), 4), /data_offsets \[-4, 0\], expected two/],
    ['a fractional offset', file(one('F32', '[1]', '[0.5,4.5]'), 5), /data_offsets \[0.5, 4.5\], expected two/],
    ['offsets the wrong way', file(one('F32', '[1]', '[4,0]'), 4), /data_offsets \[4, 0\] begin after they end/],
    ['an end beyond the file', file(one('F32', '[2]', '[0,8]'), 4), /reach beyond the 4 bytes of data in the file/],
    ['a size that is not the shape\'s', file(one('F32', '[2]', '[0,4]'), 4),
      /hold 4 bytes, expected 8 for float32 \[2\]/],
    ['a start after 0', file(one('F32', '[1]', '[4,8]'), 8), /begins at byte 4 of the data, expected 0: .* gap of 4/],
    ['data of no tensor', file(one('F32', '[1]', '[0,4]'), 6), /2 bytes of data belong to no tensor/],
    ['data without tensors', file('{}', 1), /1 bytes of data belong to no tensor/],
    ['a gap', file(`{"a":${entry('U8', '[1]', '[0,1]')},"b":${entry('U8', '[1]', '[2,3]')}}`, 3),
      /"b": .* gap of 1 bytes/],
    ['an overlap', file(`{"a":${entry('U8', '[2]', '[0,2]')},"b":${entry('U8', '[2]', '[1,3]')}}`, 3),
      /"b": .* overlaps/],
    ['the same bytes twice', file(`{"a":${entry('U8', '[2]', '[0,2]')},"b":${entry('U8', '[2]', '[0,2]')}}`, 2),
      /overlaps/],
    ['a name twice', file(`{"a":${entry('U8', '[1]', '[0,1]')},"a":${entry('U8', '[1]', '[0,1]')}}`, 1),
      /key "a" twice/],
    ['a name twice, once escaped', file('{"a":1, "\\u0061" :2}'), /key "a" twice/],
    ['__proto__ twice', file('{"__proto__":{"x":[{}]},"__proto__":{}}'), /key "__proto__" twice/],
    ['__proto__ as a tensor', file('{"__proto__":{}}'), /tensor "__proto__": dtype nothing/],
    ['a metadata key twice', file('{"__metadata__":{"a,{":"\\"","b":"a","a,{":""}}'), /key "a,\{" twice/],
    ['a shape twice', file('{"a":{"dtype":"U8","shape":[1],"shape":[],"data_offsets":[0,1]}}', 1), /key "shape" twice/],
    ['metadata that is a list', file('{"__metadata__":["a"]}'),
      /__metadata__ is a list of 1, expected an object of strings/],
    ['metadata that is null', file('{"__metadata__":null}'), /__metadata__ is null, expected an object/],
    ['metadata that holds a number', file('{"__metadata__":{"k":100}}'), /__metadata__ "k" is 100, expected a string/],
    ['a name of a megabyte', file(`{"${'x'.repeat(1e6)}":1}`), /tensor "x{60}…": is 1/],
  ];
  it.each(rows)('%s', async (_what, bytes, message) => {
    const text = await refusal(bytes);
    expect(text).toMatch(message);
    expect(text).toMatch(/again|convert the tensor|write it as a string/);
    expect(text).not.toContain('NaN');
  });

  it('a bool that is neither 0 nor 1', async () => {
    const bytes = file(one('BOOL', '[2]', '[0,2]'), 2);
    bytes[bytes.length - 1] = 2;
    expect(await refusal(bytes)).toMatch(/holds the byte 2, expected 0 or 1 in bool; save it as uint8/);
  });

  it('keys in values and in lists are no repetition', () => {
    const json = `{"__metadata__":{"a":"a","b":"{\\"a\\":1,\\"a\\":2}"},"a":${entry('U8', '[1]', '[0,1]')}}`;
    expect(parseSafetensors(file(json, 1), 'memory').metadata['b']).toBe('{"a":1,"a":2}');
  });

  it('a truncated file is refused at every length', () => {
    const whole = encodeSafetensors({ a: float32([2], [1, 2]) }, { k: 'v' });
    for (let n = 0; n < whole.byteLength; n++) {
      expect(() => parseSafetensors(whole.subarray(0, n), 'short'), `${n} bytes`).toThrow(ScionError);
    }
  });

  it('a header beyond 100 MB is refused although the (sparse) file is larger', async () => {
    const path = join(folder, 'sparse.safetensors');
    await writeFile(path, file('{', 0, 100_000_001n));
    await truncate(path, 8 + 200_000_000);
    await expect(readSafetensors(path)).rejects.toThrow(/claims 100000001 bytes, expected at most 100 MB; .*again/);
    await rm(path);
  });

  it('every message ends with what to do', async () => {
    expect(await refusal(file('{}', 0, 99n))).toMatch(again);
  });
});

describe('files', () => {
  const tensors = { a: float32([2], [1, 2]) };
  const leftOver = async (): Promise<string[]> => (await readdir(folder)).filter((name) => name.includes('.tmp'));

  it('replaces a file as a whole and leaves nothing beside it', async () => {
    const path = join(folder, 'replaced.safetensors');
    await writeFile(path, 'old');
    await writeSafetensors(path, tensors);
    expect((await readSafetensors(path)).tensors.get('a')).toEqual(tensors.a);
    expect(await leftOver()).toEqual([]);
  });

  const refused: [string, 'write' | 'sync', RegExp][] = [
    ['ENOSPC', 'write', /cannot write it: the disk is full; free some space/],
    ['ENOSPC', 'sync', /cannot write it: the disk is full/],
    ['EROFS', 'write', /the file system is read-only; choose another path/],
    ['EIO', 'sync', /the system reports EIO/],
  ];
  it.each(refused)('%s in %s: names the path, keeps the old file, cleans up', async (code, call, message) => {
    const path = join(folder, 'kept.safetensors');
    await writeFile(path, 'old');
    const handle = await open(path);
    const prototype = Object.getPrototypeOf(handle) as { write: () => Promise<never>; sync: () => Promise<never> };
    await handle.close();
    const refuse = vi.spyOn(prototype, call).mockRejectedValue(Object.assign(new Error(code), { code }));
    const error: unknown = await writeSafetensors(path, tensors).catch((e: unknown) => e);
    expect(refuse).toHaveBeenCalledOnce();
    expect(error).toMatchObject({ name: 'ScionError', kind: 'io' });
    expect((error as ScionError).message).toMatch(message);
    expect((error as ScionError).message).toContain(path);
    expect(await readFile(path, 'utf8')).toBe('old');
    expect(await leftOver()).toEqual([]);
  });

  it('a folder that is missing, is a file, or stands where the file should be', async () => {
    const file = join(folder, 'plain');
    await writeFile(file, '');
    await expect(writeSafetensors(join(folder, 'none', 'a'), tensors)).rejects.toThrow(/no such file or folder/);
    await expect(writeSafetensors(join(file, 'a'), tensors)).rejects.toThrow(/a part of the path is a file/);
    await expect(writeSafetensors(folder, tensors)).rejects.toThrow(/cannot write it: is a folder/);
    await expect(readSafetensors(join(folder, 'none'))).rejects.toThrow(/cannot read it: there is no such file/);
    await expect(readSafetensors(folder)).rejects.toThrow(/is a folder, expected a file/);
    await expect(readSafetensors('/dev/null')).rejects.toThrow(/is a device or pipe, expected a file/);
  });

  it('a file that shrinks after its header was read is refused, not filled with zeros', async () => {
    const path = join(folder, 'shrinks.safetensors');
    await writeSafetensors(path, tensors);
    const header = await readSafetensorsHeader(path);
    await truncate(path, header.tensors.get('a')!.offset + byteSize('float32') * (numel([2]) - 1));
    await expect(readTensor(header, 'a')).rejects.toThrow(/ends after \d+ bytes, expected \d+: cut short/);
  });
});
