/** A model of the hub to a folder of the cache, with the files that Scion reads and no others. */
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { type ListFileEntry, listFiles, modelInfo } from '@huggingface/hub';
import { readBytes } from '../formats/files.js';
import { brief, isObject, parseStrictJson } from '../formats/json.js';
import { bytesInWords } from '../util/bytes.js';
import { ScionError, inputError, ioError } from '../util/errors.js';
import { type CachedModel, cachedModel, exists, makeFolder } from './cache.js';
import { isShardName, maxJsonBytes, weightNames } from './checkpoint.js';
import { type HubFile, downloadBlob } from './download.js';
import { isCommit } from './model-id.js';
import { type HubConnection, Unreachable, stopIf, wholeFetch } from './request.js';
import { type HubSettings, hubSettings } from './settings.js';

export interface SnapshotOptions {
  /** The flag or key that the model was given by, for messages. */
  where?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Bytes that are there, of all that are downloaded. */
  onProgress?: ((done: number, total: number, what: string) => void) | undefined;
  onWarning?: ((warning: string) => void) | undefined;
  /** Default: those of the environment. */
  settings?: HubSettings | undefined;
}

export interface Snapshot {
  /** The commit that the revision stands for. */
  readonly commit: string;
  /** The folder with the files; absolute. */
  readonly path: string;
}

/** What is read beside the weights, where a model has it. */
const companions = [
  'config.json', 'preprocessor_config.json', 'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json',
  'vocab.json', 'merges.txt',
];

/**
 * Sees to it that a model is in the cache, and says where. A commit that is there whole is not asked for again.
 * @param id `org/name`
 * @param revision branch, tag or commit
 * @throws ScionError: `usage` for a model or revision that is not there, `input` for one without weights that Scion
 *   reads, `io` where hub or disk fail
 */
export async function hubSnapshot(id: string, revision: string, options: SnapshotOptions = {}): Promise<Snapshot> {
  const { where = '--model', signal, onWarning } = options;
  const settings = options.settings ?? await hubSettings();
  const model = cachedModel(settings.cache, id);
  const connection: HubConnection = { settings, where, id, revision, signal, onWarning };
  const found = (commit: string): Snapshot => ({ commit, path: model.snapshot(commit) });
  if (settings.offline) return found(await cached(connection, model, 'HF_HUB_OFFLINE is set'));
  if (isCommit(revision) && (await isWhole(model, revision))) return found(revision);
  let commit: string;
  let files: Map<string, HubFile> | undefined;
  try {
    commit = await resolveRevision(connection);
    if (!(await isWhole(model, commit))) files = await listed(connection, commit);
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error;
    const held = await cached(connection, model, '').catch(() => undefined);
    if (held === undefined) throw error;
    onWarning?.(`${error.issues[0]!.message}; going on with ${held.slice(0, 12)} from the cache`);
    return found(held);
  }
  if (files) await fetchSnapshot(connection, model, commit, files, options);
  // costs no more than the next search without the network, as in a cache that others keep
  await model.remember(revision, commit).catch(() => undefined);
  return found(commit);
}

/** The commit in the cache. @throws ScionError where there is none with weights */
async function cached({ settings, id, revision, where }: HubConnection, model: CachedModel, why: string): Promise<string> {
  const commit = await model.commitOf(revision);
  if (commit !== undefined && (await heldWeights(model.snapshot(commit))) !== undefined) return commit;
  const state = commit !== undefined && (await exists(model.snapshot(commit))) ? 'is there in part only' : 'is not there';
  throw ioError(where, `${id}: no folder or file here; ${why}, and revision ${JSON.stringify(revision)} ${state} in the cache ${settings.cache}; ` +
    'take HF_HUB_OFFLINE away to download it, or name the cache that has it in HF_HUB_CACHE');
}

/** Whether all that Scion reads of a commit is there or known not to be. */
async function isWhole(model: CachedModel, commit: string): Promise<boolean> {
  const folder = model.snapshot(commit);
  for (const name of companions) {
    if (!(await exists(join(folder, name))) && !(await model.lacks(commit, name))) return false;
  }
  return (await heldWeights(folder)) !== undefined;
}

/** The files of weights in a folder, all of them there; undefined where some are not. */
async function heldWeights(folder: string): Promise<string[] | undefined> {
  for (const name of weightNames) {
    if (!(await exists(join(folder, name)))) continue;
    const names = name.endsWith('.json') ? await shards(join(folder, name)) : [];
    const there = await Promise.all(names.map((shard) => exists(join(folder, shard))));
    if (there.every(Boolean)) return [name, ...names];
  }
  return undefined;
}

/** The files that an index names, without what is no name of one: reading it later says so. */
async function shards(index: string): Promise<string[]> {
  const json = parseStrictJson(await readBytes(index, maxJsonBytes), index, 'content', 'remove it to get it again');
  const map = isObject(json) ? json['weight_map'] : undefined;
  return isObject(map) ? [...new Set(Object.values(map))].filter(isShardName) : [];
}

async function resolveRevision(connection: HubConnection): Promise<string> {
  const { settings: { endpoint }, id, revision } = connection;
  if (isCommit(revision)) return revision;
  const { sha } = await answered(connection, () => modelInfo({
    name: id, revision, hubUrl: endpoint, additionalFields: ['sha'], fetch: wholeFetch(connection),
  }));
  if (typeof sha === 'string' && isCommit(sha)) return sha;
  throw new Unreachable(connection, `says that ${JSON.stringify(revision)} is the commit ${brief(sha)}, expected 40 ` +
    'hexadecimal digits');
}

/** More files in the top folder of a model are no model. */
const mostFiles = 20_000;

/** The files of a commit by name, as the hub lists them. */
async function listed(connection: HubConnection, commit: string): Promise<Map<string, HubFile>> {
  const { settings: { endpoint }, id } = connection;
  return answered(connection, async () => {
    const files = new Map<string, HubFile>();
    const entries = listFiles({ repo: id, revision: commit, hubUrl: endpoint, fetch: wholeFetch(connection) });
    let count = 0;
    for await (const entry of entries) {
      if (++count > mostFiles) throw new Unreachable(connection, `lists more than ${mostFiles} files`);
      if (entry.type === 'file') files.set(entry.path, hubFile(connection, entry));
    }
    return files;
  });
}

function hubFile(connection: HubConnection, { path: name, size, oid, lfs }: ListFileEntry): HubFile {
  const etag = lfs?.oid ?? oid;
  const length = lfs?.size ?? size;
  const digits = lfs ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/;
  if (typeof etag === 'string' && digits.test(etag) && Number.isSafeInteger(length) && length >= 0) {
    return { name, size: length, etag };
  }
  throw new Unreachable(connection, `lists ${brief(name)} with ${brief(length)} bytes and the checksum ${brief(etag)}`);
}

/** What the client library cannot make sense of is the hub's answer, not a defect. */
async function answered<T>(connection: HubConnection, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (cause) {
    stopIf(connection.signal);
    if (cause instanceof ScionError) throw cause;
    const reason = cause instanceof Error ? cause.message.replace(/\s+/g, ' ').slice(0, 120) : 'unreadable';
    throw new Unreachable(connection, `answers with something else than expected (${reason}); check HF_ENDPOINT`, { cause });
  }
}

async function fetchSnapshot(
  connection: HubConnection, model: CachedModel, commit: string, files: ReadonlyMap<string, HubFile>,
  options: SnapshotOptions,
): Promise<void> {
  const { id, where, settings: { endpoint } } = connection;
  const weights = weightNames.find((name) => files.has(name));
  if (weights === undefined) {
    const held = [...files.keys()].sort().slice(0, 20).map(brief).join(', ') || 'nothing';
    throw inputError(where, `${id} has none of ${weightNames.join(', ')}; it has: ${held}; take another model`);
  }
  const fetchAll = async (names: readonly string[], what: string): Promise<void> => {
    const missing: HubFile[] = [];
    for (const name of names) if (!(await exists(join(model.snapshot(commit), name)))) missing.push(files.get(name)!);
    const total = missing.reduce((sum, { size }) => sum + size, 0);
    await checkSpace(connection, total);
    let before = 0;
    for (const file of missing) {
      const url = `${endpoint}/${id}/resolve/${commit}/${encodeURIComponent(file.name)}`;
      await downloadBlob(connection, model, url, file, (bytes) => options.onProgress?.(before + bytes, total, what));
      await model.link(commit, file.name, file.etag);
      before += file.size;
    }
  };
  await fetchAll(companions.filter((name) => files.has(name)), `${id}: configuration`);
  await fetchAll([weights], `${id}: ${weights}, ${bytesInWords(files.get(weights)!.size)}`);
  if (weights.endsWith('.json')) {
    const names = await shards(join(model.snapshot(commit), weights));
    const unknown = names.filter((name) => !files.has(name) || !/^[\w-][\w.-]*$/.test(name));
    if (unknown.length > 0) {
      throw inputError(where, `${id}: ${weights} names ${unknown.slice(0, 3).map(brief).join(', ')}, which the model ` +
        'does not have; take another revision or model');
    }
    const size = names.reduce((sum, name) => sum + files.get(name)!.size, 0);
    await fetchAll(names, `${id}: ${names.length} files of weights, ${bytesInWords(size)}`);
  }
  // the last to be written: with these a commit counts as whole. A cache that others keep costs a list each time
  for (const name of companions) if (!files.has(name)) await model.rememberLack(commit, name).catch(() => undefined);
}

/** @throws ScionError where the disk of the cache has no room for as many bytes */
async function checkSpace({ settings: { cache }, where, id }: HubConnection, bytes: number): Promise<void> {
  if (bytes === 0) return;
  await makeFolder(cache);
  const free = await statfs(cache).then(({ bavail, bsize }) => bavail * bsize, () => Infinity);
  if (bytes <= free) return;
  throw ioError(where, `${id} takes ${bytesInWords(bytes)}, the disk of ${cache} has ${bytesInWords(free)} left; free ` +
    'some space, or name another disk in HF_HUB_CACHE');
}
