import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { cp, mkdir, mkdtemp, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  ModelProtoSchema, type TensorProto, TensorProtoSchema, TensorProto_DataLocation as Location,
} from '../onnx/generated/onnx_pb.js';
import { onnxModel, programOf } from '../onnx/testing/model.js';
import { float32 } from '../util/tensor.js';
import { readCheckpoint } from './checkpoint.js';
import { checkpointDigest } from './digest.js';
import { readOnnxModel } from './onnx-files.js';

const fixtures = fileURLToPath(new URL('../../../../fixtures/onnx/', import.meta.url));
let folder: string;
let file: string;
beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'scion-onnx-files-')));
  file = join(folder, 'm.onnx');
});
afterEach(() => rm(folder, { recursive: true }));

/** `y = x + w` with this w. */
async function write(w: Partial<Omit<TensorProto, '$typeName'>>, path = file): Promise<string> {
  const bytes = onnxModel({ opset: 18, inputs: { x: { dtype: 'float32', shape: [4] } },
    constants: { w: float32([4], [1, 2, 3, 4]) }, nodes: [{ op: 'Add', inputs: ['x', 'w'] }] });
  const model = fromBinary(ModelProtoSchema, bytes);
  model.graph!.initializer = [create(TensorProtoSchema, { name: 'w', dataType: 1, dims: [4n], ...w })];
  await writeFile(path, toBinary(ModelProtoSchema, model));
  return path;
}

const external = (location: string, offset = '0', length = '16'): Partial<TensorProto> => ({
  dataLocation: Location.EXTERNAL,
  externalData: Object.entries({ location, offset, length }).map(([key, value]) => (
    { $typeName: 'onnx.StringStringEntryProto', key, value })),
});

describe('constants that disagree with their bytes are refused', () => {
  const raw = (bytes: number): Partial<TensorProto> => ({ rawData: new Uint8Array(bytes) });
  test.each([
    [{ ...raw(15) }, /m\.onnx: w: has shape \[4\] of float32, which is 16 bytes, and holds 15; export the model again/],
    [{ ...raw(16), dims: [2n ** 40n] }, /has shape \[1099511627776\] of float32, which is 4398046511104 bytes, and holds 16/],
    [{ ...raw(16), dims: [2n ** 40n, 2n ** 40n] }, /and holds 16/],
    [{ ...raw(16), dims: [-4n] }, /has shape \[-4\]/],
    [{ dims: [2n ** 62n] }, /has shape \[4611686018427388000\]/],
    [{ floatData: [1, 2, 3] }, /which is 16 bytes, and holds 12/],
    [{ dims: [0n], ...raw(16) }, /has shape \[0\] of float32, which is 0 bytes, and holds 16/],
    [{ ...external('w.bin', '-1') }, /has external data at offset -1/],
    [{ ...external('w.bin', 'x') }, /has external data at offset NaN/],
    [{ ...external('w.bin', '0', '1e99') }, /has external data at offset 0 of 1e\+99 bytes/],
    [{ ...external('w.bin', '0', '12') }, /which is 16 bytes, and holds 12/],
  ] as [Partial<TensorProto>, RegExp][])('%#', async (tensor, message) => {
    await writeFile(join(folder, 'w.bin'), new Uint8Array(16));
    await expect(readOnnxModel(await write(tensor))).rejects.toThrow(message);
  });

  test('typed fields are read as raw bytes are', async () => {
    for (const tensor of [{ floatData: [1, 2, 3, 4] }, { rawData: new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer) }]) {
      const model = await readOnnxModel(await write(tensor));
      const graph = programOf(model, { x: float32([4], [0, 0, 0, 0]) });
      expect(graph.constants.map((v) => v.source.kind === 'constant' && v.source.data)).toMatchObject(
        [{ data: Float32Array.of(1, 2, 3, 4) }]);
    }
  });

  test('an element type that is not read is refused where it is used', async () => {
    const model = await readOnnxModel(await write({ dataType: 17, rawData: new Uint8Array(4) }));
    expect(() => programOf(model, { x: float32([4], [0, 0, 0, 0]) })).toThrow(/m\.onnx: w: has an element type that Scion does not read/);
  });
});

describe('constants in other files', () => {
  test('beside the model or below it are taken', async () => {
    await mkdir(join(folder, 'sub'));
    for (const name of ['w.bin', 'sub/w.bin']) {
      await writeFile(join(folder, name), new Uint8Array(20));
      const graph = programOf(await readOnnxModel(await write(external(name, '4'))), { x: float32([4], [0, 0, 0, 0]) });
      expect(graph.constants[0]!.source).toMatchObject({ data: { path: join(folder, name), offset: 4, byteLength: 16 } });
    }
  });

  test.each([['../w.bin'], ['sub/../../w.bin'], ['/etc/passwd'], ['C:w.bin'], ['sub\\w.bin'], ['a\0b'], ['//w.bin']])(
    'at %j are refused', async (location) => {
      const inner = join(folder, 'inner');
      await mkdir(inner);
      await writeFile(join(folder, 'w.bin'), new Uint8Array(16));
      await expect(readOnnxModel(await write(external(location), join(inner, 'm.onnx'))))
        .rejects.toThrow(/has constants in .*, expected a file beside it; refused/);
    });

  test('behind a link that leads out are refused, behind one that stays are not', async () => {
    const inner = join(folder, 'inner');
    await mkdir(inner);
    await writeFile(join(folder, 'secret'), new Uint8Array(16));
    await writeFile(join(inner, 'own'), new Uint8Array(16));
    const path = join(inner, 'm.onnx');
    await symlink('own', join(inner, 'inside'));
    expect((await readOnnxModel(await write(external('inside'), path))).inputs.size).toBe(1);
    await symlink('../secret', join(inner, 'outside'));
    await expect(readOnnxModel(await write(external('outside'), path))).rejects.toThrow(
      /has constants in "outside", a link out of its folder; refused/);
    await symlink('..', join(inner, 'up'));
    await expect(readOnnxModel(await write(external('up/secret'), path))).rejects.toThrow(/a link out of its folder/);
  });

  test('in the cache of Hugging Face lie among its blobs', async () => {
    const snapshot = join(folder, 'models--a--b/snapshots/x/onnx');
    const blobs = join(folder, 'models--a--b/blobs');
    for (const f of [snapshot, blobs]) await mkdir(f, { recursive: true });
    await write(external('m.onnx_data'), join(blobs, 'abc'));
    await writeFile(join(blobs, 'def'), new Uint8Array(16));
    await symlink('../../../blobs/abc', join(snapshot, 'm.onnx'));
    await symlink('../../../blobs/def', join(snapshot, 'm.onnx_data'));
    const graph = programOf(await readOnnxModel(join(snapshot, 'm.onnx')), { x: float32([4], [0, 0, 0, 0]) });
    expect(graph.constants[0]!.source).toMatchObject({ data: { path: join(blobs, 'def') } });
    await writeFile(join(folder, 'secret'), new Uint8Array(16));
    await rm(join(snapshot, 'm.onnx_data'));
    await symlink('../../../../secret', join(snapshot, 'm.onnx_data'));
    await expect(readOnnxModel(join(snapshot, 'm.onnx'))).rejects.toThrow(/a link out of its folder/);
  });

  test('that end before, or are not there, are named', async () => {
    await writeFile(join(folder, 'w.bin'), new Uint8Array(16));
    await expect(readOnnxModel(await write(external('w.bin', '4')))).rejects.toThrow(
      /m\.onnx: needs 20 bytes of "w\.bin", which has 16: cut short; get it again/);
    await expect(readOnnxModel(await write(external('none.bin')))).rejects.toMatchObject({ kind: 'io' });
    await expect(readOnnxModel(await write(external('', '1000000')))).rejects.toThrow(/needs 1000016 bytes of "m\.onnx"/);
  });
});

describe('bytes that are no graph', () => {
  test('cut off anywhere: refused or read, never a crash', async () => {
    const whole = new Uint8Array(await readFile(`${fixtures}clip/onnx/vision_model.onnx`));
    let refused = 0;
    for (let part = 1; part < 40; part++) {
      await writeFile(file, whole.subarray(0, Math.floor((whole.length * part) / 40)));
      await readOnnxModel(file).catch((error: unknown) => {
        expect(error).toMatchObject({ name: 'ScionError', kind: 'input' });
        refused++;
      });
    }
    expect(refused).toBeGreaterThan(35);
  });

  test('with bytes turned over: refused, or built, or refused when built', async () => {
    const whole = new Uint8Array(await readFile(`${fixtures}convnet/torchscript-13.onnx`));
    let state = 1;
    for (let round = 0; round < 60; round++) {
      const bytes = whole.slice();
      for (let i = 0; i < 5; i++) {
        state = (state * 48271) % 2147483647;
        bytes[state % bytes.length] = state % 256;
      }
      await writeFile(file, bytes);
      try {
        programOf(await readOnnxModel(file), { x: float32([2, 3, 22, 19], new Float32Array(2 * 3 * 22 * 19)) });
      } catch (error) {
        expect(error).toMatchObject({ name: 'ScionError', kind: 'input' });
      }
    }
  });

  const x = { x: { dtype: 'float32', shape: [4] } } as const;
  test.each([
    ['a cycle', { opset: 18, inputs: x, nodes: [
      { op: 'Add', name: 'a', inputs: ['x', 'c'], outputs: ['b'] }, { op: 'Neg', name: 'n', inputs: ['b'], outputs: ['c'] }] },
    /m\.onnx: node "a" waits for its own result: the graph has a cycle/],
    ['a value from nowhere', { opset: 18, inputs: x, nodes: [{ op: 'Add', name: 'a', inputs: ['x', 'q'] }] },
      /node "a" reads "q", which nothing gives/],
    ['a value given twice', { opset: 18, inputs: x, nodes: [{ op: 'Neg', inputs: ['x'] }, { op: 'Abs', inputs: ['x'] }] },
      /gives the value "y" twice/],
    ['an output from nowhere', { opset: 18, inputs: x, nodes: [{ op: 'Neg', inputs: ['x'] }], outputs: ['z'] },
      /has an output "z", which nothing gives/],
  ])('%s is refused', async (_, spec, message) => {
    await writeFile(file, onnxModel(spec));
    await expect(readOnnxModel(file)).rejects.toThrow(message);
  });

  test('a long chain is read without running out of stack', async () => {
    const nodes = Array.from({ length: 20_000 }, (_, i) =>
      ({ op: 'Neg', inputs: [i === 0 ? 'x' : `v${i}`], outputs: [`v${i + 1}`] }));
    await writeFile(file, onnxModel({ opset: 18, inputs: x, nodes }));
    expect(programOf(await readOnnxModel(file), { x: float32([4], [0, 0, 0, 0]) }).nodes.length).toBe(20_000);
  });
});

describe('the files of a model', () => {
  test('a folder of transformers.js: its towers, and the configuration above them', async () => {
    const { folder: root, config, onnx, tensors } = await readCheckpoint(`${fixtures}clip`);
    expect(root).toBe(`${fixtures}clip`);
    expect(config).toMatchObject({ model_type: 'clip' });
    expect(tensors.size).toBe(0);
    expect(onnx!.files.map((f) => f.split('/').at(-1))).toEqual(['vision_model.onnx', 'text_model.onnx']);
    expect([onnx!.image.inputs.has('pixel_values'), onnx!.text!.inputs.has('input_ids')]).toEqual([true, true]);
  });

  test('a file by its name: the text tower of the same precision, all constants counted', async () => {
    const half = await readCheckpoint(`${fixtures}clip/onnx/vision_model_fp16.onnx`);
    expect(half.onnx!.files.map((f) => f.split('/').at(-1))).toEqual(['vision_model_fp16.onnx', 'text_model_fp16.onnx']);
    expect(half.folder).toBe(`${fixtures}clip`);
    const { onnx } = await readCheckpoint(`${fixtures}clip-dynamo/vision_model.onnx`);
    expect(onnx!.files.map((f) => f.split('/').at(-1))).toEqual(['vision_model.onnx', 'vision_model.onnx.data', 'text_model.onnx']);
    const joint = await readCheckpoint(`${fixtures}clip-joint/model.onnx`);
    expect(joint.onnx!.text).toBe(joint.onnx!.image);
  });

  test('other weights of a folder come first; variants alone are named', async () => {
    await cp(`${fixtures}clip`, folder, { recursive: true });
    await rm(join(folder, 'onnx/vision_model.onnx'));
    await expect(readCheckpoint(folder)).rejects.toThrow(
      /has neither vision_model\.onnx nor model\.onnx; name one of its files instead: .*vision_model_fp16\.onnx, .*vision_model_quantized/);
    await cp(fileURLToPath(new URL('../../../../fixtures/clip/pictures/model/model.safetensors', import.meta.url)),
      join(folder, 'model.safetensors'));
    expect((await readCheckpoint(folder)).onnx).toBeUndefined();
  });

  test('the digest is that of all files', async () => {
    await cp(`${fixtures}clip`, folder, { recursive: true });
    const digest = async (): Promise<string> => checkpointDigest(await readCheckpoint(folder), folder, undefined);
    const before = await digest();
    expect(await digest()).toBe(before);
    const text = join(folder, 'onnx/text_model.onnx');
    const bytes = await readFile(text);
    const at = bytes.indexOf('pytorch');
    bytes.write('PyTorch', at);
    await writeFile(text, bytes);
    expect(await digest()).not.toBe(before);
  });
});
