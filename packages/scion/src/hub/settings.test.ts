import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { isRevision, parseModelId } from './model-id.js';
import { hubSettings } from './settings.js';

const folder = await mkdtemp(join(tmpdir(), 'scion-settings-'));
afterAll(() => rm(folder, { recursive: true }));

describe('the environment', () => {
  test('that says nothing', async () => {
    expect(await hubSettings({ HF_TOKEN_PATH: '/none' })).toEqual({
      endpoint: 'https://huggingface.co', cache: join(homedir(), '.cache/huggingface/hub'), offline: false,
      timeout: 10_000, pause: 1000,
    });
  });

  test.each([
    [{ XDG_CACHE_HOME: '/x' }, '/x/huggingface/hub'],
    [{ XDG_CACHE_HOME: '/x', HF_HOME: '/h' }, '/h/hub'],
    [{ HF_HOME: '/h', HUGGINGFACE_HUB_CACHE: '/old' }, '/old'],
    [{ HF_HOME: '/h', HUGGINGFACE_HUB_CACHE: '/old', HF_HUB_CACHE: '/c' }, '/c'],
    [{ HF_HOME: '~/models' }, join(homedir(), 'models/hub')],
    [{ DISK: '/d', HF_HUB_CACHE: '$DISK/a/${DISK}/$NONE' }, '/d/a/d/$NONE'],
  ])('%j: the cache is %s', async (env, cache) => {
    expect(await hubSettings(env)).toMatchObject({ cache });
  });

  test('the token, by the variable before the file in HF_HOME', async () => {
    await writeFile(join(folder, 'token'), ' hf_file\n');
    expect(await hubSettings({ HF_HOME: folder })).toMatchObject({ token: 'hf_file' });
    expect(await hubSettings({ HF_HOME: folder, HF_TOKEN: 'hf_given\n' })).toMatchObject({ token: 'hf_given' });
    expect(await hubSettings({ HF_HOME: folder, HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' })).not.toHaveProperty('token');
    expect(await hubSettings({ HF_TOKEN_PATH: join(folder, 'token') })).toMatchObject({ token: 'hf_file' });
    await expect(hubSettings({ HF_TOKEN: 'hf_a\nX-Header: b' })).rejects.toMatchObject(
      { kind: 'usage', message: expect.stringMatching(/^(?!.*hf_a)HF_TOKEN: is no access token/) as string });
  });

  test.each([['1', true], ['yes', true], ['ON', true], ['True', true], ['0', false], ['', false], ['no', false]])(
    'HF_HUB_OFFLINE=%s: %s', async (value, offline) => {
      expect(await hubSettings({ HF_HUB_OFFLINE: value })).toMatchObject({ offline });
    });

  test('the endpoint, and values that cannot be meant', async () => {
    expect(await hubSettings({ HF_ENDPOINT: 'http://mirror:8080/hf/' })).toMatchObject({ endpoint: 'http://mirror:8080/hf' });
    for (const HF_ENDPOINT of ['huggingface.co', 'file:///x', 'nonsense']) {
      await expect(hubSettings({ HF_ENDPOINT })).rejects.toThrow(/^HF_ENDPOINT: .*expected an address such as https/);
    }
    await expect(hubSettings({ HF_HUB_DOWNLOAD_TIMEOUT: '-1' })).rejects.toThrow(/^HF_HUB_DOWNLOAD_TIMEOUT: "-1"/);
  });
});

test.each<[string, ReturnType<typeof parseModelId>]>([
  ['openai/clip-vit-base-patch32', { id: 'openai/clip-vit-base-patch32' }],
  ['a/b@refs/pr/1', { id: 'a/b', revision: 'refs/pr/1' }],
  ['timm/resnet50_clip.openai', { id: 'timm/resnet50_clip.openai' }],
  ...['clip', './a/b', 'a/b/c', '/a/b', '../b', 'a/..', 'a/b--c', 'a/b.git', '.a/b', 'a/b.', 'a\\b/c', 'a b/c', '', '/']
    .map((name): [string, undefined] => [name, undefined]),
])('%s as a name on the hub', (name, parts) => {
  expect(parseModelId(name)).toEqual(parts);
});

test.each([
  ...['main', 'v1.0', 'refs/pr/12', 'feature/x-y', '0123456789'.repeat(4)].map((name) => [name, true] as const),
  ...['', '..', 'a/../b', '/a', 'a/', 'a//b', 'a b', 'a\\b', '.git', 'a.lock', '-\n', 'x'.repeat(201)]
    .map((name) => [name, false] as const),
])('%j as a revision: %s', (name, valid) => {
  expect(isRevision(name)).toBe(valid);
});
