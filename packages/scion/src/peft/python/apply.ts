/** A model with an adapter of Python's PEFT in it. */
import type { Module } from '../../nn/module.js';
import { ScionError } from '../../util/errors.js';
import type { Tensor } from '../../util/tensor.js';
import type { AttachContext } from '../backbone-method.js';
import { attachLora } from '../lora/index.js';
import { mergedWeights } from '../merge.js';
import { readPeftAdapter } from './folder.js';
import { fitAdapter } from './keys.js';

/**
 * The weights of a model that an adapter changes, by their names in the checkpoint.
 * @param model freshly loaded; it is changed
 * @param folder as PEFT's `save_pretrained` wrote it
 * @throws ScionError: a folder that cannot be read, options that Scion does not have, keys that do not fit the model
 */
export async function peftWeights(
  model: Module, folder: string, context: Pick<AttachContext, 'read'>,
): Promise<Map<string, Tensor<'float32'>>> {
  const { config, tensors } = await readPeftAdapter(folder);
  await attachLora(model, config, context, { strict: false }).catch((error: unknown) => {
    if (!(error instanceof ScionError)) throw error;
    // what is wrong stands in the adapter's file, and not in anybody's recipe
    throw new ScionError('input', error.issues.map(({ path, message }) =>
      ({ path: `${folder}/adapter_config.json: ${path.replace(/^config\./, '')}`, message })), { cause: error });
  });
  const values = fitAdapter(model, tensors, folder);
  return mergedWeights(model, context, (name) => values.get(name)!);
}
