/** The name of a model to the place where it lies: models that come with the package, the user's own, and the hub's. */
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemError } from '../formats/files.js';
import { usageError } from '../util/errors.js';
import { type ModelId, isRevision, parseModelId } from './model-id.js';
import { type SnapshotOptions, hubSnapshot } from './snapshot.js';

/** `models/` of the package: the same way up from `src` and from `dist`. */
const packaged = fileURLToPath(new URL('../../models/', import.meta.url));

/** Models that come with the package, and what each is for. */
export const builtInModels: Readonly<Record<string, string>> = {
  picto: 'for pictograms and icons, not for photographs',
  'picto-roberta': 'reads short English texts, no pictures',
  'picto-gpt': 'writes short English texts, reads no pictures',
};
export const defaultModel = 'picto';

export interface ResolvedModel {
  /** The name of a built-in model, `org/name` of the hub, else the absolute path. */
  readonly name: string;
  /** Absolute: a folder, a file of weights or an ONNX file. */
  readonly path: string;
  /** The commit of a model of the hub. */
  readonly revision?: string;
}

export interface ResolveOptions extends SnapshotOptions {
  /** Branch, tag or commit of a model of the hub; default `main`. */
  revision?: string | undefined;
  /** The folder of the built-in models. */
  root?: string;
}

/**
 * Finds a model by the name of a built-in one, by its path, or as `org/name[@revision]` on the hub, from which it is
 * downloaded unless it is in the cache. What exists here comes first, unless a revision says that the hub is meant;
 * `./picto` is a folder whatever the built-in ones are.
 * @throws ScionError: `usage` for a name that is none of these, `io` where system, network or hub refuse
 */
export async function resolveModel(model: string, options: ResolveOptions = {}): Promise<ResolvedModel> {
  const { where = '--model', root = packaged, ...rest } = options;
  const hub = hubName(model, where, options.revision);
  if (Object.hasOwn(builtInModels, model)) {
    const path = join(root, model);
    if (existsSync(join(path, 'config.json'))) return { name: model, path };
    if (!existsSync(model)) throw usageError(where, `${model}: this built-in model is not in ${root}; ${otherwise}`);
  }
  const isHere = await stat(model).then(() => true, (cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT' && cause.code !== 'ENOTDIR') throw systemError(model, 'read it', cause);
    return false;
  });
  if (isHere && (options.revision === undefined || hub === undefined)) {
    return { name: resolve(model), path: resolve(model) };
  }
  if (hub === undefined) {
    throw usageError(where, `${JSON.stringify(model)} is no folder or file here, no built-in model, and no name on the ` +
      `hub; ${otherwise}`);
  }
  const { commit, path } = await hubSnapshot(hub.id, hub.revision ?? 'main', { where, ...rest });
  return { name: hub.id, path, revision: commit };
}

/** A model as the hub may have it. @throws ScionError of kind `usage` for revisions that fit nothing */
function hubName(model: string, where: string, revision: string | undefined): ModelId | undefined {
  const named = parseModelId(model);
  const given = revision ?? named?.revision;
  if (revision !== undefined) {
    if (!named) {
      throw usageError(revisionOf(where), `${JSON.stringify(revision)}: only models of the hub have revisions, and ` +
        `${JSON.stringify(model)} is no name on it; leave it out`);
    }
    if (named.revision !== undefined && named.revision !== revision) {
      throw usageError(revisionOf(where), `${JSON.stringify(revision)} is given beside ${JSON.stringify(model)}; name one`);
    }
  }
  if (given !== undefined && !isRevision(given) && !existsSync(model)) {
    throw usageError(named?.revision === undefined ? revisionOf(where) : where,
      `${JSON.stringify(given)} is no revision, expected a branch, tag or commit such as main`);
  }
  return named && { id: named.id, ...(given === undefined ? {} : { revision: given }) };
}

const revisionOf = (where: string): string => where.replace(/model$/, 'revision');

/**
 * A model as a recipe in `folder` names it: built-in names and names on the hub stay as they are, all else is a path
 * seen from there.
 */
export function modelFrom(folder: string, model: string): string {
  if (Object.hasOwn(builtInModels, model)) return model;
  const path = resolve(folder, model);
  return parseModelId(model) && !existsSync(path) ? model : path;
}

const names = Object.entries(builtInModels)
  .map(([name, what]) => `${name} (${what})`)
  .join(', ');
const otherwise =
  `built-in: ${names}; or give the folder of a checkpoint, or a model of the hub such as ` +
  'openai/clip-vit-base-patch32 (scion models lists some)';
