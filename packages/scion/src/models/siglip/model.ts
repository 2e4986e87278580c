/** SigLIP (Zhai et al., 2023): two towers, a scale and a bias; named as in Hugging Face's SiglipModel. */
import type { Graph, Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { type Weights, below } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import type { ImageStates } from '../../nn/transformer.js';
import { type Parameter, bind } from '../../nn/parameter.js';
import { type Checkpoint, fromCheckpoint } from '../weights.js';
import { type SiglipConfig, parseSiglipConfig } from './config.js';
import { SiglipText } from './text.js';
import { SiglipVision } from './vision.js';

export class Siglip extends Module {
  /** What prepares its pictures, unless preprocessor_config.json says otherwise. */
  readonly imageProcessor = 'SiglipImageProcessor';
  /** There is no attention mask. */
  readonly readsPadding = true;
  private readonly logitScale: Parameter;
  private readonly logitBias: Parameter;

  constructor(weights: Weights, readonly config: SiglipConfig) {
    super();
    this.child('text_model', new SiglipText(below(weights, 'text_model'), config.text_config));
    this.child('vision_model', new SiglipVision(below(weights, 'vision_model'), config.vision_config));
    this.logitScale = this.parameter('logit_scale', weights('logit_scale', [1]));
    this.logitBias = this.parameter('logit_bias', weights('logit_bias', [1]));
  }

  get text(): SiglipText {
    return this.part('text_model');
  }

  get vision(): SiglipVision {
    return this.part('vision_model');
  }

  /** Pictures are square, with this many pixels on a side. */
  get imageSize(): number {
    return this.config.vision_config.image_size;
  }

  /** Tokens of every text, padding included, which is read like any other token. */
  get textLength(): number {
    return this.config.text_config.max_position_embeddings;
  }

  /**
   * images [B, 3, size, size] → [B, hidden_size] of norm 1, as transformers' `image_embeds`. The loss sees directions
   * alone, and methods that add to a text feature have no published steps for the lengths of this model.
   */
  imageFeatures(images: Value): Value {
    return f.l2Normalize(images.graph.within('vision_model', () => this.vision.forward(images)).pooled);
  }

  imageStates(images: Value): ImageStates {
    return images.graph.within('vision_model', () => this.vision.forward(images));
  }

  /** ids int64 [B, T] → [B, projection_size] of norm 1, as transformers' `text_embeds` */
  textFeatures(ids: Value): Value {
    return f.l2Normalize(ids.graph.within('text_model', () => this.text.forward(ids)).pooled);
  }

  /** Features of images [N, d] and texts [M, d] → [N, M]: cosines times the learned scale, plus the learned bias. */
  logits(images: Value, texts: Value): Value {
    const cosines = f.fusedMatMul(f.l2Normalize(images), f.l2Normalize(texts), { transB: 1 });
    return f.add(f.mul(cosines, this.scale(images.graph)), bind(images.graph, this.logitBias));
  }

  /** Features of images [N, d] and texts [M, d] → [N, M]: the probability of each pair by itself that the two match. */
  probabilities(images: Value, texts: Value): Value {
    return f.sigmoid(this.logits(images, texts));
  }

  /** The learned factor on cosines, `exp(logit_scale)`. The bias is the same for all classes and chooses none. */
  scale(graph: Graph): Value {
    return f.reshape(f.exp(bind(graph, this.logitScale)), []);
  }
}

/**
 * The model of a checkpoint; its weights stay in their files.
 * @throws ScionError of kind `input`: wrong values in config.json, or every tensor that does not fit
 */
export function loadSiglip({ path, config, tensors }: Checkpoint): Siglip {
  const full = parseSiglipConfig(config, `${path}/config.json`);
  return fromCheckpoint(tensors, path, (weights) => new Siglip(weights, full));
}
