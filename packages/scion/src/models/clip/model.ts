/** CLIP (Radford et al., 2021): two towers, their projections, a scale; named as in Hugging Face's CLIPModel. */
import type { Graph, Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { Linear, type Weights, below } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Parameter, bind } from '../../nn/parameter.js';
import type { ImageStates } from '../../nn/transformer.js';
import { inputError } from '../../util/errors.js';
import { type Checkpoint, fromCheckpoint } from '../weights.js';
import { type ClipConfig, isResNet, parseClipConfig } from './config.js';
import { fromOpenAi, isOpenAi } from './openai.js';
import { ModifiedResNet } from './resnet.js';
import { ClipText } from './text.js';
import { ClipVision } from './vision.js';

export class Clip extends Module {
  /** What prepares its pictures, unless preprocessor_config.json says otherwise. */
  readonly imageProcessor = 'CLIPImageProcessor';
  private readonly logitScale: Parameter;

  /** With a ResNet, `visual` takes the place of `vision_model` and `visual_projection`; it projects by itself. */
  constructor(weights: Weights, readonly config: ClipConfig) {
    super();
    const { text_config: text, vision_config: vision, projection_dim: out } = config;
    const project = (name: string, width: number): Linear =>
      this.child(name, new Linear(below(weights, name), width, out, false));
    this.child('text_model', new ClipText(below(weights, 'text_model'), text));
    project('text_projection', text.hidden_size);
    if (isResNet(vision)) {
      this.child('visual', new ModifiedResNet(below(weights, 'visual'), vision, out));
    } else {
      this.child('vision_model', new ClipVision(below(weights, 'vision_model'), vision));
      project('visual_projection', vision.hidden_size);
    }
    this.logitScale = this.parameter('logit_scale', weights('logit_scale', []));
  }

  get text(): ClipText {
    return this.part('text_model');
  }

  /** Undefined where the images go through a ResNet. */
  get vision(): ClipVision | undefined {
    return isResNet(this.config.vision_config) ? undefined : this.part('vision_model');
  }

  /** Pictures are square, with this many pixels on a side. */
  get imageSize(): number {
    return this.config.vision_config.image_size;
  }

  /** Tokens of a text, padding included. */
  get textLength(): number {
    return this.config.text_config.max_position_embeddings;
  }

  get endToken(): number | 'largest' {
    return this.text.endToken;
  }

  /** images [B, 3, size, size] → [B, projection_dim], not normalised */
  imageFeatures(images: Value): Value {
    const { graph } = images;
    const { vision } = this;
    if (!vision) return graph.within('visual', () => this.part<ModifiedResNet>('visual').forward(images));
    return this.run('visual_projection', graph.within('vision_model', () => vision.forward(images)).pooled);
  }

  /** images [B, 3, size, size] → the last states; of a ResNet, which has none of this kind, undefined. */
  imageStates(images: Value): ImageStates | undefined {
    const { vision } = this;
    return vision && images.graph.within('vision_model', () => vision.imageStates(images));
  }

  /** ids int64 [B, T] → [B, projection_dim], not normalised */
  textFeatures(ids: Value): Value {
    return this.projectText(ids.graph.within('text_model', () => this.text.forward(ids)).pooled);
  }

  /** What `text` pooled [B, width] → [B, projection_dim], not normalised: for prompts that are not token ids. */
  projectText(pooled: Value): Value {
    return this.run('text_projection', pooled);
  }

  /** Features of images [N, d] and texts [M, d] → [N, M]: cosines times the learned scale. */
  logits(images: Value, texts: Value): Value {
    const cosines = f.fusedMatMul(f.l2Normalize(images), f.l2Normalize(texts), { transB: 1 });
    return f.mul(cosines, this.scale(images.graph));
  }

  /** The learned factor on cosines, `exp(logit_scale)`. */
  scale(graph: Graph): Value {
    return f.exp(bind(graph, this.logitScale));
  }
}

/**
 * The model of a checkpoint in Hugging Face's or OpenAI's layout; its weights stay in their files.
 * @throws ScionError of kind `input`: an architecture that is not supported, wrong values in config.json, or every
 *   tensor that does not fit
 */
export function loadClip({ path, config, tensors }: Checkpoint): Clip {
  const openAi = isOpenAi(tensors) ? fromOpenAi(tensors, path) : undefined;
  if (!openAi && config === undefined) {
    throw inputError(path, 'has no config.json, which only OpenAI\'s own checkpoints can do without; get it too');
  }
  const full = openAi?.config ?? parseClipConfig(config, `${path}/config.json`);
  return fromCheckpoint(openAi?.tensors ?? tensors, path, (weights) => new Clip(weights, full));
}
