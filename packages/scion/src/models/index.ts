/**
 * The backbones, by the `model_type` of their config.json, or as ONNX graphs. Another one is a folder beside `clip` and a
 * row here.
 */
import type { Graph, Value } from '../ir/graph.js';
import type { Module } from '../nn/module.js';
import type { ImageStates } from '../nn/transformer.js';
import { inputError } from '../util/errors.js';
import { loadClip } from './clip/model.js';
import { isOpenAi } from './clip/openai.js';
import { loadDinov2 } from './dinov2/model.js';
import { loadOnnx } from './onnx/model.js';
import { loadPicto } from './picto/model.js';
import { loadSiglip } from './siglip/model.js';
import { loadVit } from './vit/model.js';
import type { Checkpoint } from './weights.js';

/** A frozen model of images. */
export interface ImageBackbone extends Module {
  /** Pictures are square, with this many pixels on a side. */
  readonly imageSize: number;
  /** Where pictures of other sizes are taken too, and of unequal sides: the least side. */
  readonly leastSize?: number | undefined;
  /** The `image_processor_type` that prepares its pictures, unless preprocessor_config.json says otherwise. */
  readonly imageProcessor: string;
  /** images [B, 3, H, W] → [B, d]; normalised or not, as its model says */
  imageFeatures(images: Value): Value;
  /** Its last states, where it has such, or knows them: ONNX graphs and ResNets give features alone. */
  imageStates?(images: Value): ImageStates | undefined;
}

/** A frozen model with an image and a text tower in one space. */
export interface DualBackbone extends ImageBackbone {
  /** Tokens of a text, padding included. */
  readonly textLength: number;
  /** Whether padding is read like any other token, so that it has to be the pad token of training. */
  readonly readsPadding?: boolean;
  /** The token that a text must end with, where it is read there: its id, or whichever id of a text is the largest. */
  readonly endToken?: number | 'largest' | undefined;
  /** ids int64 [B, textLength] → [B, d]; normalised or not, as its model says */
  textFeatures(ids: Value): Value;
  /** What cosines are multiplied with, a scalar. */
  scale(graph: Graph): Value;
}
export type Backbone = ImageBackbone | DualBackbone;

/** Whether a backbone has a text tower. */
export function isDual(backbone: Backbone): backbone is DualBackbone {
  return 'textFeatures' in backbone;
}

const loaders: Readonly<Record<string, (checkpoint: Checkpoint) => Backbone>> = {
  clip: loadClip,
  siglip: loadSiglip,
  vit: loadVit,
  dinov2: loadDinov2,
  picto_clip: loadPicto,
};

/** The architectures that are supported, as config.json names them. */
export const modelTypes: readonly string[] = Object.keys(loaders);

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
