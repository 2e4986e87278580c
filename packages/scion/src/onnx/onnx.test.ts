import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readSafetensorsHeader, writeSafetensors } from '../formats/safetensors-node.js';
import { Graph, type Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { nodeRuntime } from '../runtime/node.js';
import type { Tensors } from '../runtime/session.js';
import { Random } from '../util/random.js';
import { type DType, type Shape, type Tensor, float32, fromFloat64, numel, toFloat32 } from '../util/tensor.js';
import { decodeModel } from './decode.js';
import { encodeModel } from './encode.js';

const runtime = nodeRuntime();
let folder: string;
beforeAll(async () => { folder = await mkdtemp(join(tmpdir(), 'scion-onnx-')); });
afterAll(async () => {
  await runtime.close();
  await rm(folder, { recursive: true });
});

async function run(graph: Graph, feeds: Tensors): Promise<Tensors> {
  const session = await runtime.load(encodeModel(graph));
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

const x23 = float32([2, 3], [1, -2, 3, 4, 5, -6]);
const setup = (): { graph: Graph; x: Value } => {
  const graph = new Graph();
  return { graph, x: graph.input('x', 'float32', [2, 3]) };
};

describe('encoding', () => {
  test('reads back as it was written', () => {
    const { graph, x } = setup();
    const w = graph.constant(float32([4, 3], Float32Array.from({ length: 12 }, (_, i) => i)), 'proj.weight');
    const product = graph.within('proj', () => b.fusedMatMul(x, w, { alpha: 0.5, transB: 1 }));
    graph.output('y', b.reshape(b.gelu(product, 'tanh'), [4, 2]));
    graph.output('z', b.cast(b.reduceMean(product, [1], 1), 'float16'));
    const { initializers, ...rest } = decodeModel(encodeModel(graph).bytes);
    expect(rest).toEqual({
      opsets: { '': 21, 'com.microsoft': 1 },
      inputs: [{ name: 'x', dtype: 'float32', shape: [2, 3] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: [4, 2] }, { name: 'z', dtype: 'float16', shape: [2, 1] }],
      nodes: [
        {
          op: 'FusedMatMul', domain: 'com.microsoft', name: 'proj/FusedMatMul_2', inputs: ['x', 'proj.weight'],
          outputs: ['%2'],
          attributes: { alpha: 0.5, transA: 0, transB: 1, transBatchA: 0, transBatchB: 0 },
        },
        { op: 'Gelu', domain: '', name: 'main/Gelu_3', inputs: ['%2'], outputs: ['%3'],
          attributes: { approximate: 'tanh' } },
        { op: 'Reshape', domain: '', name: 'main/Reshape_4', inputs: ['%3', 'int64(4,2)'], outputs: ['y'],
          attributes: {} },
        { op: 'ReduceMean', domain: '', name: 'main/ReduceMean_5', inputs: ['%2', 'int64(1)'], outputs: ['%5'],
          attributes: { keepdims: 1 } },
        { op: 'Cast', domain: '', name: 'main/Cast_6', inputs: ['%5'], outputs: ['z'], attributes: { to: 10 } },
      ],
    });
    expect(initializers.map(({ name, dtype, shape }) => ({ name, dtype, shape }))).toEqual([
      { name: 'proj.weight', dtype: 'float32', shape: [4, 3] },
      { name: 'int64(4,2)', dtype: 'int64', shape: [2] },
      { name: 'int64(1)', dtype: 'int64', shape: [1] },
    ]);
    expect(initializers[0]!.data).toEqual(new Uint8Array(Float32Array.from({ length: 12 }, (_, i) => i).buffer));
  });

  test('bytes that are no model are refused readably', () => {
    expect(() => decodeModel(new TextEncoder().encode('version https://git-lfs'), 'w.onnx'))
      .toThrow('w.onnx: is no ONNX model');
    expect(() => decodeModel(new Uint8Array(0), 'w.onnx')).toThrow('w.onnx: is an ONNX model without a graph');
  });

  test('constants that nothing reads are left out', () => {
    const { graph, x } = setup();
    graph.constant(float32([20], new Float32Array(20)), 'unused');
    graph.output('y', b.exp(x));
    expect(decodeModel(encodeModel(graph).bytes).initializers).toEqual([]);
  });
});

describe('outputs', () => {
  test('that are an input, a constant, one value twice, or also read by another node', async () => {
    const { graph, x } = setup();
    const y = b.neg(x);
    graph.output('same', x);
    graph.output('fixed', b.constant(graph, float32([2], [7, 8])));
    graph.output('y', y);
    graph.output('again', y);
    graph.output('next', b.mul(y, 2));
    const outputs = await run(graph, { x: x23 });
    expect(Object.fromEntries(Object.entries(outputs).map(([n, t]) => [n, [...(t.data as Float32Array)]]))).toEqual({
      same: [1, -2, 3, 4, 5, -6], fixed: [7, 8], y: [-1, 2, -3, -4, -5, 6], again: [-1, 2, -3, -4, -5, 6],
      next: [-2, 4, -6, -8, -10, 12],
    });
  });

  test('that carry the name of the input they are', async () => {
    const { graph, x } = setup();
    graph.output('x', x);
    graph.output('y', b.neg(x));
    expect((await run(graph, { x: x23 })).x!.data).toEqual(x23.data);
  });

  test('statistics of LayerNormalization that nothing reads are not computed', async () => {
    const { graph, x } = setup();
    const [w, c] = [b.full(graph, 'float32', [3], 2), b.full(graph, 'float32', [3], 1)];
    const [y, , rstd] = b.apply('LayerNormalization', [x, w, c], { axis: 1, epsilon: 1e-5 });
    graph.output('y', y!);
    const outputsOf = (): readonly string[] =>
      decodeModel(encodeModel(graph).bytes).nodes.find((n) => n.op === 'LayerNormalization')!.outputs;
    expect(outputsOf()).toEqual(['y']);
    graph.output('rstd', rstd!);
    expect(outputsOf()).toEqual(['y', '', 'rstd']);
    const variance = (14 / 3) - (2 / 3) ** 2; // of 1, -2, 3
    expect((await run(graph, { x: x23 })).rstd!.data[0]).toBeCloseTo(1 / Math.sqrt(variance + 1e-5), 6);
  });

  test('of Split and TopK, of which one alone is read', async () => {
    for (const part of [0, 1, 2]) {
      const { graph, x } = setup();
      graph.output('y', b.split(x, [1, 1, 1], 1)[part]!);
      expect((await run(graph, { x: x23 })).y!.data)
        .toEqual(Float32Array.of(...[0, 3].map((r) => x23.data[r + part]!)));
    }
    for (const part of [0, 1] as const) {
      const { graph, x } = setup();
      graph.output('y', b.topK(x, 1)[part]);
      const y = (await run(graph, { x: x23 })).y!;
      expect(Array.from(y.data as ArrayLike<number | bigint>, Number)).toEqual(part === 0 ? [3, 5] : [2, 1]);
    }
  });
});

describe('weights in a safetensors file', () => {
  const draw = (shape: Shape, dtype: DType): Tensor => {
    const random = Random.seeded(4).child(dtype);
    return fromFloat64(dtype, shape, Float64Array.from({ length: numel(shape) }, () => random.normal()));
  };

  /** `x W` for every file, with weights from files and from memory. */
  async function expectSame(
    files: { path: string; tensors: Record<string, Tensor> }[],
  ): Promise<ReturnType<typeof decodeModel>> {
    const results: Tensors[] = [];
    let model: ReturnType<typeof decodeModel> | undefined;
    for (const external of [true, false]) {
      const { graph, x } = setup();
      for (const { path, tensors } of files) {
        const file = await readSafetensorsHeader(path);
        for (const [name, t] of Object.entries(tensors)) {
          const at = file.tensors.get(name)!;
          const w = external
            ? b.cast(graph.external(name, t, { ...at, path: file.path }), 'float32')
            : b.constant(graph, toFloat32(t), name);
          graph.output(`y.${name}`, b.matmul(x, w));
        }
      }
      if (external) model = decodeModel(encodeModel(graph).bytes);
      results.push(await run(graph, { x: x23 }));
    }
    expect(Object.keys(results[0]!).length).toBe(files.flatMap((f) => Object.keys(f.tensors)).length);
    expect(results[0]).toEqual(results[1]);
    return model!;
  }

  const codes = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' };
  test.each(['float32', 'float16', 'bfloat16'] as const)('%s at an odd offset', async (dtype) => {
    const path = join(folder, `odd-${dtype}.safetensors`);
    // the header is read back below; a pad tensor of one byte in front of the weights makes their offset odd
    const tensors = { w: draw([3, 5], dtype) };
    const bytes = new Uint8Array(tensors.w.data.buffer);
    for (const padding of [0, 1, 2, 3]) {
      const header = JSON.stringify({
        pad: { dtype: 'U8', shape: [1], data_offsets: [0, 1] },
        w: { dtype: codes[dtype], shape: [3, 5], data_offsets: [1, 1 + bytes.length] },
      }) + ' '.repeat(padding);
      const prefix = new DataView(new ArrayBuffer(8));
      prefix.setBigUint64(0, BigInt(header.length), true);
      await writeFile(path, Buffer.concat([Buffer.from(prefix.buffer), Buffer.from(header), Buffer.of(9), bytes]));
      const model = await expectSame([{ path, tensors }]);
      expect(model.initializers[0]!.data).toEqual({
        location: `odd-${dtype}.safetensors`, offset: 8 + header.length + 1, byteLength: bytes.length,
      });
    }
  });

  test('behind links, as the Hugging Face cache lays them out', async () => {
    const repository = join(folder, 'models--a--b');
    await mkdir(join(repository, 'blobs'), { recursive: true });
    await mkdir(join(repository, 'snapshots', 'x'), { recursive: true });
    const tensors = { w: draw([3, 4], 'float32') };
    await writeSafetensors(join(repository, 'blobs', 'abc'), tensors);
    const link = join(repository, 'snapshots', 'x', 'model.safetensors');
    await symlink('../../blobs/abc', link);
    const model = await expectSame([{ path: link, tensors }]);
    expect(model.initializers[0]!.data).toMatchObject({ location: 'abc' });
  });

  test('in shards of different folders, one beside the folder of the other', async () => {
    await mkdir(join(folder, 'a', 'deep'), { recursive: true });
    await mkdir(join(folder, 'ab'));
    const paths = ['a/deep/1.safetensors', 'ab/2.safetensors', 'a/3.safetensors'];
    const files = paths.map((path, i) => (
      { path: join(folder, path), tensors: { [`w${i}`]: draw([3, 4], 'float32') } }));
    for (const { path, tensors } of files) await writeSafetensors(path, tensors);
    const model = await expectSame(files);
    expect(model.initializers.map((t) => (t.data as { location: string }).location)).toEqual(paths);
  });

  test('a relative path given by the user is made absolute before it gets here', async () => {
    await writeSafetensors(join(folder, 'plain.safetensors'), { w: draw([3, 4], 'float32') });
    const file = await readSafetensorsHeader(join(folder, 'a', '..', 'plain.safetensors'));
    expect(file.path.endsWith('/plain.safetensors') && !file.path.includes('..')).toBe(true);
  });

  test.each(['w.safetensors', './w.safetensors', '/models/../w.safetensors', '../w.safetensors'])(
    'a location %s could lead out of the folder and is refused', (path) => {
      const graph = new Graph();
      graph.output('y', graph.external('w', { dtype: 'float32', shape: [2] }, { path, offset: 0, byteLength: 8 }));
      expect(() => encodeModel(graph)).toThrow('expected an absolute path');
    });
});
