/**
 * The backbones, by the `model_type` of their config.json, or as ONNX graphs. Another one is a folder beside `clip` and a
 * row here.
 */
import type { Graph, Value } from '../ir/graph.js';
import { inputError } from '../util/errors.js';
import { type Checkpoint, loadClip } from './clip/model.js';
import { isOpenAi } from './clip/openai.js';
import { loadOnnx } from './onnx/model.js';
import { loadPicto } from './picto/model.js';

/** A frozen model with an image and a text tower in one space. */
export interface Backbone {
  /** Pictures are square, with this many pixels on a side. */
  readonly imageSize: number;
  /** Tokens of a text, padding included. */
  readonly textLength: number;
  /** images [B, 3, size, size] → [B, d], not normalised */
  imageFeatures(images: Value): Value;
  /** ids int64 [B, textLength] → [B, d], not normalised */
  textFeatures(ids: Value): Value;
  /** What cosines are multiplied with, a scalar. */
  scale(graph: Graph): Value;
}

const loaders: Readonly<Record<string, (checkpoint: Checkpoint) => Backbone>> = {
  clip: loadClip,
  picto_clip: loadPicto,
};

/**
 * The backbone of a checkpoint; its weights stay in their files. OpenAI's own archives, which have no config.json, are
 * told by their tensors.
 * @throws ScionError of kind `input`: an architecture that is not supported, wrong values in config.json, or every
 *   tensor that does not fit
 */
export function loadBackbone(checkpoint: Checkpoint): Backbone {
  const { path, config, tensors, onnx } = checkpoint;
  if (onnx) return loadOnnx(path, config, onnx);
  const type = (config as { model_type?: unknown } | null | undefined)?.model_type;
  if (typeof type === 'string' && Object.hasOwn(loaders, type)) return loaders[type]!(checkpoint);
  if (isOpenAi(tensors)) return loadClip(checkpoint);
  const names = Object.keys(loaders).join(', ');
  const known = `supported are ${names}, and OpenAI's own CLIP archives without a config.json`;
  throw inputError(
    `${path}/config.json`,
    config === undefined
      ? `there is no such file; ${known}; get it with the checkpoint`
      : `${type === undefined ? 'has no model_type' : `model_type ${JSON.stringify(type)} is not supported`}; ${known}`,
  );
}
