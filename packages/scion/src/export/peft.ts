/** A run's LoRA as an adapter of Python's PEFT. */
import { type LoraConfig, peftAdapterFiles, writePeftAdapter } from '../peft/index.js';
import { adaptationOf, adaptedTree } from '../trainer/run-adaptation.js';
import { type RunOptions, cacheOf, openPlainBackbone } from '../trainer/run-pictures.js';
import { readRun } from '../trainer/run.js';
import { inputError } from '../util/errors.js';
import { toFloat32 } from '../util/tensor.js';

/** Methods that PEFT has under the name of LoRA. */
const loraMethods = ['lora', 'clip-lora'];

/**
 * Writes adapter_config.json and adapter_model.safetensors into a new folder.
 * @returns the files
 * @throws ScionError of kind `input` for a run of another method
 */
export async function exportPeft(
  path: string, folder: string, options: Pick<RunOptions, 'model' | 'revision' | 'openBackbone'>,
): Promise<string[]> {
  const { info } = await readRun(path);
  const adaptation = await adaptationOf(path, info);
  if (!adaptation || !loraMethods.includes(adaptation.method.name)) {
    throw inputError(path, `${info.method} is no method of Python's PEFT that Scion writes; train ${loraMethods.join(' or ')}`);
  }
  if (info.pictures?.model.adapter !== undefined) {
    throw inputError(path, `was trained on a model with the adapter ${info.pictures.model.adapter} in it, and PEFT would load it `
      + 'without; merge that adapter into a checkpoint with `scion merge` and train on that');
  }
  const cache = cacheOf(info);
  const backbone = await openPlainBackbone(path, info, options, cache);
  const tree = await adaptedTree(backbone, adaptation);
  const adapter = peftAdapterFiles(
    tree, adaptation.config as LoraConfig, (name) => toFloat32(adaptation.values[name]!), { baseModel: backbone.name });
  await writePeftAdapter(folder, adapter);
  return ['adapter_config.json', 'adapter_model.safetensors'];
}
