/** PictoCLIP: a small dual encoder for pictograms, trained by Scion (recipes/picto). */
import type { Graph, Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { Linear, type Weights, below } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Parameter, bind } from '../../nn/parameter.js';
import type { ImageStates } from '../../nn/transformer.js';
import { type Checkpoint, fromCheckpoint } from '../weights.js';
import { type PictoConfig, parsePictoConfig } from './config.js';
import { PictoText } from './text.js';
import { PictoVision } from './vision.js';

export class PictoClip extends Module {
  /** What prepares its pictures, unless preprocessor_config.json says otherwise. */
  readonly imageProcessor = 'CLIPImageProcessor';
  private readonly logitScale: Parameter;

  constructor(weights: Weights, readonly config: PictoConfig) {
    super();
    const { text_config: text, vision_config: vision, projection_dim: out } = config;
    const project = (name: string, width: number): Linear =>
      this.child(name, new Linear(below(weights, name), width, out, false));
    this.child('text_model', new PictoText(below(weights, 'text_model'), text));
    project('text_projection', text.hidden_size);
    this.child('vision_model', new PictoVision(below(weights, 'vision_model'), vision));
    project('visual_projection', vision.hidden_sizes.at(-1)!);
    this.logitScale = this.parameter('logit_scale', weights('logit_scale', []));
  }

  /** Pictures are square, with this many pixels on a side. */
  get imageSize(): number {
    return this.config.vision_config.image_size;
  }

  /** Tokens of a text, padding included. */
  get textLength(): number {
    return this.config.text_config.max_position_embeddings;
  }

  get endToken(): number {
    return this.config.text_config.eos_token_id;
  }

  /** images [B, 3, size, size] → [B, projection_dim] of norm 1 */
  imageFeatures(images: Value): Value {
    return f.l2Normalize(this.run('visual_projection', this.run('vision_model', images)));
  }

  imageStates(images: Value): ImageStates {
    return images.graph.within('vision_model', () => this.part<PictoVision>('vision_model').imageStates(images));
  }

  /**
   * ids int64 [B, T] → [B, projection_dim] of norm 1: the loss sees directions alone, so that other lengths would say
   * nothing, and methods that add to a text feature (TaskRes, GraphAdapter) have published steps for this length.
   */
  textFeatures(ids: Value): Value {
    return f.l2Normalize(this.run('text_projection', this.run('text_model', ids)));
  }

  /** The learned factor on cosines, `exp(logit_scale)`. */
  scale(graph: Graph): Value {
    return f.exp(bind(graph, this.logitScale));
  }
}

/**
 * The model of a checkpoint; its weights stay in their files.
 * @throws ScionError of kind `input`: wrong values in config.json, or every tensor that does not fit
 */
export function loadPicto({ path, config, tensors }: Checkpoint): PictoClip {
  const full = parsePictoConfig(config, `${path}/config.json`);
  return fromCheckpoint(tensors, path, (weights) => new PictoClip(weights, full));
}
