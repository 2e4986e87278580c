/** The models of texts, by the `model_type` of their config.json. Another one is a folder beside `bert` and a row here. */
import { inputError } from '../util/errors.js';
import { loadBart } from './bart/index.js';
import { loadBert } from './bert/index.js';
import { loadGpt2 } from './gpt2/index.js';
import { loadRoberta } from './roberta/index.js';
import type { TextModel } from '../nn/text-model.js';
import type { Checkpoint } from './weights.js';

const loaders: Readonly<Record<string, (checkpoint: Checkpoint) => TextModel>> = {
  roberta: loadRoberta,
  bert: loadBert,
  gpt2: loadGpt2,
  bart: loadBart,
};

/** The architectures that are supported, as config.json names them. */
export const textModelTypes: readonly string[] = Object.keys(loaders);

/**
 * The text model of a checkpoint; its weights stay in their files.
 * @throws ScionError of kind `input`: an architecture that is not supported, wrong values in config.json, or every
 *   tensor that does not fit
 */
export function loadTextModel(checkpoint: Checkpoint): TextModel {
  const { path, config } = checkpoint;
  const type = (config as { model_type?: unknown } | null | undefined)?.model_type;
  if (typeof type === 'string' && Object.hasOwn(loaders, type)) return loaders[type]!(checkpoint);
  const fault = config === undefined ? 'there is no such file'
    : type === undefined ? 'has no model_type' : `model_type ${JSON.stringify(type)} is not supported`;
  throw inputError(`${path}/config.json`, `${fault}; text models are ${textModelTypes.join(', ')}`);
}
