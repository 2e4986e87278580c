import { cp, mkdtemp, realpath, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readCheckpoint } from './checkpoint.js';

const fixtures = fileURLToPath(new URL('../../../../fixtures/clip/', import.meta.url));
let folder: string;
beforeEach(async () => { folder = await realpath(await mkdtemp(join(tmpdir(), 'scion-hub-'))); });
afterEach(() => rm(folder, { recursive: true }));

const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'] as const;
const index = (): string => join(folder, 'model.safetensors.index.json');
const writeIndex = (map: unknown): Promise<void> => writeFile(index(), JSON.stringify({ weight_map: map }));

test('one file: every tensor with its place, and the configuration as it stands', async () => {
  const { path, config, tensors } = await readCheckpoint(`${fixtures}quick-gelu`);
  expect(path).toBe(`${fixtures}quick-gelu`);
  expect(config).toMatchObject({ model_type: 'clip', projection_dim: 14 });
  const stored = tensors.get('visual_projection.weight')!;
  expect(stored).toMatchObject({ dtype: 'float32', shape: [14, 24], byteLength: 14 * 24 * 4 });
  expect(stored.path).toBe((await realpath(`${fixtures}quick-gelu/model.safetensors`)));
  expect(await readCheckpoint(`${fixtures}quick-gelu/model.safetensors`)).toMatchObject({ config, tensors });
});

test('no config.json is no error: OpenAI\'s checkpoints have none', async () => {
  expect((await readCheckpoint(`${fixtures}openai-vit`)).config).toBeUndefined();
});

test('links are resolved, as the cache of Hugging Face has them', async () => {
  await symlink(`${fixtures}quick-gelu/model.safetensors`, join(folder, 'model.safetensors'));
  const { tensors } = await readCheckpoint(folder);
  expect(tensors.get('logit_scale')!.path).toBe(await realpath(`${fixtures}quick-gelu/model.safetensors`));
});

test('a PyTorch file: the same tensors, a transposed view among them', async () => {
  const file = `${fixtures}quick-gelu/pytorch_model.bin`;
  const [torch, safe] = [await readCheckpoint(file), await readCheckpoint(`${fixtures}quick-gelu`)];
  expect(torch.config).toEqual(safe.config);
  expect([...torch.tensors.keys()].sort()).toEqual([...safe.tensors.keys()].sort());
  for (const [name, { dtype, shape, byteLength, transposed, path }] of torch.tensors) {
    expect({ dtype, shape, byteLength }, name).toEqual((({ dtype, shape, byteLength }) =>
      ({ dtype, shape, byteLength }))(safe.tensors.get(name)!));
    expect(transposed, name).toBe(name === 'text_projection.weight' ? true : undefined);
    expect(path).toBe(await realpath(file));
  }
  // in a folder it is taken where there is nothing else
  await cp(file, join(folder, 'pytorch_model.bin'));
  expect((await readCheckpoint(folder)).tensors.size).toBe(safe.tensors.size);
});

describe('shards', () => {
  beforeEach(() => cp(`${fixtures}gelu-half`, folder, { recursive: true }));

  test('are joined by the index', async () => {
    const { tensors } = await readCheckpoint(folder);
    const files = new Map([...tensors.values()].map((t) => [t.path, t.dtype]));
    expect([...files]).toEqual([[join(folder, shards[0]), 'float16'], [join(folder, shards[1]), 'bfloat16']]);
    expect(tensors).toEqual((await readCheckpoint(index())).tensors);
    await writeIndex({ logit_scale: shards[0] });
    expect([...(await readCheckpoint(folder)).tensors.keys()]).toEqual(['logit_scale']);
  });

  test('that are missing are all named', async () => {
    for (const shard of shards) await unlink(join(folder, shard));
    await expect(readCheckpoint(folder)).rejects.toMatchObject({ kind: 'input', issues: shards.map((shard) => (
      { path: index(), message: `names "${shard}", which is not beside it; get this file too` })) });
  });

  test('that lack a tensor are named with it', async () => {
    await writeIndex({ logit_scale: shards[0], 'a.weight': shards[1], 'b.weight': shards[1] });
    await expect(readCheckpoint(folder)).rejects.toThrow(
      /says that "a\.weight" is in "model-00002-of-00002\.safetensors", which has no such.*\n.*"b\.weight"/);
  });

  test.each([
    '../model.safetensors', '/etc/x.safetensors', 'a\\b.safetensors', 'C:x.safetensors', '..', '../model.bin',
    'model.onnx', 7, null,
  ])('named %j are refused', async (shard) => {
    await cp(`${fixtures}quick-gelu/model.safetensors`, join(folder, 'model.onnx'));
    await writeIndex({ logit_scale: shard });
    await expect(readCheckpoint(folder)).rejects.toThrow(/index\.json: names the file .*, expected the name of a/);
  });

  test.each([[[]], [null], [undefined], ['x']])('with weight_map %j are refused', async (map) => {
    await writeIndex(map);
    await expect(readCheckpoint(folder)).rejects.toThrow(/index\.json: has weight_map .*, expected tensor name →/);
  });
});

describe('what cannot be read is refused with the reason', () => {
  test('views that skip elements, all of them named', async () => {
    const views = readCheckpoint(join(fixtures, '../pickle/views.pt'));
    await expect(views).rejects.toMatchObject({ kind: 'input' });
    await expect(views).rejects.toThrow(/views\.pt: .* has strides .*expected row-major order; save it again/);
  });

  test.each(['evil-pickle.pt', 'evil-stream.pt', 'evil-zip.pt'])('%s, which would run a command', async (name) => {
    await expect(readCheckpoint(join(fixtures, '../pickle', name))).rejects.toThrow(
      /refers to .*(system|eval).*: refused; nothing was run/);
  });

  test('a folder that is not there', async () => {
    await expect(readCheckpoint(join(folder, 'none'))).rejects.toMatchObject({ kind: 'io' });
    await expect(readCheckpoint(join(folder, 'none'))).rejects.toThrow(/none: cannot read it: there is no such file/);
  });

  test('a folder without weights', async () => {
    await writeFile(join(folder, 'notes.txt'), '');
    await expect(readCheckpoint(folder)).rejects.toThrow(
      /has none of model\.safetensors, model\.safetensors\.index\.json, pytorch_model\.bin, .* has: "notes\.txt"; get/);
  });

  test('another kind of file', async () => {
    await writeFile(join(folder, 'notes.txt'), '');
    await expect(readCheckpoint(join(folder, 'notes.txt'))).rejects.toThrow(
      /notes\.txt: is another kind of file, expected one of \.safetensors, \.index\.json, \.bin, \.pt, \.pth/);
  });

  test('a config.json that is no JSON', async () => {
    await cp(`${fixtures}quick-gelu`, folder, { recursive: true });
    await writeFile(join(folder, 'config.json'), '{"model_type": ');
    await expect(readCheckpoint(folder)).rejects.toThrow(/config\.json: the content is not valid JSON/);
  });
});
