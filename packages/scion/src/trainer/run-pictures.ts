/** Pictures for a finished run: its backbone, found again and checked, and features by it. */
import { existsSync } from 'node:fs';
import { cacheFolder } from '../data/cache-folder.js';
import { readDataset } from '../data/dataset.js';
import { pictureSet } from '../data/suites.js';
import type { Split } from '../data/feature-file.js';
import { builtInModels } from '../hub/resolve.js';
import type { Device, Runtime } from '../runtime/session.js';
import { type ScionError, inputError, usageError } from '../util/errors.js';
import type { Tensor } from '../util/tensor.js';
import { type Backbone, type ImageEncoder, openImageEncoder } from './encode.js';
import { type SourceOptions, hashPictures, open, rowGroups } from './pictures.js';
import { adaptationOf, adaptedBackbone } from './run-adaptation.js';
import type { RunInfo } from './run-info.js';

export interface RunOptions extends SourceOptions {
  /** The backbone, where it is not where it was in training: a built-in model, a folder, a file of weights, a hub id. */
  model?: string | undefined;
  /** Of a model of the hub: branch, tag or commit. */
  revision?: string | undefined;
  /** Leaves out pictures that cannot be read and tells `onBad`; otherwise the first one is an error. */
  skipBad?: boolean | undefined;
  /** What models are computed on, wherever the run was trained. Default cpu. */
  device?: Device | undefined;
  /** Rows of features in one inference; see `ClassifierOptions`. */
  rows?: number | undefined;
  /** Whether features of whole data sets are kept for the next time. Default true. */
  cache?: boolean | undefined;
}

export interface RunPictures {
  /** Features [N, d] of the pictures that can be read, and their paths. Nothing is kept in the cache. */
  encode(paths: readonly string[]): Promise<{ features: Tensor<'float32'>; paths: string[] }>;
  /** The test split of a data set, labelled as the run's classes are; of the run's own where none is given. */
  test(data?: string): Promise<{ path: string; split: Split }>;
  release(): Promise<void>;
}

/** The backbone is opened by the first picture. */
export function openRunPictures(path: string, info: RunInfo, runtime: () => Runtime, options: RunOptions): RunPictures {
  const folder = options.cache === false ? undefined : cacheOf(info);
  const made = new Map<boolean, Promise<ImageEncoder>>();
  const encoderOf = (cached: boolean): Promise<ImageEncoder> => {
    const before = made.get(cached);
    if (before) return before;
    const opened = openRunBackbone(path, info, options, folder).then((backbone) =>
      openImageEncoder({
        runtime: runtime(),
        backbone,
        cache: cached ? folder : undefined,
        signal: options.signal,
        threads: info.recipe['threads'] as number | undefined,
        device: options.device,
        onProgress: options.onEncode,
        onWarning: options.onWarning,
      }),
    );
    made.set(cached, opened);
    opened.catch(() => made.delete(cached)); // a model that is put back is found by the next call
    return opened;
  };
  const encode = async (paths: readonly string[], cached: boolean): ReturnType<ImageEncoder['encode']> => {
    const bad = (_path: string, error: ScionError): void => {
      if (!options.skipBad) throw error;
      options.onBad?.(error);
    };
    const encoder = await encoderOf(cached);
    checkDim(path, info, encoder.dim);
    const hashes = await hashPictures([...new Set(paths)], bad);
    const there = paths.flatMap((file, at) => (hashes.has(file) ? [{ file, at }] : []));
    const { features, positions } = await encoder.encode(
      there.map(({ file }) => ({ path: file, sha256: hashes.get(file)!, view: 0 })),
      { skipBad: options.skipBad ? (position, error) => bad(there[position]!.file, error) : undefined },
    );
    return { features, positions: positions.map((i) => there[i]!.at) };
  };
  return {
    async encode(paths) {
      const { features, positions } = await encode(paths, false);
      return { features, paths: positions.map((i) => paths[i]!) };
    },
    async test(data = info.pictures?.data) {
      if (data === undefined) {
        throw usageError('--data', 'missing: the run was trained on a feature file; name pictures or a feature file');
      }
      const { classNames, splits, groups, warnings } = await readDataset(await pictureSet(data));
      warnings.forEach((warning) => options.onWarning?.(warning));
      if (!splits.test?.length) {
        throw inputError(data, 'has no test pictures; put them below test/, or say "test" in the manifest');
      }
      const numbers = classNames.map((name) => info.class_names.indexOf(name));
      const unknown = [...new Set(splits.test.map(({ label }) => label))].filter((label) => numbers[label]! < 0);
      if (unknown.length > 0) {
        throw inputError(
          data,
          `its classes ${unknown
            .slice(0, 3)
            .map((k) => JSON.stringify(classNames[k]))
            .join(', ')}` +
            `${unknown.length > 3 ? ', …' : ''} are not those of the run (${info.class_names.length}: ` +
            `${info.class_names.slice(0, 3).join(', ')}, …); rename or remove them`,
        );
      }
      const { features, positions } = await encode(
        splits.test.map((image) => image.path),
        true,
      );
      if (positions.length === 0) throw inputError(data, 'none of its test pictures can be read; replace them');
      const labels = Int32Array.from(positions, (i) => numbers[splits.test![i]!.label]!);
      const inGroups = rowGroups(groups, positions);
      return { path: data, split: { features, labels, ...(inGroups && { groups: inGroups }) } };
    },
    async release() {
      for (const encoder of made.values()) await (await encoder.catch(() => undefined))?.release();
    },
  };
}

/** The cache that a run uses; undefined where it was trained without one. */
export const cacheOf = ({ recipe }: Pick<RunInfo, 'recipe'>): string | undefined =>
  (recipe['cache'] === false ? undefined : cacheFolder());

/** @throws ScionError where a backbone makes features of another width than the run takes */
export function checkDim(path: string, info: RunInfo, dim: number): void {
  if (dim === info.dim) return;
  throw inputError(
    path,
    `takes features of ${info.dim} numbers, the model makes ${dim}; use the backbone that the run was trained on`,
  );
}

type BackboneOptions = Pick<RunOptions, 'model' | 'revision' | 'openBackbone'>;

/**
 * Opens the backbone of a run again, as the run has adapted it.
 * @param merge whether the adapter is added to the weights, where it can be
 * @throws ScionError where the model is not the one that the run was trained on
 */
export async function openRunBackbone(
  path: string, info: RunInfo, options: BackboneOptions, cache: string | undefined, merge = false,
): Promise<Backbone> {
  const backbone = await openPlainBackbone(path, info, options, cache);
  const adaptation = await adaptationOf(path, info);
  return adaptation ? adaptedBackbone(backbone, adaptation, { merge }) : backbone;
}

/**
 * Opens the backbone of a run as it was before the run: where it was in training, or where `options.model` says.
 * @throws ScionError where the model is not the one that the run was trained on
 */
export async function openPlainBackbone(
  path: string, info: RunInfo, options: BackboneOptions, cache: string | undefined,
): Promise<Backbone> {
  const { pictures } = info;
  // a built-in model is found by its name wherever the package is installed, one of the hub in whatever cache has it
  const own = pictures?.model;
  const byName = own && (own.revision !== undefined || Object.hasOwn(builtInModels, own.name));
  const model = options.model ?? (byName ? own.name : own?.path);
  const revision = options.model === undefined ? own?.revision : options.revision;
  if (model === undefined) {
    const known = info.features.model === undefined ? '' : ` (${info.features.model})`;
    throw usageError(
      '--model',
      `missing: the run was trained on a feature file; name the backbone of its features${known}`,
    );
  }
  const moved = 'name the place where it is now with --model';
  if (!byName && model === own?.path && !existsSync(model)) {
    throw inputError(path, `the model that it was trained on is not at ${model} any more; ${moved}`);
  }
  // a file that is named has the precision it has
  const dtype = model.endsWith('.onnx') ? undefined : own?.dtype;
  const { adapter } = own ?? {};
  if (adapter !== undefined && !existsSync(adapter)) {
    throw inputError(path, `the adapter of its model is not at ${adapter} any more; put it back`);
  }
  const backbone = await open(options, model, cache, { revision, dtype, adapter });
  if (!pictures) return backbone;
  if (backbone.digest !== pictures.model.digest) {
    throw inputError(
      backbone.path,
      `is another model than the run was trained on (SHA-256 ${backbone.digest.slice(0, 12)}…, ` +
        `expected ${pictures.model.digest.slice(0, 12)}… of ${pictures.model.path}); ${moved}, or train again`,
    );
  }
  if (JSON.stringify(backbone.processor.settings) !== JSON.stringify(pictures.preprocessing)) {
    throw inputError(
      `${backbone.path}/preprocessor_config.json`,
      'prepares pictures in another way than in training ' +
        `(${JSON.stringify(pictures.preprocessing)}); put the old file back, or train again`,
    );
  }
  return backbone;
}
