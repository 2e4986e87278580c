/** The name of a model to the place where it lies: models that come with the package, and those of the user. */
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemError } from '../formats/files.js';
import { usageError } from '../util/errors.js';

/** `models/` of the package: the same way up from `src` and from `dist`. */
const packaged = fileURLToPath(new URL('../../models/', import.meta.url));

/** Models that come with the package, and what each is for. */
export const builtInModels: Readonly<Record<string, string>> = {
  picto: 'for pictograms and icons, not for photographs',
};
export const defaultModel = 'picto';

export interface ResolvedModel {
  /** The name of a built-in model, else the absolute path. */
  readonly name: string;
  /** Absolute: a folder, a file of weights or an ONNX file. */
  readonly path: string;
}

/**
 * Finds a model by the name of a built-in one or by its path; `./picto` is a folder whatever the built-in ones are.
 * @param where the flag or key it was given by, for messages
 * @param root the folder of the built-in models
 * @throws ScionError: `usage` for a name that is neither, `io` where the system refuses
 */
export async function resolveModel(model: string, where = '--model', root = packaged): Promise<ResolvedModel> {
  if (Object.hasOwn(builtInModels, model)) {
    const path = join(root, model);
    if (existsSync(join(path, 'config.json'))) return { name: model, path };
    if (!existsSync(model)) throw usageError(where, `${model}: this built-in model is not in ${root}; ${otherwise}`);
  }
  await stat(model).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT' && cause.code !== 'ENOTDIR') throw systemError(model, 'read it', cause);
    throw usageError(where, `${JSON.stringify(model)} is no folder or file here and no built-in model; ${otherwise}`);
  });
  return { name: resolve(model), path: resolve(model) };
}

const names = Object.entries(builtInModels)
  .map(([name, what]) => `${name} (${what})`)
  .join(', ');
const otherwise =
  `built-in: ${names}; or give the folder of a CLIP checkpoint, such as a download of openai/clip-vit-base-patch32, ` +
  'since Scion downloads none';
