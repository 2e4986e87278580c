import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { decodeModel } from './decode.js';
import { skeletonOf } from './skeleton.js';

const fixtures = fileURLToPath(new URL('../../../../fixtures/onnx/', import.meta.url));
const reader = (bytes: Uint8Array) => {
  const asked: number[] = [];
  const read = (offset: number, length: number): Promise<Uint8Array> => {
    asked.push(length);
    return Promise.resolve(bytes.slice(offset, offset + length));
  };
  return { read, asked };
};

describe('the model without its weights', () => {
  test.each(['clip/onnx/text_model.onnx', 'clip-dynamo/vision_model.onnx', 'convnet/torchscript-13.onnx'])(
    '%s says the same, with weights at their places', async (name) => {
      const bytes = new Uint8Array(await readFile(fixtures + name));
      const slim = await skeletonOf(reader(bytes).read, bytes.length, name, 256);
      const [whole, summary] = [decodeModel(bytes), decodeModel(slim)];
      expect({ ...summary, initializers: [] }).toEqual({ ...whole, initializers: [] });
      let moved = 0;
      summary.initializers.forEach((t, i) => {
        const expected = whole.initializers[i]!;
        expect({ ...t, data: undefined }).toEqual({ ...expected, data: undefined });
        const inside = 'location' in t.data && t.data.location === '' ? t.data : undefined;
        const data = inside ? bytes.slice(inside.offset, inside.offset + inside.byteLength) : t.data;
        expect(data).toEqual(expected.data);
        if (inside) moved++;
      });
      const large = whole.initializers.filter(({ data }) => 'length' in data && data.length > 256);
      expect(moved).toBe(large.length);
    });

  test('weights are not read, those of Constant nodes neither', async () => {
    const { onnxModel } = await import('./testing/model.js');
    const { float32 } = await import('../util/tensor.js');
    const weight = float32([1000, 1000], new Float32Array(1e6));
    const bytes = onnxModel({ opset: 18, inputs: { x: { dtype: 'float32', shape: [1000, 1000] } }, constants: { w: weight },
      nodes: [{ op: 'Constant', inputs: [], outputs: ['c'], attributes: { value: weight } },
        { op: 'Sum', inputs: ['x', 'w', 'c'] }] });
    const { read, asked } = reader(bytes);
    const slim = await skeletonOf(read, bytes.length, 'm.onnx');
    expect(slim.length).toBeLessThan(500);
    expect(asked.reduce((a, c) => a + c, 0)).toBeLessThan(2 ** 20);
    const { initializers, nodes } = decodeModel(slim);
    expect(initializers[0]).toMatchObject({ data: { location: '', byteLength: 4e6 } });
    expect(nodes[0]!.attributes).toMatchObject({ value: { data: { location: '', byteLength: 4e6 } } });
  });

  test.each([
    ['an unknown wire type', [7]], ['a length beyond the end', [0x3a, 100, 0]], ['a number that does not end', [0x08, 0xff, 0xff]],
    ['a message that ends in a key', [0x3a, 1, 0x2a]], ['eight bytes that are not there', [0x09, 1, 2]],
    ['a length of 2^63', [0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]],
  ])('%s is refused', async (_, bytes) => {
    await expect(skeletonOf(reader(Uint8Array.from(bytes)).read, bytes.length, 'm.onnx'))
      .rejects.toThrow('m.onnx: is no ONNX model, expected its protobuf encoding');
  });
});
