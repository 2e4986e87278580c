/** How a finished run has adapted its backbone, and the backbone with that in it. */
import { join } from 'node:path';
import { digestOfTensors } from '../formats/digest-node.js';
import { readSafetensors } from '../formats/safetensors-node.js';
import { type BackboneMethod, getMethod, isBackboneMethod, mergedWeights, unmergeable } from '../peft/index.js';
import type { Tensors } from '../runtime/session.js';
import { inputError } from '../util/errors.js';
import { type Tensor, toFloat32 } from '../util/tensor.js';
import { type AdaptedSource, type Tree, attach } from './adapted.js';
import type { Backbone, TextTower } from './encode.js';
import { files, storedConfig } from './run-folder.js';
import type { RunInfo } from './run-info.js';

/** How a run adapts its backbone. */
export interface Adaptation extends Pick<AdaptedSource, 'classNames' | 'prompts'> {
  /** The run folder, for messages. */
  path: string;
  method: BackboneMethod;
  config: Record<string, unknown>;
  values: Tensors;
}

/**
 * The weights of the backbone that a run has changed, by their names in the checkpoint.
 * @throws ScionError of kind `usage` where the run has changed more than weights
 */
export async function changedWeights(backbone: Backbone, run: Adaptation): Promise<Map<string, Tensor<'float32'>>> {
  return weightsOf(await adaptedTree(backbone, run), backbone, run);
}

const weightsOf = (tree: Tree, { read }: Backbone, { values }: Adaptation): Promise<Map<string, Tensor<'float32'>>> =>
  mergedWeights(tree, { read }, (name) => toFloat32(values[name]!));

/**
 * The backbone as a run has adapted it, both towers.
 * @param merge whether the adapter is added to the weights, where it can be: the same up to rounding, and faster
 */
export async function adaptedBackbone(
  backbone: Backbone, run: Adaptation, { merge = false } = {},
): Promise<Backbone> {
  const { method, config, values } = run;
  const tree = await adaptedTree(backbone, run);
  const encoder: Tree = merge && unmergeable(tree).length === 0
    ? backbone.fresh().fix(await weightsOf(tree, backbone, run)) : tree.freeze(values);
  const digest = digestOfTensors(Object.entries(values), JSON.stringify([backbone.digest, method.name, config]));
  const { text } = backbone;
  return { ...backbone, digest, encoder, ...(text && { text: { ...text, encoder: encoder as Tree & TextTower } }) };
}

/**
 * A fresh tree with the run's method in it, whose trained parameters wait for the run's values.
 * @throws ScionError of kind `input` where these do not fit: the run folder is damaged
 */
export async function adaptedTree(backbone: Backbone, run: Adaptation): Promise<Tree> {
  const { tree } = await attach(backbone, run.method, run.config, run);
  const file = join(run.path, files.adapter);
  for (const [name, { shape, origin }] of tree.parameters()) {
    if (origin.kind !== 'trained') continue;
    const stored = run.values[name];
    const found = stored ? `[${stored.shape.join(', ')}]` : 'missing';
    if (found !== `[${shape.join(', ')}]`) {
      throw inputError(file, `${name} is ${found}, expected [${shape.join(', ')}]; the run folder is damaged, train again`);
    }
  }
  return tree;
}

/** How a finished run has adapted its backbone; undefined where its method leaves it as it is. */
export async function adaptationOf(path: string, info: RunInfo): Promise<Adaptation | undefined> {
  const method = getMethod(info.method, join(path, files.info));
  if (!isBackboneMethod(method)) return undefined;
  const { class_names: classNames, pictures } = info;
  if (!pictures) {
    throw inputError(join(path, files.info), 'has no "pictures", which its method was trained on; the run folder is damaged, '
      + 'train again');
  }
  const { tensors } = await readSafetensors(join(path, files.adapter));
  const config = storedConfig(path, info, method);
  return { path, method, config, values: Object.fromEntries(tensors), classNames, prompts: pictures.prompts };
}
