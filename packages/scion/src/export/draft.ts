/** The folder that an export writes: models in the formats that were asked for, and what goes with them. */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { makeWholeFolder } from '../formats/folder.js';
import { withRuntime } from '../runtime/node.js';
import type { Runtime } from '../runtime/session.js';
import { inputError, unknownName, usageError } from '../util/errors.js';
import type { UnwrittenModel } from './model.js';
import { FixedSize } from './symbolic.js';
import { type WeightFormat, inlineLimit, weightFormats, writeModel } from './weights.js';

export const exportTargets = ['onnx', 'transformers.js', 'peft'] as const;
export type ExportTarget = (typeof exportTargets)[number];

export interface WeightOptions {
  /** Formats of the weights, each a model file; the first is the one that transformers.js takes by itself. */
  dtypes?: readonly WeightFormat[] | undefined;
  /** Weights in bytes beyond which they stand in a file of external data. Default 1 GiB. */
  inlineLimit?: number | undefined;
}

/** @throws ScionError of kind `usage` for names that are not known */
export function checkTarget(to: string, dtypes: readonly string[]): void {
  if (!(exportTargets as readonly string[]).includes(to)) throw unknownName('--to', 'target', to, exportTargets);
  for (const dtype of dtypes) {
    if (!Object.hasOwn(weightFormats, dtype)) throw unknownName('--dtype', 'format', dtype, Object.keys(weightFormats));
  }
}

/** A folder that is being filled; paths are below it, with slashes. */
export interface Draft {
  /** Names of the model files that have their weights beside them. */
  readonly external: readonly string[];
  /** Writes a model once for each format of weights. @param path without the ending: `onnx/model` */
  models(path: string, build: (runtime: Runtime) => Promise<UnwrittenModel>): Promise<void>;
  json(path: string, content: unknown): Promise<void>;
  text(path: string, content: string): Promise<void>;
  /** Copies those of some files that are there. */
  copy(from: string, names: readonly string[]): Promise<void>;
}

const occupied = (path: string): Error =>
  usageError('folder', `${path} has content already; choose another folder, or remove it`);

/**
 * Makes a new folder, which appears whole.
 * @returns the paths of its files
 * @throws ScionError where the folder has content
 */
export async function writeExport(
  folder: string, { dtypes = ['fp32'], inlineLimit: limit = inlineLimit }: WeightOptions,
  fill: (draft: Draft) => Promise<void>,
): Promise<string[]> {
  const files: string[] = [];
  const external: string[] = [];
  await withRuntime({}, (runtime) => makeWholeFolder(folder, { what: 'the folder', occupied }, async (root) => {
    const text = async (path: string, content: string): Promise<void> => {
      await writeFile(join(root, path), content);
      files.push(path);
    };
    await fill({
      external,
      async models(path, build) {
        await mkdir(dirname(join(root, path)), { recursive: true });
        for (const dtype of dtypes) {
          const file = join(root, `${path}${weightFormats[dtype].suffix}.onnx`);
          const written = await writeModel(await build(runtime), file, dtype, limit);
          if (written.length > 1) external.push(basename(file));
          files.push(...written.map((at) => relative(root, at).replaceAll('\\', '/')));
        }
      },
      text,
      json: (path, content) => text(path, `${JSON.stringify(content, undefined, 2)}\n`),
      async copy(from, names) {
        for (const name of names.filter((file) => existsSync(join(from, file)))) {
          await copyFile(join(from, name), join(root, name));
          files.push(name);
        }
      },
    });
  }));
  return files;
}

/** How transformers.js is to load the models of a folder: its `transformers.js_config`. */
export function loading(dtypes: readonly WeightFormat[], external: readonly string[]): Record<string, unknown> {
  return {
    dtype: dtypes[0],
    ...(external.length > 0 && { use_external_data_format: Object.fromEntries(external.map((file) => [file, 1])) }),
  };
}

/** What stands in the way of open axes is the model's: methods have none of their own. */
export async function explainFixedSize<T>(path: string, model: string, build: () => Promise<T>): Promise<T> {
  try {
    return await build();
  } catch (error) {
    if (!(error instanceof FixedSize)) throw error;
    throw inputError(path, `${model} cannot be exported with open axes: ${error.message}; export the `
      + 'ONNX files of the backbone again with symbolic axes, or run it in Scion (scion serve)', { cause: error });
  }
}
