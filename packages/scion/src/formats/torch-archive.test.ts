import { access, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { ScionError } from '../util/errors.js';
import { Random } from '../util/random.js';
import { bytesOf } from '../util/tensor.js';
import type { Tensor } from '../util/tensor.js';
import type * as Files from './files.js';
import { readSafetensors } from './safetensors-node.js';
import { readTorchArchive, readTorchTensor, readTorchTensors } from './torch-archive-node.js';
import { placeTensors, readTorchPickle } from './torch-archive.js';

/** The most bytes that were asked for, and so allocated, at a time. */
const reads = vi.hoisted(() => ({ longest: 0 }));
vi.mock('./files.js', async (original) => {
  const files = await original<typeof Files>();
  const readAt: typeof files.readAt = (file, offset, length, path) => {
    reads.longest = Math.max(reads.longest, length);
    return files.readAt(file, offset, length, path);
  };
  return { ...files, readAt };
});

const fixtures = new URL('../../../../fixtures/pickle/', import.meta.url).pathname;
const files = (await readdir(fixtures)).filter((name) => name.endsWith('.pt') && !name.startsWith('evil-'));

let folder: string;
let expected: ReadonlyMap<string, Tensor>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-torch-'));
  expected = (await readSafetensors(`${fixtures}expected.safetensors`)).tensors;
});
afterAll(() => rm(folder, { recursive: true }));

const latin = (text: string): Uint8Array => Buffer.from(text, 'latin1');

interface Entry {
  name: string;
  data: Uint8Array;
  method?: number;
  flags?: number;
  /** The content of a zip64 field, with the 32-bit fields saturated. */
  wide?: bigint[];
  /** What the directory claims, where that is not the truth. */
  claim?: { bytes?: number; offset?: number; name?: string; disk?: number };
}

/** A zip archive of 32-bit fields, with whatever claims. */
function zip(entries: Entry[], end: { disk?: number; entries?: number; offset?: number } = {}): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, data, method = 0, flags = 0, wide, claim = {} } of entries) {
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50);
    local.writeUInt16LE(flags, 6);
    local.writeUInt16LE(method, 8);
    local.writeUInt32LE(data.length, 18);
    local.writeUInt32LE(data.length, 22);
    local.writeUInt16LE(Buffer.byteLength(name), 26);
    parts.push(local, Buffer.from(name), Buffer.from(data));
    const listed = Buffer.from(claim.name ?? name, 'latin1');
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50);
    central.writeUInt16LE(flags, 8);
    central.writeUInt16LE(method, 10);
    central.writeUInt32LE(claim.bytes ?? data.length, 20);
    central.writeUInt32LE(claim.bytes ?? data.length, 24);
    central.writeUInt16LE(listed.length, 28);
    central.writeUInt16LE(claim.disk ?? 0, 34);
    central.writeUInt32LE(claim.offset ?? offset, 42);
    const extra = Buffer.alloc(wide ? 4 + 8 * wide.length : 0);
    if (wide) {
      extra.writeUInt16LE(1);
      extra.writeUInt16LE(8 * wide.length, 2);
      wide.forEach((value, i) => extra.writeBigUInt64LE(value, 4 + 8 * i));
      central.fill(0xff, 20, 28);
      central.writeUInt16LE(extra.length, 30);
      central.fill(0xff, 42, 46);
    }
    directory.push(central, listed, extra);
    offset += 30 + Buffer.byteLength(name) + data.length;
  }
  const listing = Buffer.concat(directory);
  const last = Buffer.alloc(22);
  last.writeUInt32LE(0x06054b50);
  last.writeUInt16LE(end.disk ?? 0, 4);
  last.writeUInt16LE(end.entries ?? entries.length, 8);
  last.writeUInt16LE(end.entries ?? entries.length, 10);
  last.writeUInt32LE(listing.length, 12);
  last.writeUInt32LE(end.offset ?? offset, 16);
  return Buffer.concat([...parts, listing, last]);
}

const text = (s: string): string => `\x8c${String.fromCharCode(s.length)}${s}`;
const int = (n: number): string => `\x8a\x08${Buffer.from(BigInt64Array.of(BigInt(n)).buffer).toString('latin1')}`;
const tuple = (items: string[]): string => `(${items.join('')}t`;
const ints = (numbers: number[]): string => tuple(numbers.map(int));
const storage = (length: number, key = '0', type = 'FloatStorage'): string =>
  `${tuple([text('storage'), `ctorch\n${type}\n`, text(key), text('cpu'), int(length)])}Q`;
const tensorOf = (of: string, offset: number, shape: number[], strides: number[]): string =>
  `ctorch._utils\n_rebuild_tensor_v2\n${tuple([of, int(offset), ints(shape), ints(strides), '\x89', 'N'])}R`;
const dict = (items: Record<string, string>): string =>
  `}(${Object.entries(items).map(([key, item]) => text(key) + item).join('')}u`;
const pickle = (value: string): Entry => ({ name: 'a/data.pkl', data: latin(`\x80\x02${value}.`) });
const floats = (...values: number[]): Entry => ({ name: 'a/data/0', data: bytesOfFloats(values) });

function bytesOfFloats(values: number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

async function read(bytes: Uint8Array): Promise<Awaited<ReturnType<typeof readTorchArchive>>> {
  const path = join(folder, 'made.pt');
  await writeFile(path, bytes);
  return readTorchArchive(path);
}

async function refusal(bytes: Uint8Array): Promise<string> {
  const error = await read(bytes).then(() => undefined, (e: unknown) => e);
  expect(error).toBeInstanceOf(ScionError);
  const { kind, message } = error as ScionError;
  expect(kind).toBe('input');
  expect(message.length).toBeLessThan(folder.length + 400);
  return message.replace(join(folder, 'made.pt'), 'made.pt');
}

describe('files that PyTorch wrote', () => {
  it.each(files)('%s', async (name) => {
    const archive = await readTorchArchive(fixtures + name);
    const wanted = new Map([...expected].filter(([key]) => key.startsWith(`${name}:`)));
    const keys = [...wanted.keys()].map((key) => key.slice(name.length + 1));
    expect([...archive.tensors.keys()].sort()).toEqual(keys.sort());
    const bytes = await readFile(fixtures + name);
    const tensors = await readTorchTensors(archive, keys);
    for (const key of keys) {
      const want = wanted.get(`${name}:${key}`)!;
      expect(tensors.get(key), key).toEqual(want);
      const { contiguous, offset, byteLength, dtype, shape } = archive.tensors.get(key)!;
      expect({ dtype, shape }).toEqual({ dtype: want.dtype, shape: want.shape });
      expect(byteLength).toBe(want.data.byteLength);
      // the promise to ONNX external data: these bytes are the tensor
      if (contiguous) expect(bytes.subarray(offset, offset + byteLength)).toEqual(Buffer.from(bytesOf(want)));
    }
  });

  it('cover all dtypes, views, checkpoints, protocols 2, 4 and 5, TorchScript and streams', () => {
    expect(files.sort()).toEqual([
      'all-dtypes.pt', 'nested.pt', 'protocol-4.pt', 'protocol-5.pt', 'script.pt', 'stream.pt', 'tensor.pt',
      'training.pt', 'views.pt',
    ]);
    expect(new Set([...expected.values()].map((t) => t.dtype)).size).toBe(13);
  });

  it('knows which tensors can be used in place', async () => {
    const { tensors } = await readTorchArchive(`${fixtures}views.pt`);
    const copied = [...tensors].filter(([, entry]) => !entry.contiguous).map(([name]) => name);
    expect(copied).toEqual(['columns', 'transposed', 'expanded', 'channels_last']);
    const base = tensors.get('base')!;
    expect(base.offset % 64).toBe(0);
    expect(tensors.get('tied')).toEqual(base);
    expect(tensors.get('row')!.offset).toBe(base.offset + 2 * 6 * 4);
    expect(tensors.get('transposed')).toEqual({ ...base, shape: [6, 4], strides: [1, 6], contiguous: false });
  });

  it('names the parameters and buffers of a TorchScript module', async () => {
    const { tensors } = await readTorchArchive(`${fixtures}script.pt`);
    expect([...tensors.keys()]).toEqual([
      'logit_scale', 'input_resolution',
      'blocks.0.proj.weight', 'blocks.0.proj.bias', 'blocks.1.proj.weight', 'blocks.1.proj.bias',
    ]);
  });

  it('gives the real path', async () => {
    const link = join(folder, 'link.pt');
    await symlink(`${fixtures}views.pt`, link);
    expect((await readTorchArchive(link)).path).toBe(await realpath(`${fixtures}views.pt`));
  });

  it('says which tensors there are', async () => {
    const archive = await readTorchArchive(`${fixtures}tensor.pt`);
    await expect(readTorchTensor(archive, 'x')).rejects.toThrow('has no tensor "x"; it has: ""; name one of these');
  });
});

describe('hostile pickles', () => {
  it.each([
    ['evil-zip.pt', 'posix.system'], ['evil-stream.pt', '__builtin__.eval'], ['evil-pickle.pt', 'posix.system'],
  ])('%s runs nothing and is refused by name', async (name, wanted) => {
    const error = await readTorchArchive(fixtures + name).then(() => undefined, (e: unknown) => e);
    expect(error).toBeInstanceOf(ScionError);
    expect((error as ScionError).message).toMatch(
      new RegExp(`evil.*refers to ${wanted}, which is not a tensor: refused; nothing was run; save the weights`),
    );
    await expect(access('scion-pickle-was-here')).rejects.toThrow('ENOENT');
  });

  it('reads the archive that the others are variations of', async () => {
    const archive = await read(zip([pickle(dict({ w: tensorOf(storage(4), 1, [3], [1]) })), floats(1, 2, 3, 4)]));
    expect([...(await readTorchTensor(archive, 'w')).data]).toEqual([2, 3, 4]);
  });

  it('finds nothing in a record that is its own state', async () => {
    expect((await read(zip([pickle('c__torch__\nA\n)\x81q\x00h\x00b')]))).tensors.size).toBe(0);
  });

  it.each<[string, string, string]>([
    ['beyond the storage', tensorOf(storage(4), 2, [3], [1]), '[3] with strides [1] at 2 reaches beyond'],
    ['strides beyond', tensorOf(storage(4), 0, [2, 2], [3, 1]), 'reaches beyond the 4 elements of storage "0"'],
    ['a negative offset', tensorOf(storage(4), -1, [3], [1]), 'no whole numbers from 0 up'],
    ['a negative stride', tensorOf(storage(4), 3, [3], [-1]), 'no whole numbers from 0 up'],
    ['a negative size', tensorOf(storage(4), 0, [-3], [1]), 'no whole numbers from 0 up'],
    ['too few strides', tensorOf(storage(4), 0, [2, 2], [2]), 'no whole numbers from 0 up'],
    ['an overflow', tensorOf(storage(4), 0, Array<number>(4).fill(2 ** 20), [0, 0, 0, 0]), 'which overflows'],
    ['an overflow that a 0 hides', tensorOf(storage(4), 0, [...Array<number>(30).fill(2 ** 50), 0],
      Array<number>(31).fill(0)), 'a tensor has the shape a list of 31, which overflows'],
    ['a stride that overflows', tensorOf(storage(4), 0, [2 ** 26, 2], [2 ** 52, 1]), 'reaches beyond the 4 elements'],
    ['65 dimensions', tensorOf(storage(4), 0, Array<number>(65).fill(1), Array<number>(65).fill(1)), '65 dimensions'],
    ['an expansion beyond the file', tensorOf(storage(4), 0, [2 ** 30], [0]), 'claims 4294967296 bytes, more than the'],
    ['a storage that lies', tensorOf(storage(2 ** 50), 0, [2 ** 40], [1]), 'storage "0" has 4 elements, expected 1125'],
    ['a storage that is too short', tensorOf(storage(3), 0, [3], [1]), 'has 4 elements, expected 3'],
    ['a missing storage', tensorOf(storage(4, '1'), 0, [3], [1]), 'tensor "w": its storage "1" is missing'],
    ['a path as storage', tensorOf(storage(4, '../data/0'), 0, [3], [1]), 'storage "../data/0" is missing'],
    ['a storage of unknown type', tensorOf(storage(4, '0', 'ComplexFloatStorage'), 0, [3], [1]), 'torch.ComplexFloat'],
    ['a storage without type', tensorOf(storage(4, '0', 'UntypedStorage'), 0, [3], [1]), 'a tensor has no type'],
    ['a storage of two sizes', `${tensorOf(storage(4), 0, [3], [1])}${text('v')}${tensorOf(storage(5), 0, [3], [1])}`,
      'storage "0" has two types or sizes'],
    ['a tensor of no storage', tensorOf('N', 0, [3], [1]), 'has null as its storage'],
    ['a tensor of a large number', tensorOf(int(2 ** 60), 0, [3], [1]), 'has a number beyond 2^53 as its storage'],
    ['a strange storage', `${tuple([text('module'), 'N'])}Q`, 'a storage is described in a way'],
    ['a storage that is a text', `${text('storage')}Q`, 'a storage is described in a way'],
    ['a parameter of a text', `ctorch._utils\n_rebuild_parameter\n${tuple([text('x')])}R`, 'is made of "x"'],
    ['a class of the model', 'cmodels.clip\nCLIP\n)\x81', 'refers to models.clip.CLIP, which is not a tensor'],
    ['a name given twice', `${tensorOf(storage(4), 0, [3], [1])}${text('x.y')}q\x00${tensorOf(storage(4), 0, [3], [1])}`
      + `${text('x')}}${text('y')}${tensorOf(storage(4), 0, [3], [1])}s`, 'two tensors have the name "x.y"'],
    ['a dict within itself', '}q\x00(K\x01h\x00u', 'deep or in a circle'],
    ['a list within itself, twice', ']q\x00(h\x00h\x00e', 'deep or in a circle'],
    ['a record within itself', 'c__torch__\nA\n)\x81q\x00}K\x01h\x00sb', 'deep or in a circle'],
    ['deep nesting', `${']'.repeat(200)}N${'a'.repeat(200)}`, 'more than 100 deep or in a circle'],
    ['a value shared 2^60 times', `]Na${'q\x00h\x00\x86'.repeat(60)}`, 'holds over 1048576 values'],
    ['a long name', `}X\xff\xff\x00\x00${'n'.repeat(65535)}${tensorOf(storage(4), 0, [3], [1])}s`, 'over 1000 letters'],
    ['a key that is no text', `})${tensorOf(storage(4), 0, [3], [1])}s`, 'has the key [], expected a text'],
  ])('%s', async (_, value, message) => {
    expect(await refusal(zip([pickle(dict({ w: value })), floats(1, 2, 3, 4)]))).toContain(message);
  });
});

describe('hostile zip archives', () => {
  const good = pickle(dict({ w: tensorOf(storage(4), 0, [4], [1]) }));
  const data = floats(1, 2, 3, 4);
  const entry = (name: string, more: Partial<Entry> = {}): Entry => ({ name, data: latin('x'), ...more });

  it('takes compressed entries that hold no tensors', async () => {
    expect((await read(zip([good, data, entry('a/code/x.py', { method: 8 })]))).tensors.size).toBe(1);
  });

  /** Where the second entry begins. */
  const offset = BigInt(zip([good]).indexOf('PK\x01\x02', 0, 'latin1'));

  it('takes zip64 fields', async () => {
    const archive = await read(zip([good, { ...data, wide: [16n, 16n, offset] }]));
    expect([...(await readTorchTensor(archive, 'w')).data]).toEqual([1, 2, 3, 4]);
  });

  it.each<[string, Uint8Array, string]>([
    ['a zip64 size outside', zip([good, { ...data, wide: [2n ** 60n, 2n ** 60n, offset] }]), 'claims Infinity bytes'],
    ['a zip64 offset outside', zip([good, { ...data, wide: [16n, 16n, 2n ** 50n] }]), 'begins at byte 11258999068'],
    ['a zip64 field cut short', zip([good, { ...data, wide: [16n, 16n] }]), 'begins at byte Infinity'],
    ['a compressed tensor', zip([good, { ...data, method: 8 }]), '"a/data/0" is compressed, expected stored'],
    ['a compressed pickle', zip([{ ...good, method: 8 }, data]), '"a/data.pkl" is compressed, expected stored'],
    ['encryption', zip([good, { ...data, flags: 1 }]), '"a/data/0" is encrypted'],
    ['a name twice', zip([good, data, data]), '"a/data/0" is there twice'],
    ['two pickles', zip([good, data, entry('b/data.pkl')]), 'has 2 entries <name>/data.pkl, expected one'],
    ['no pickle', zip([data]), 'has 0 entries <name>/data.pkl'],
    ['a parent folder', zip([good, data, entry('a/../../b')]), 'an entry with the name "a/../../b"'],
    ['an absolute path', zip([good, data, entry('/etc/passwd')]), 'an entry with the name "/etc/passwd"'],
    ['a Windows path', zip([good, data, entry('C:\\b')]), 'an entry with the name "C:\\\\b"'],
    ['a NUL', zip([good, data, entry('a\0b')]), 'an entry with the name "a\\u0000b"'],
    ['an empty name', zip([good, data, entry('')]), 'an entry with the name ""'],
    ['a name that is not UTF-8', zip([good, data, entry('b', { claim: { name: '\xff' } })]), 'with the name ""'],
    ['an offset outside', zip([good, { ...data, claim: { offset: 1e9 } }]), 'begins at byte 1000000000'],
    ['a size outside', zip([good, { ...data, claim: { bytes: 1e9 } }]), 'claims 1000000000 bytes where'],
    ['a size into the next entry', zip([{ ...good, claim: { bytes: good.data.length + 20 } }, data]), 'claims'],
    ['entries in one place', zip([good, data, entry('a/b', { claim: { offset: 0 } })]), 'before what follows it'],
    ['entries that overlap', zip([good, data, entry('a/b', { claim: { offset: 60 } })]), 'before what follows it'],
    ['an entry that is no entry', zip([good, { ...data, claim: { offset: 39 + good.data.length } }]), 'is not what'],
    ['another name', zip([good, { ...data, name: 'a/data/1', claim: { name: 'a/data/0' } }]), 'is not what the zip'],
    ['a smaller size', zip([good, { ...data, claim: { bytes: 12 } }]), 'is not what the zip directory says of it'],
    ['a 64-bit size without field', zip([good, { ...data, claim: { bytes: 0xffffffff } }]), 'claims Infinity bytes'],
    ['another disk', zip([good, { ...data, claim: { disk: 1 } }]), 'another file of a split archive'],
    ['several disks', zip([good, data], { disk: 1 }), 'split over several files'],
    ['more entries', zip([good, data, entry('a/'.repeat(30))], { entries: 4 }), 'breaks off at byte'],
    ['far more entries', zip([good, data], { entries: 60000 }), '60000 entries'],
    ['a directory elsewhere', zip([good, data], { offset: 7 }), 'the zip directory claims bytes 7 to'],
    ['big-endian data', zip([good, data, entry('a/byteorder', { data: latin('big') })]), 'byte order is "big"'],
    ['a huge byte order', zip([good, entry('a/byteorder', { data: new Uint8Array(17) })]), 'expected at most 16'],
    ['a huge pickle', zip([{ ...good, data: new Uint8Array(2 ** 24 + 1) }]), 'has 16777217 bytes, expected at most'],
    ['no end', zip([good, data]).subarray(0, -1), 'has no end record; the file is cut short'],
  ])('%s', async (_, bytes, message) => {
    expect(await refusal(bytes)).toContain(message);
  });
});

describe('other files', () => {
  it.each<[string, Uint8Array, string]>([
    ['empty', latin(''), 'the file is empty'],
    ['a web page', latin('<!DOCTYPE html>'), 'is not a PyTorch checkpoint'],
    ['a Git LFS pointer', latin('version https://git-lfs.github.com/spec/v1\n'), 'run git lfs pull'],
    ['a tar archive', latin(`sys_info${'\0'.repeat(249)}ustar\x0000`), 'a tar archive as PyTorch before 0.1.10 wrote'],
    ['a pickle of plain values', latin('\x80\x02}.'), 'is a pickle but not one of torch.save'],
  ])('%s', async (_, bytes, message) => {
    expect(await refusal(bytes)).toContain(message);
  });

  it('names a file that is not there', async () => {
    await expect(readTorchArchive(join(folder, 'none.pt'))).rejects.toMatchObject({ kind: 'io' });
  });

  it.each(['views.pt', 'stream.pt', 'script.pt'])('%s cut short anywhere', async (name) => {
    const bytes = await readFile(fixtures + name);
    for (let length = 0; length < bytes.length; length += 61) await refusal(bytes.subarray(0, length));
    await refusal(bytes.subarray(0, -1));
  });
});

describe('thousands of damaged files', () => {
  /** A copy with one to four bits flipped. */
  function damage(bytes: Uint8Array, random: Random): Buffer {
    const out = Buffer.from(bytes);
    const flips = 1 + random.integer(4);
    for (let i = 0; i < flips; i++) out[random.integer(out.length)]! ^= 1 << random.integer(8);
    return out;
  }

  async function outcome(run: () => unknown): Promise<boolean> {
    try {
      await run();
      return true;
    } catch (error) {
      if (error instanceof ScionError) return false;
      throw error;
    }
  }

  it.each(['views.pt', 'stream.pt', 'script.pt'])('%s: an error or tensors within the file', async (name) => {
    const random = Random.seeded(3).child(name);
    const bytes = await readFile(fixtures + name);
    const path = join(folder, 'fuzz.pt');
    const accepted = { true: 0, false: 0 };
    reads.longest = 0;
    for (let i = 0; i < 200; i++) {
      await writeFile(path, damage(bytes, random));
      accepted[`${await outcome(async () => {
        const archive = await readTorchArchive(path);
        const tensors = await readTorchTensors(archive, archive.tensors.keys());
        for (const t of tensors.values()) expect(t.data.byteLength).toBeLessThanOrEqual(bytes.length);
      })}`]++;
    }
    expect(reads.longest).toBeGreaterThan(0);
    expect(reads.longest).toBeLessThanOrEqual(bytes.length);
    expect(accepted.false).toBeGreaterThan(50);
    expect(accepted.true).toBeGreaterThan(20); // in padding and data, where damage cannot be seen
  }, 20_000);

  it('the pickles alone', async () => {
    const random = Random.seeded(4);
    const accepted = { true: 0, false: 0 };
    for (const [name, begins, ends] of [['views.pt', '\x80\x02}', 'u.PK'], ['protocol-4.pt', '\x80\x04\x95', 'u.PK']]) {
      const file = await readFile(fixtures + name!);
      const bytes = file.subarray(file.indexOf(begins!, 0, 'latin1'), file.indexOf(ends!, 0, 'latin1') + 2);
      expect(readTorchPickle(bytes, name!).tensors.size).toBe(10);
      for (let i = 0; i < 2000; i++) {
        const damaged = damage(bytes, random);
        accepted[`${await outcome(() => {
          const pickled = readTorchPickle(damaged, name!);
          const range = { offset: 0, byteLength: 96 };
          const ranges = new Map([...pickled.storages.keys()].map((key) => [key, range]));
          placeTensors(pickled, ranges, 96, name!);
        })}`]++;
      }
    }
    expect(accepted.false).toBeGreaterThan(1000);
  }, 20_000);
});
