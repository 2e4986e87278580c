/** An adapter added to the weights of its model: a checkpoint of its own. */
import { existsSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readRange } from '../formats/files.js';
import { makeWholeFolder } from '../formats/folder.js';
import { writeSafetensors } from '../formats/safetensors-node.js';
import { type StoredTensors, readCheckpoint } from '../hub/checkpoint.js';
import { readParameter } from '../nn/parameter-values.js';
import { peftWeights } from '../peft/index.js';
import type { Backbone } from '../trainer/encode.js';
import { adaptationOf, changedWeights } from '../trainer/run-adaptation.js';
import { type RunOptions, cacheOf, openPlainBackbone } from '../trainer/run-pictures.js';
import { readRun } from '../trainer/run.js';
import { inputError, usageError } from '../util/errors.js';
import { type Tensor, arrayOver, fromFloat64, tensor, toFloat64 } from '../util/tensor.js';
import { openBackbone } from './backbone.js';

export interface MergeOptions extends Pick<RunOptions, 'model' | 'revision'> {
  /** Dtype of the changed weights: as the checkpoint stores them, or float32, which loses nothing. Default `stored`. */
  dtype?: 'stored' | 'float32' | undefined;
}

export interface MergedModel {
  folder: string;
  /** Names of the weights that the adapter has changed. */
  changed: string[];
}

/** Files of a checkpoint beside its weights. */
const companions = [
  'config.json', 'preprocessor_config.json', 'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json',
  'vocab.json', 'merges.txt', 'spiece.model', 'generation_config.json', 'README.md', 'LICENSE',
];

/**
 * Writes the model of a run, or of an adapter of Python's PEFT with `model` as its base, with the adapter added to the
 * weights: a folder in the layout of the model's own checkpoint, for `--model` and for Python's transformers. It appears
 * whole.
 * @param source a run folder, or a folder with adapter_config.json
 * @throws ScionError: what is no change of weights, a layout that is not written (ONNX, OpenAI's archives), a folder with
 *   content
 */
export async function mergeModel(source: string, folder: string, options: MergeOptions = {}): Promise<MergedModel> {
  const { base, changed } = existsSync(join(source, 'adapter_config.json'))
    ? await ofAdapter(source, options) : await ofRun(source, options);
  const { tensors } = await readCheckpoint(base.path);
  const foreign = [...changed.keys()].filter((name) => !tensors.has(name));
  if (foreign.length > 0 || !existsSync(join(base.folder, 'config.json'))) {
    throw inputError(base.path, 'is not in the layout of Hugging Face\'s checkpoints, which is what is written; '
      + 'use `scion export`, or adapt the checkpoint of the same model from the hub');
  }
  await makeWholeFolder(folder, { what: 'the folder', occupied }, async (draft) => {
    await writeSafetensors(join(draft, 'model.safetensors'), await weights(tensors, changed, options), { format: 'pt' });
    for (const name of companions) {
      if (existsSync(join(base.folder, name))) await copyFile(join(base.folder, name), join(draft, name));
    }
  });
  return { folder, changed: [...changed.keys()] };
}

interface Merged {
  base: Backbone;
  changed: ReadonlyMap<string, Tensor<'float32'>>;
}

async function ofRun(path: string, options: MergeOptions): Promise<Merged> {
  const { info } = await readRun(path);
  const adaptation = await adaptationOf(path, info);
  if (!adaptation) {
    throw usageError('run', `${path}: ${info.method} leaves its model as it is, so there is nothing to merge; use `
      + '`scion export` for a model with its classifier');
  }
  const cache = cacheOf(info);
  const base = await openPlainBackbone(path, info, { ...options, openBackbone }, cache);
  // a model that had an adapter in it before keeps that one's changes
  return { base, changed: new Map([...base.changed ?? [], ...await changedWeights(base, adaptation)]) };
}

async function ofAdapter(path: string, { model, revision }: MergeOptions): Promise<Merged> {
  if (model === undefined) throw usageError('--model', 'missing: name the model that the adapter belongs to');
  const base = await openBackbone(model, { revision });
  return { base, changed: await peftWeights(base.fresh(), path, { read: readParameter }) };
}

/** All tensors of the checkpoint, the changed ones in the place of the old. */
async function weights(
  tensors: StoredTensors, changed: Merged['changed'], { dtype = 'stored' }: MergeOptions,
): Promise<Record<string, Tensor>> {
  const out: Record<string, Tensor> = {};
  for (const [name, stored] of tensors) {
    const own = changed.get(name);
    if (own) {
      const as = dtype === 'float32' ? 'float32' : stored.dtype;
      out[name] = as === 'float32' ? own : fromFloat64(as, own.shape, toFloat64(own));
    } else {
      out[name] = tensor(stored.dtype, stored.shape, arrayOver(stored.dtype, await readRange(stored)));
    }
  }
  return out;
}

const occupied = (path: string): Error =>
  usageError('folder', `${path} has content already; choose another folder, or remove it`);
