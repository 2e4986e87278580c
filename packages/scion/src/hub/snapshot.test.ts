import { createHash } from 'node:crypto';
import { lstat, mkdir, mkdtemp, readFile, readdir, readlink, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readCheckpoint } from './checkpoint.js';
import type { HubSettings } from './settings.js';
import { type SnapshotOptions, hubSnapshot } from './snapshot.js';
import { type Files, type TestHub, startHub } from './testing/server.js';

const id = 'org/clip-tiny';
const weights = Buffer.alloc(300_000, 'weights');
const sha = createHash('sha256').update(weights).digest('hex');
const files: Files = {
  'config.json': '{"model_type":"clip"}', 'tokenizer.json': '{}', 'preprocessor_config.json': '{"size":224}',
  'README.md': 'read me', 'model.safetensors': weights, 'pytorch_model.bin': 'the same again', 'tf_model.h5': 'and again',
};
let cache: string;
let hub: TestHub;
beforeEach(async () => {
  cache = await realpath(await mkdtemp(join(tmpdir(), 'scion-hub-cache-')));
  hub = await startHub({ [id]: { revisions: { main: files, 'v1.0': { ...files, 'config.json': '{"old":1}' } } } });
});
afterEach(async () => {
  await hub.close();
  await rm(cache, { recursive: true });
});

const folder = (): string => join(cache, 'models--org--clip-tiny');
const settings = (more: Partial<HubSettings> = {}): HubSettings =>
  ({ endpoint: hub.endpoint, cache, offline: false, timeout: 2000, pause: 5, ...more });
const get = (revision = 'main', more: Partial<HubSettings> = {}, options: SnapshotOptions = {}) =>
  hubSnapshot(id, revision, { ...options, settings: settings(more) });
const downloads = (): string[] => hub.seen.filter(({ url }) => url.includes('/resolve/')).map(({ url }) =>
  url.slice(url.lastIndexOf('/') + 1));

describe('a model of the hub', () => {
  test('lies in the cache as Python has it: blobs by etag, links in the snapshot, the ref', async () => {
    const said: [number, number, string][] = [];
    const { commit, path } = await get('main', {}, { onProgress: (...all) => said.push(all) });
    expect(commit).toBe(hub.commit(id));
    expect(path).toBe(join(folder(), 'snapshots', commit));
    expect(await readFile(join(folder(), 'refs/main'), 'utf8')).toBe(commit);
    expect(await readlink(join(path, 'model.safetensors'))).toBe(`../../blobs/${sha}`);
    expect(await readFile(join(path, 'model.safetensors'))).toEqual(weights);
    const config = createHash('sha1').update('blob 21\0{"model_type":"clip"}').digest('hex');
    expect(await readlink(join(path, 'config.json'))).toBe(`../../blobs/${config}`);
    // names of blobs and nothing else: no part, lock or temporary file is left
    expect((await readdir(join(folder(), 'blobs'))).filter((name) => !/^[0-9a-f]{40,64}$/.test(name))).toEqual([]);
    expect(await readdir(join(cache, '.locks/models--org--clip-tiny'))).toEqual([]);
    const last = said.at(-1)!;
    expect(last).toEqual([weights.length, weights.length, `${id}: model.safetensors, 300 kB`]);
  });

  test('only what is read is downloaded, and not twice', async () => {
    await get();
    expect(downloads().sort()).toEqual(['config.json', 'model.safetensors', 'preprocessor_config.json', 'tokenizer.json']);
    hub.seen.length = 0;
    const { commit } = await get();
    expect(hub.seen.map(({ url }) => url.split('?')[0])).toEqual([`/api/models/${id}/revision/main`]);
    hub.seen.length = 0;
    await get(commit);
    expect(hub.seen).toEqual([]);
  });

  test('by tag and by commit; blobs are shared', async () => {
    await get();
    hub.seen.length = 0;
    const old = await get('v1.0');
    expect(downloads()).toEqual(['config.json']);
    expect(await readFile(join(old.path, 'config.json'), 'utf8')).toBe('{"old":1}');
    expect(old).toEqual(await get(hub.commit(id, 'v1.0')));
  });

  test('a branch that moves is followed, and the old commit stays', async () => {
    const before = await get();
    hub.models.get(id)!.revisions = { main: { ...files, 'config.json': '{}' } };
    const after = await get();
    expect(after.commit).not.toBe(before.commit);
    expect(await readFile(join(before.path, 'config.json'), 'utf8')).toBe(files['config.json']);
    expect(await get(before.commit)).toEqual(before);
  });

  test('PyTorch weights where there are no others; lists of several pages', async () => {
    const { 'model.safetensors': _, ...rest } = files;
    hub.models.get(id)!.revisions = { main: rest };
    hub.page = 2;
    const { path } = await get();
    expect((await readdir(path)).sort()).toEqual(
      ['config.json', 'preprocessor_config.json', 'pytorch_model.bin', 'tokenizer.json']);
  });

  test('shards by their index', async () => {
    const index = { weight_map: { a: 'model-1.safetensors', b: 'model-2.safetensors', c: 'model-1.safetensors' } };
    const { 'model.safetensors': _, ...rest } = files;
    const sharded = { ...rest, 'model.safetensors.index.json': JSON.stringify(index),
      'model-1.safetensors': 'one', 'model-2.safetensors': 'two', 'model-3.safetensors': 'of another precision' };
    hub.models.get(id)!.revisions = { main: sharded };
    const { path } = await get();
    expect((await readdir(path)).filter((name) => /model/.test(name)).sort()).toEqual(
      ['model-1.safetensors', 'model-2.safetensors', 'model.safetensors.index.json']);
    await rm(join(path, 'model-2.safetensors'));
    expect((await get()).path).toBe(path);
    expect(await readFile(join(path, 'model-2.safetensors'), 'utf8')).toBe('two');
  });
});

test('a cache that cannot be written serves as far as it goes', async () => {
  const before = await get();
  await rm(join(folder(), '.no_exist'), { recursive: true });
  await writeFile(join(folder(), '.no_exist'), 'in the way');
  await rm(join(folder(), 'refs'), { recursive: true });
  await writeFile(join(folder(), 'refs'), 'in the way');
  hub.seen.length = 0;
  expect(await get()).toEqual(before);
  expect(downloads()).toEqual([]);
});

describe('without the network', () => {
  test('what is in the cache serves, by branch and by commit', async () => {
    const before = await get();
    hub.seen.length = 0;
    expect(await get('main', { offline: true })).toEqual(before);
    expect(await get(before.commit, { offline: true })).toEqual(before);
    expect(hub.seen).toEqual([]);
    await expect(get('v1.0', { offline: true })).rejects.toMatchObject({ kind: 'io', message: expect.stringMatching(
      /--model: org\/clip-tiny: no folder or file here; HF_HUB_OFFLINE is set, and revision "v1\.0" is not there in the cache .*; take/) as string });
  });

  test('a hub that is not there is an error, and a warning where the cache serves', async () => {
    const other = await startHub();
    await other.close();
    await expect(get('main', { endpoint: other.endpoint })).rejects.toMatchObject({ kind: 'io', message:
      expect.stringMatching(/^--model: org\/clip-tiny: no folder or file here, and the hub http:\S+ cannot be reached \(ECONNREFUSED\); check/) as string });
    const before = await get();
    const warnings: string[] = [];
    hub.faults.push({ match: /revision/, status: 503 });
    expect(await get('main', {}, { onWarning: (w) => warnings.push(w) })).toEqual(before);
    expect(warnings).toEqual([`${id}: the hub ${hub.endpoint} answers with 503; try again later; going on with ` +
      `${before.commit.slice(0, 12)} from the cache`]);
  });

  test('a snapshot without weights does not serve', async () => {
    await mkdir(join(folder(), 'snapshots', hub.commit(id)), { recursive: true });
    await writeFile(join(folder(), 'snapshots', hub.commit(id), 'config.json'), '{}');
    await expect(get(hub.commit(id), { offline: true })).rejects.toThrow(/is there in part only in the cache/);
  });
});

describe('the token', () => {
  const token = 'hf_secret';

  test('is sent to the hub, and never to where the hub leads', async () => {
    hub.models.get(id)!.token = token;
    await get('main', { token });
    expect(hub.seen.filter(({ server }) => server === 'hub').every((s) => s.authorization === `Bearer ${token}`)).toBe(true);
    const store = hub.seen.filter(({ server }) => server === 'store');
    expect(store.map(({ authorization }) => authorization)).toEqual([undefined]);
  });

  test.each([
    ['without one', undefined, 'usage', /has no such model, or it is private: then give an access token in HF_TOKEN/],
    ['with another', 'hf_other', 'usage', /has no such model that this token may see; check the name/],
  ])('%s a private model is not to be seen', async (_, given, kind, message) => {
    hub.models.get(id)!.token = token;
    await expect(get('main', given === undefined ? {} : { token: given })).rejects.toMatchObject(
      { kind, message: expect.stringMatching(message) as string });
  });

  test('that the hub refuses is said to be refused, and not shown', async () => {
    hub.faults.push({ match: /^hub/, status: 401 });
    await expect(get('main', { token })).rejects.toMatchObject({ kind: 'io', message: expect.stringMatching(
      /^(?!.*hf_secret).*the hub refuses the access token \(HF_TOKEN/) as string });
  });
});

describe('what the hub refuses is said in words', () => {
  test('a model that is not there', async () => {
    await expect(hubSnapshot('org/none', 'main', { settings: settings() })).rejects.toMatchObject({
      kind: 'usage', message: expect.stringMatching(/^--model: org\/none: no folder or file here, and the hub /) as string });
  });

  test('a revision that is not there', async () => {
    await expect(get('v9')).rejects.toMatchObject({ kind: 'usage', message: expect.stringMatching(
      /^--model: org\/clip-tiny: has no revision "v9"; see /) as string });
  });

  test('terms to be accepted', async () => {
    hub.models.get(id)!.gated = true;
    await expect(get()).rejects.toThrow(/handed out to those who accept its terms; do so at http.*\/org\/clip-tiny/);
  });

  test('a model without weights', async () => {
    hub.models.get(id)!.revisions = { main: { 'README.md': '' } };
    await expect(get()).rejects.toMatchObject({ kind: 'input', message: expect.stringMatching(
      /has none of model\.safetensors, .*; it has: "README\.md"/) as string });
  });

  test('something else than a hub', async () => {
    hub.faults.push({ match: /^hub/, status: 200, body: '<html>' });
    await expect(get()).rejects.toThrow(/answers with something else than expected .*; check HF_ENDPOINT/);
  });
});

describe('faults that pass', () => {
  test('429 with Retry-After is waited for', async () => {
    hub.faults.push({ match: /revision/, times: 1, status: 429, headers: { 'Retry-After': '1' } });
    const warnings: string[] = [];
    const start = performance.now();
    await get('main', {}, { onWarning: (w) => warnings.push(w) });
    expect(performance.now() - start).toBeGreaterThan(990);
    expect(warnings).toEqual([`${id}: the hub asks to wait (429, too many requests); asking again in 1 s`]);
  });

  test('a wait of hours is not', async () => {
    hub.faults.push({ match: /revision/, status: 429, headers: { 'Retry-After': '7200' } });
    await expect(get()).rejects.toThrow(/answers with 429, to be asked again in 7200 s; with HF_TOKEN more/);
    expect(hub.seen).toHaveLength(1);
  });

  test('an error of the server is asked again, five times in all', async () => {
    hub.faults.push({ match: /tree/, times: 2, status: 502 });
    await get();
    hub.faults.push({ match: /revision/, status: 500 });
    hub.seen.length = 0;
    await expect(get('v1.0')).rejects.toThrow(/answers with 500; try again later/);
    expect(hub.seen).toHaveLength(5);
  });

  test('an answer that is cut or falls silent is asked for again', async () => {
    hub.faults.push({ match: /revision/, times: 1, cut: 10 }, { match: /tree/, times: 1, stall: 10 });
    await get('main', { timeout: 300 });
    expect(hub.seen.filter(({ url }) => url.startsWith('/api')).map(({ url }) => url.split('/')[5])).toEqual(
      ['revision', 'revision', 'tree', 'tree']);
  });

  test('a connection that is cut goes on from there', async () => {
    hub.faults.push({ match: /^store/, times: 2, cut: 100_000 });
    const { path } = await get();
    expect(await readFile(join(path, 'model.safetensors'))).toEqual(weights);
    expect(hub.seen.filter((s) => s.server === 'store').map((s) => s.range)).toEqual(
      [undefined, 'bytes=100000-', 'bytes=200000-']);
  });

  test('a connection that falls silent too', async () => {
    hub.faults.push({ match: /^store/, times: 1, stall: 100_000 });
    await get('main', { timeout: 300 });
    expect(hub.seen.filter((s) => s.server === 'store').map((s) => s.range)).toEqual([undefined, 'bytes=100000-']);
  });

  test('a server that knows no ranges sends all of it', async () => {
    hub.faults.push({ match: /^store/, times: 1, cut: 100_000 }, { match: /^store/, whole: true });
    const { path } = await get();
    expect(await readFile(join(path, 'model.safetensors'))).toEqual(weights);
  });

  test('a download that was given up goes on the next time', async () => {
    hub.faults.push({ match: /^store/, times: 1, cut: 100_000 }, { match: /^store/, times: 6, cut: 0 });
    await expect(get()).rejects.toThrow(
      /breaks off model\.safetensors after 100000 of 300000 bytes \(.+\); the same command goes on from there/);
    hub.faults.length = hub.seen.length = 0;
    await get();
    expect(hub.seen.filter((s) => s.server === 'store').map((s) => s.range)).toEqual(['bytes=100000-']);
  });

  test('as does one that was stopped', async () => {
    const stop = new AbortController();
    hub.faults.push({ match: /^store/, stall: 100_000 });
    const onProgress = (done: number): void => { if (done === 100_000) stop.abort(); };
    await expect(get('main', {}, { signal: stop.signal, onProgress })).rejects.toMatchObject({ kind: 'interrupted' });
    hub.faults.length = hub.seen.length = 0;
    await get();
    expect(hub.seen.filter((s) => s.server === 'store').map((s) => s.range)).toEqual(['bytes=100000-']);
  });

  test('a part that was damaged is found out and downloaded again', async () => {
    await mkdir(join(folder(), 'blobs'), { recursive: true });
    await writeFile(join(folder(), `blobs/${sha}.scion.incomplete`), Buffer.alloc(5000));
    const warnings: string[] = [];
    const { path } = await get('main', {}, { onWarning: (w) => warnings.push(w) });
    expect(await readFile(join(path, 'model.safetensors'))).toEqual(weights);
    expect(warnings).toEqual([`${id}: model.safetensors has another checksum than the hub lists; downloading it again`]);
  });
});

describe('what must not get into the cache', () => {
  const blobs = async (): Promise<string[]> => (await readdir(join(folder(), 'blobs'))).filter((n) => n.startsWith(sha));

  test('another content of the same length', async () => {
    hub.faults.push({ match: /^store/, content: Buffer.alloc(weights.length) });
    await expect(get()).rejects.toThrow(/sends another content of model\.safetensors than it lists .*, twice/);
    expect(await blobs()).toEqual([]);
  });

  test.each([299_999, 300_001])('%d bytes instead of those listed', async (length) => {
    hub.faults.push({ match: /^store/, content: Buffer.alloc(length) });
    await expect(get()).rejects.toThrow(`sends ${length} bytes of model.safetensors, it lists 300000`);
    await expect(stat(join(folder(), 'blobs', sha))).rejects.toThrow('ENOENT');
  });

  test('a blob of another length is not believed', async () => {
    await mkdir(join(folder(), 'blobs'), { recursive: true });
    await writeFile(join(folder(), 'blobs', sha), 'cut short');
    const { path } = await get();
    expect(await readFile(join(path, 'model.safetensors'))).toEqual(weights);
  });

  test.each([
    ['an etag that is a path', 'config.json', { oid: '../../../escaped' }],
    ['an etag of another kind', 'config.json', { oid: 7 }],
    ['a size that is none', 'config.json', { size: -1 }],
    ['a size of another kind', 'config.json', { size: '5' }],
  ])('%s', async (_, path, lie) => {
    hub.lies.set(path, lie);
    await expect(get()).rejects.toThrow(/lists "config\.json" with .* bytes and the checksum /);
    expect(await readdir(cache)).toEqual([]);
  });

  test('names that lead out of it', async () => {
    hub.lies.set('README.md', { path: '../../../../escaped' });
    await get();
    const index = JSON.stringify({ weight_map: { a: '../../../../out.safetensors', b: 'a b.safetensors' } });
    hub.models.get(id)!.revisions = { main: { 'config.json': '{}', 'model.safetensors.index.json': index,
      '../../../../out.safetensors': 'x', 'a b.safetensors': 'x' } };
    await expect(get()).rejects.toThrow(/names "a b\.safetensors", which the model does not have/);
    expect((await readdir(cache, { recursive: true })).filter((name) => /escaped|out\./.test(name))).toEqual([]);
    await expect(lstat(join(cache, '../out.safetensors'))).rejects.toThrow('ENOENT');
  });

  test('a commit that is none', async () => {
    hub.faults.push({ match: /revision/, status: 200, headers: { 'Content-Type': 'application/json' },
      body: '{"sha":"../../escaped"}' });
    await expect(get()).rejects.toThrow(/says that "main" is the commit "\.\.\/\.\.\/escaped", expected 40/);
  });

  test('redirects without end', async () => {
    hub.faults.push({ match: /revision/, status: 302, headers: { Location: '/api/models/org/clip-tiny/revision/main' } });
    await expect(get()).rejects.toThrow(/leads from one address to the next/);
  });

  test.each(['file:///etc/passwd', 'ftp://x/y', 'http://['])('a redirect to %s', async (location) => {
    hub.faults.push({ match: /^hub.*resolve/, status: 302, headers: { Location: location } });
    await expect(get()).rejects.toThrow(/leads to ".*": refused/);
  });
});

test('several at once download a file once, and all have it whole', async () => {
  const all = await Promise.all(Array.from({ length: 6 }, () => get()));
  expect(new Set(all.map(({ path }) => path)).size).toBe(1);
  expect(downloads().filter((name) => name === 'model.safetensors')).toHaveLength(1);
  expect(await readFile(join(all[0]!.path, 'model.safetensors'))).toEqual(weights);
});

test('what was downloaded is a checkpoint like any other', async () => {
  hub.models.get(id)!.revisions = { main: { ...files,
    'model.safetensors': await readFile(new URL('../../../../fixtures/clip/quick-gelu/model.safetensors', import.meta.url)) } };
  const { path } = await get();
  expect((await readCheckpoint(path)).tensors.get('logit_scale')!.path).toContain(join(folder(), 'blobs'));
});
