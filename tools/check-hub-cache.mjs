/**
 * Checks that Scion and Python's huggingface_hub share one cache, against a hub on this machine: what one has downloaded
 * the other finds without the network, and both at once leave it whole. Build first; then
 * `node tools/check-hub-cache.mjs PYTHON`, with a Python that has huggingface_hub.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import ts from 'typescript';
import { resolveModel } from '../packages/scion/dist/index.js';

const python = process.argv[2] ?? 'python3';
const root = fileURLToPath(new URL('..', import.meta.url));
// the tests' own hub is TypeScript that is not built
const source = await readFile(join(root, 'packages/scion/src/hub/testing/server.ts'), 'utf8');
const { outputText } = ts.transpileModule(source, { compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2023 } });
const { startHub } = await import(`data:text/javascript,${encodeURIComponent(outputText)}`);

const model = join(root, 'fixtures/clip/pictures/model');
const files = Object.fromEntries(
  await Promise.all((await readdir(model)).map(async (name) => [name, await readFile(join(model, name))])));
const large = Buffer.alloc(30_000_000, 'not really weights');
const id = 'org/tiny';
const hub = await startHub({ [id]: { revisions: { main: files } }, 'org/large': { revisions: { main: { ...files, 'model.safetensors': large } } } });
const folder = await mkdtemp(join(tmpdir(), 'scion-hub-check-'));

const run = async (home, code, more = {}) => {
  const env = { ...process.env, HF_ENDPOINT: hub.endpoint, HF_HOME: home, HF_HUB_DISABLE_XET: '1', ...more };
  delete env.HF_HUB_CACHE;
  const { stdout } = await promisify(execFile)(python, ['-c', code], { env });
  return stdout.trim();
};
const settings = (home, more) =>
  ({ endpoint: hub.endpoint, cache: join(home, 'hub'), offline: false, timeout: 10_000, pause: 100, ...more });

try {
  console.log('huggingface_hub', await run(folder, 'import huggingface_hub as h; print(h.__version__)'));

  const theirs = join(folder, 'python-first');
  const path = await run(theirs, `from huggingface_hub import snapshot_download; print(snapshot_download('${id}'))`);
  const found = await resolveModel(id, { settings: settings(theirs, { offline: true }) });
  assert.equal(found.path, path);
  assert.equal(found.revision, hub.commit(id));
  hub.seen.length = 0;
  await resolveModel(id, { settings: settings(theirs) });
  assert.deepEqual(hub.seen.filter(({ url }) => /safetensors|store/.test(url)), []);
  console.log('downloaded by Python, found by Scion: ok');

  const ours = join(folder, 'scion-first');
  const own = await resolveModel(id, { settings: settings(ours) });
  hub.seen.length = 0;
  const said = JSON.parse(await run(ours, `
import json
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache
cache = scan_cache_dir()
[repo] = cache.repos
[revision] = repo.revisions
print(json.dumps({
  'snapshot': snapshot_download('${id}'), 'file': hf_hub_download('${id}', 'model.safetensors'),
  'warnings': [str(w) for w in cache.warnings], 'id': repo.repo_id, 'commit': revision.commit_hash,
  'refs': sorted(revision.refs), 'files': sorted(f.file_name for f in revision.files),
  'lacks': try_to_load_from_cache('${id}', 'merges.txt') is not None,
}))`, { HF_HUB_OFFLINE: '1' }));
  assert.deepEqual(said, { snapshot: own.path, file: join(own.path, 'model.safetensors'), warnings: [], id,
    commit: hub.commit(id), refs: ['main'], files: Object.keys(files).sort(), lacks: true });
  assert.deepEqual(hub.seen, []);
  // with the network Python downloads nothing again either
  await run(ours, `from huggingface_hub import snapshot_download; snapshot_download('${id}')`);
  assert.deepEqual(hub.seen.filter(({ method, server }) => server === 'store' && method === 'GET'), []);
  console.log('downloaded by Scion, found by Python: ok');

  const both = join(folder, 'both');
  const [a, b] = await Promise.all([
    run(both, "from huggingface_hub import snapshot_download; print(snapshot_download('org/large'))"),
    resolveModel('org/large', { settings: settings(both) }),
  ]);
  assert.equal(a, b.path);
  assert.ok((await readFile(join(a, 'model.safetensors'))).equals(large));
  const blobs = await readdir(join(both, 'hub/models--org--large/blobs'));
  assert.deepEqual(blobs.filter((name) => name.includes('.')), []);
  console.log('both at once: ok');
} finally {
  await hub.close();
  await rm(folder, { recursive: true, force: true });
}
