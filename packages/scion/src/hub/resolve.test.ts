import { cp, mkdir, mkdtemp, readdir, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { readCheckpoint } from './checkpoint.js';
import { checkpointDigest } from './digest.js';
import { resolveModel } from './resolve.js';

const folder = await mkdtemp(join(tmpdir(), 'scion-models-'));
afterAll(() => rm(folder, { recursive: true, force: true }));
const fixture = fileURLToPath(new URL('../../../../fixtures/clip/pictures/model', import.meta.url));

describe('a model', () => {
  test('by the name of a built-in one', async () => {
    await cp(fixture, join(folder, 'models/picto'), { recursive: true });
    expect(await resolveModel('picto', '--model', join(folder, 'models'))).toEqual({
      name: 'picto',
      path: join(folder, 'models/picto'),
    });
  });

  test('by its path, a folder or a file', async () => {
    for (const path of [fixture, join(fixture, 'model.safetensors')]) {
      expect(await resolveModel(path)).toEqual({ name: path, path });
    }
  });

  test.each(['openai/clip-vit-base-patch32', 'clip', 'toString'])(
    '%s is neither: the built-in ones are listed',
    async (name) => {
      await expect(resolveModel(name, '--model', folder)).rejects.toMatchObject({
        kind: 'usage',
        message: expect.stringMatching(
          /^--model: .* no built-in model; built-in: picto \(for pictograms.*DINOv2 checkpoint/,
        ) as string,
      });
    },
  );

  test('a built-in one that is missing from the package is said to be', async () => {
    await mkdir(join(folder, 'none'));
    await expect(resolveModel('picto', 'model', join(folder, 'none'))).rejects.toThrow(
      /^model: picto: this built-in model is not in/,
    );
  });
});

describe('the digest', () => {
  const digest = async (at: string, memory?: string): Promise<string> =>
    checkpointDigest(await readCheckpoint(at), at, memory);
  const copy = async (name: string): Promise<string> => {
    await cp(fixture, join(folder, name), { recursive: true });
    return join(folder, name);
  };

  test('is that of the content, wherever it lies', async () => {
    expect(await digest(fixture)).toMatch(/^[0-9a-f]{64}$/);
    expect(await digest(await copy('elsewhere'))).toBe(await digest(fixture));
  });

  test.each(['config.json', 'tokenizer.json', 'model.safetensors'])('changes with %s', async (name) => {
    const at = await copy(`other ${name}`);
    const held = await readCheckpoint(at);
    await writeFile(join(at, name), 'x', { flag: 'a' });
    expect(await checkpointDigest(held, at, undefined)).not.toBe(await digest(fixture));
  });

  test('weights are hashed once; another size or time of change is another file', async () => {
    const at = await copy('remembered');
    const weights = join(at, 'model.safetensors');
    const memory = join(folder, 'memory');
    await utimes(weights, 2000, 2000);
    const before = await digest(at, memory);
    expect(before).toBe(await digest(at));
    const held = await readCheckpoint(at);
    // the same size and time: what is remembered is believed, which shows that nothing is read again
    await writeFile(weights, Buffer.alloc((await stat(weights)).size));
    await utimes(weights, 2000, 2000);
    expect(await checkpointDigest(held, at, memory)).toBe(before);
    await utimes(weights, 1000, 1000);
    expect(await checkpointDigest(held, at, memory)).not.toBe(before);
    // a memory that was cut short is not believed
    for (const name of await readdir(memory)) await truncate(join(memory, name), 10);
    expect(await checkpointDigest(held, at, memory)).toBe(await checkpointDigest(held, at, undefined));
  });
});
