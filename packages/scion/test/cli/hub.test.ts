/** Models of the hub, against a hub on this machine: every command, the run afterwards, the cache between processes. */
import { cp, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { type Files, startHub } from '../../src/hub/testing/server.js';
import { type Result, expectRefusal, scion, scratch, start, until } from '../support/cli.js';

const fixture = fileURLToPath(new URL('../../../../fixtures/clip/pictures/', import.meta.url));
const data = ['--data', join(fixture, 'data'), '--no-cache'];
const names = await readdir(join(fixture, 'model'));
const files: Files = Object.fromEntries(
  await Promise.all(names.map(async (name) => [name, await readFile(join(fixture, 'model', name))] as const)));
const id = 'org/clip-tiny';
const hub = await startHub({ [id]: { revisions: { main: files } } });
afterAll(() => hub.close());
const folder = await scratch();
let home: string;
let count = 0;
beforeEach(() => {
  home = join(folder, `home-${count++}`);
  hub.faults.length = hub.seen.length = 0;
});
const env = (more: Record<string, string> = {}) => ({
  HF_ENDPOINT: hub.endpoint, HF_HOME: home, HF_TOKEN: '', HF_HUB_CACHE: '', HF_HUB_OFFLINE: '', ...more,
});
const offline = { HF_HUB_OFFLINE: '1', HF_ENDPOINT: 'http://127.0.0.1:40009' };
async function good(args: readonly string[], more?: Record<string, string>, cwd = folder): Promise<Result> {
  const result = await scion(args, { env: env(more), cwd });
  expect(result.code, result.stderr).toBe(0);
  return result;
}
const commit = hub.commit(id);

test('train, then eval, predict and resume without the network, whatever has become of the branch', async () => {
  const run = join(folder, 'run');
  const { stderr } = await good(['train', ...data, '--model', id, '--shots', '1', '--method', 'zero-shot', '--out', run]);
  expect(stderr).toMatch(/org\/clip-tiny: model\.safetensors, \d+ kB/);
  const info = JSON.parse(await readFile(join(run, 'run.json'), 'utf8')) as
    { recipe: object; pictures: { model: Record<string, string> } };
  expect(info.recipe).toMatchObject({ model: id, revision: commit });
  expect(info.pictures.model).toMatchObject(
    { name: id, revision: commit, path: join(home, `hub/models--org--clip-tiny/snapshots/${commit}`) });
  hub.models.get(id)!.revisions = { main: { ...files, 'config.json': '{"model_type":"other"}' }, old: files };
  hub.seen.length = 0;
  try {
    const pictures = join(fixture, 'data/test');
    const first = await good(['predict', run, pictures, '--json'], offline);
    // with the network nothing is asked either: a commit does not change
    expect((await good(['predict', run, pictures, '--json'])).stdout).toBe(first.stdout);
    await good(['eval', run, '--data', join(fixture, 'data')], offline);
    // as a run that was stopped before its end
    await cp(run, `${run}-stopped`, { recursive: true });
    await writeFile(join(`${run}-stopped`, 'run.json'), JSON.stringify({ ...info, state: 'running', result: undefined }));
    await good(['resume', `${run}-stopped`], offline);
    await good(['graph', run, '--part', 'predict'], offline);
    expect(hub.seen).toEqual([]);
    // elsewhere it is downloaded by its commit; a copy of it does as well
    home = join(folder, 'another-home');
    expect((await good(['predict', run, pictures, '--json'])).stdout).toBe(first.stdout);
    const copy = ['predict', run, pictures, '--json', '--model', join(fixture, 'model')];
    expect((await good(copy, offline)).stdout).toBe(first.stdout);
    const moved = await scion(['predict', run, pictures, '--model', id, '--revision', 'main'], { env: env() });
    expectRefusal(moved, 1, [/model_type "other" is not supported/]);
    home = join(folder, 'empty-home');
    const none = await scion(['predict', run, pictures], { env: env(offline) });
    expectRefusal(none, 1, [`org/clip-tiny: no folder or file here; HF_HUB_OFFLINE is set, and revision "${commit}" is not there`]);
  } finally {
    hub.models.get(id)!.revisions = { main: files };
  }
}, 120_000);

test('features, compare and graph give what a local folder gives', async () => {
  const outputs: [string, string][] = [];
  for (const model of [id, join(fixture, 'model')]) {
    const out = join(folder, `features-${outputs.length}.safetensors`);
    await good(['features', ...data, '--model', model, '--out', out]);
    const { stdout } = await good(['compare', ...data, '--model', model, '--methods', 'zero-shot', '--shots', '1',
      '--seeds', '1', '--json']);
    const { cells } = JSON.parse(stdout) as { cells: { accuracy: number }[] };
    const { stdout: graph } = await good(['graph', ...data, '--model', model, '--shots', '1']);
    outputs.push([`${JSON.stringify(cells.map((c) => c.accuracy))} ${graph}`, out]);
  }
  expect(outputs[0]![0]).toBe(outputs[1]![0]);
  // but for the name of the model in the header the files are the same
  const [a, b] = await Promise.all(outputs.map(async ([, out]) => {
    const bytes = await readFile(out);
    return bytes.subarray(8 + Number(bytes.readBigUInt64LE()));
  }));
  expect(a!.length).toBeGreaterThan(500);
  expect(a!.equals(b!)).toBe(true);
}, 120_000);

describe('a recipe', () => {
  test('names a model of the hub with its revision, and a folder beside it comes first', async () => {
    const place = join(folder, 'recipes');
    await mkdir(join(place, 'org'), { recursive: true });
    const recipe = join(place, 'recipe.json');
    const text = { data: join(fixture, 'data'), model: id, shots: 1, method: 'zero-shot', cache: false };
    await writeFile(recipe, JSON.stringify({ ...text, revision: commit }));
    await good(['train', '--recipe', recipe, '--out', join(folder, 'from-recipe')]);
    await cp(join(fixture, 'model'), join(place, id), { recursive: true });
    await writeFile(recipe, JSON.stringify(text));
    hub.seen.length = 0;
    await good(['train', '--recipe', recipe, '--out', join(folder, 'from-folder')], offline);
    expect(hub.seen).toEqual([]);
    await rm(place, { recursive: true });
  }, 60_000);
});

test('two processes at once, one of them killed: the other goes on, and the cache is whole', async () => {
  hub.faults.push({ match: /^store/, times: 1, stall: 4000 });
  const args = (out: string) => ['features', ...data, '--model', id, '--out', join(folder, `${out}.safetensors`)];
  const slow = env({ HF_HUB_DOWNLOAD_TIMEOUT: '60' });
  const first = start(args('first'), { env: slow });
  await until(() => hub.seen.some(({ server }) => server === 'store'));
  const second = start(args('second'), { env: slow });
  await until(() => second.stderr().includes('another process is downloading model.safetensors'));
  first.child.kill('SIGKILL');
  await first.done;
  const { code, stderr } = await second.done;
  expect(code, stderr).toBe(0);
  expect(hub.seen.filter((s) => s.server === 'store').map((s) => s.range)).toEqual([undefined, 'bytes=4000-']);
  const blobs = await readdir(join(home, 'hub/models--org--clip-tiny/blobs'));
  expect(blobs.filter((name) => name.includes('.'))).toEqual([]);
}, 60_000);

test('what is wrong is said, with exit code 2 for names and 1 for the network', async () => {
  const train = (more: string[], given = env()) =>
    scion(['train', ...data, '--shots', '1', '--out', join(folder, 'never'), ...more], { env: given });
  expectRefusal(await train(['--model', 'org/none']), 2, [
    /^error: --model: org\/none: no folder or file here, and the hub http.* has no such model/m]);
  expectRefusal(await train(['--model', id, '--revision', 'v9']), 2, ['org/clip-tiny: has no revision "v9"']);
  expectRefusal(await train(['--revision', 'main']), 2, ['--revision: is of a model of the hub; name it with']);
  expectRefusal(await train(['--model', 'x@y']), 2, ['"x@y" is no folder or file here, no built-in model, and no name']);
  expectRefusal(await train(['--model', id], env(offline)), 1, ['HF_HUB_OFFLINE is set', 'is not there in the cache']);
  expectRefusal(await train(['--model', id], env({ HF_ENDPOINT: offline.HF_ENDPOINT })), 1, ['cannot be reached (ECONNREFUSED)']);
  expectRefusal(await train(['--model', id], env({ HF_ENDPOINT: 'hub' })), 2, ['HF_ENDPOINT: "hub": expected an address']);
}, 60_000);

test('scion models lists architectures and checkpoints', async () => {
  const { stdout } = await good(['models']);
  expect(stdout).toMatch(/clip, .*picto_clip/);
  expect(stdout).toMatch(/openai\/clip-vit-base-patch32 +CLIP ViT-B\/32 +151 M +605 MB/);
  expect(stdout).toContain('RN50.pt');
  expect(stdout).toContain(`${hub.endpoint} into ${join(home, 'hub')}`);
  const json = JSON.parse((await good(['models', '--json'])).stdout) as { architectures: string[]; checkpoints: object[] };
  expect(json.architectures).toContain('clip');
  expect(json.checkpoints.length).toBeGreaterThan(2);
}, 60_000);
