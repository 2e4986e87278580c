/** A dual encoder whose towers are imported ONNX graphs, as transformers.js lays them out. */
import { Graph, type Value } from '../../ir/graph.js';
import type { OnnxValue } from '../../onnx/decode.js';
import type { ImportedModel } from '../../onnx/import.js';
import * as f from '../../nn/functional.js';
import { inputError } from '../../util/errors.js';
import { float32, int64 } from '../../util/tensor.js';
import { ImportedTowers, type OnnxTowers } from './layers.js';

/** What config.json says, as far as it is needed. */
export interface Config {
  model_type?: unknown;
  image_size?: unknown;
  vision_config?: { image_size?: unknown };
  max_position_embeddings?: unknown;
  text_config?: { max_position_embeddings?: unknown; eos_token_id?: unknown };
}

/** Sizes that the configurations of these models leave out, and whose text features do not see padding. */
const known: Readonly<Record<string, { imageSize: number; textLength: number; readsPadding: boolean }>> = {
  clip: { imageSize: 224, textLength: 77, readsPadding: false },
  siglip: { imageSize: 224, textLength: 64, readsPadding: true },
};

/** CLIP's training holds the factor at 100 or less, where it ends; the files of single towers do not have it. */
const usualScale = 100;
/** What transformers' models give where nothing is pooled: [B, tokens, d]. */
const states = 'last_hidden_state';

/** An image tower. */
export class OnnxImage extends ImportedTowers {
  readonly imageSize: number;
  /** For a preprocessor_config.json that does not say it. */
  readonly imageProcessor = 'CLIPImageProcessor';
  private readonly pixels: string;
  private readonly imageOutput: string;
  protected readonly usual: (typeof known)[string] | undefined;

  /**
   * @param path the model, for messages
   * @throws ScionError of kind `input`: inputs or outputs that are not those of an image tower, a size that neither the
   *   graph nor config.json says, or ops that are not read
   */
  constructor(path: string, protected readonly config: Config, towers: OnnxTowers) {
    super(path, towers);
    const { image } = towers;
    const { model_type: type, vision_config: vision, image_size: size } = config;
    this.usual = typeof type === 'string' && Object.hasOwn(known, type) ? known[type] : undefined;
    this.pixels = this.imageInput(image);
    this.imageOutput = this.output(image, ['image_embeds', 'pooler_output'], 'images');
    const sizes = image.inputs.get(this.pixels)!.shape.slice(2);
    this.imageSize = this.size('image_size', [sizes[0], vision?.image_size, size, this.usual?.imageSize]);
    // built once to see that nothing is in the way, before anything long starts
    this.imageFeatures(new Graph().input('images', 'float32', [2, 3, this.imageSize, this.imageSize]));
  }

  /** images [B, 3, size, size] → [B, d] */
  imageFeatures(images: Value): Value {
    return this.features(this.towers.image, images.graph, { [this.pixels]: images }, this.imageOutput);
  }

  /** The first token of a sequence stands for the picture: the class token of ViT and DINOv2. */
  protected features(
    model: ImportedModel, graph: Graph, feeds: Readonly<Record<string, Value>>, output: string,
  ): Value {
    const value = model.build(graph, feeds, { outputs: [output], replace: this.adapted(model) })[output]!;
    const { shape } = value;
    if (shape.length === 2) return value;
    if (output === states && shape.length === 3) return f.reshape(f.slice(value, 1, 0, 1), [shape[0]!, shape[2]!]);
    throw inputError(this.path, `gives "${output}" of shape [${shape.join(', ')}], expected a row per picture or text`);
  }

  private imageInput({ inputs }: ImportedModel): string {
    const flat = [...inputs.values()].filter(({ shape }) => shape.length === 4);
    if (inputs.has('pixel_values')) return 'pixel_values';
    if (flat.length === 1) return flat[0]!.name;
    throw inputError(this.path, `takes no pictures [B, 3, H, W] as "pixel_values"; its inputs are ${list(inputs)}`);
  }

  /** The output that is known by its name, else the only one that can be a row per picture or text, else all states. */
  protected output({ outputs }: ImportedModel, names: readonly string[], what: string): string {
    const named = names.find((name) => outputs.has(name));
    const rows = [...outputs.values()].filter(({ shape }) => shape.length === 2);
    const found = named ?? (rows.length === 1 ? rows[0]!.name : outputs.has(states) ? states : undefined);
    if (found !== undefined) return found;
    const wanted = names.join(' or ');
    throw inputError(this.path, `gives no features of ${what} as ${wanted}; its outputs are ${list(outputs)}`);
  }

  /** The first of the candidates that is a size. */
  protected size(key: string, candidates: readonly unknown[]): number {
    const found = candidates.find((x): x is number => typeof x === 'number' && Number.isInteger(x) && x > 0);
    if (found !== undefined) return found;
    throw inputError(this.path, `says nowhere what its ${key} is; put the model's config.json beside it`);
  }
}

/** An image and a text tower in one space. */
export class OnnxEncoder extends OnnxImage {
  readonly textLength: number;
  readonly readsPadding: boolean;
  /** Of CLIP, as far as config.json says it. */
  readonly endToken: number | 'largest' | undefined;
  private readonly textOutput: string;

  /** @throws ScionError of kind `input` as for an image tower, and the same of the text tower */
  constructor(path: string, config: Config, protected override readonly towers: Required<OnnxTowers>) {
    super(path, config, towers);
    const { text } = towers;
    this.readsPadding = this.usual?.readsPadding ?? false;
    const eos = config.model_type === 'clip' ? config.text_config?.eos_token_id : undefined;
    this.endToken = eos === 2 ? 'largest' : typeof eos === 'number' ? eos : undefined;
    this.textOutput = this.output(text, ['text_embeds', 'pooler_output'], 'texts');
    if (text.inputs.has('attention_mask') && !this.usual) {
      const types = Object.keys(known).join(' or ');
      throw inputError(path, `takes "attention_mask", and is no ${types} by the model_type of `
        + 'config.json, whose text features do not depend on it; other text towers are not supported');
    }
    this.textLength = this.size('max_position_embeddings', [text.inputs.get('input_ids')?.shape[1],
      config.text_config?.max_position_embeddings, config.max_position_embeddings, this.usual?.textLength]);
    this.textFeatures(new Graph().input('ids', 'int64', [2, this.textLength]));
  }

  /** ids int64 [B, T] → [B, d] */
  textFeatures(ids: Value): Value {
    const { text } = this.towers;
    const [rows, length] = ids.shape as [number, number];
    const each = (at: (place: number) => number): Value => ids.graph.constant(
      int64([rows, length], Array.from({ length: rows * length }, (_, i) => at(i % length))));
    const given: Readonly<Record<string, () => Value>> = {
      input_ids: () => ids, attention_mask: () => each(() => 1), token_type_ids: () => each(() => 0),
      position_ids: () => each((place) => place),
    };
    // some files take whole numbers of 32 bits
    const feeds = [...text.inputs].flatMap(([name, { dtype }]) => (Object.hasOwn(given, name)
      ? [[name, f.cast(given[name]!(), dtype === 'int32' ? dtype : 'int64')] as const] : []));
    return this.features(text, ids.graph, Object.fromEntries(feeds), this.textOutput);
  }

  /** The factor on cosines: `exp(logit_scale)` of a file with both towers, else 100. */
  scale(graph: Graph): Value {
    const learned = [this.towers.image, this.towers.text].map((model) => model.scalar(/(^|\.)logit_scale$/))
      .find((x) => x !== undefined);
    return f.constant(graph, float32([], [learned === undefined ? usualScale : Math.exp(learned)]));
  }
}

const list = (values: ReadonlyMap<string, OnnxValue>): string =>
  [...values.values()].map((v) => `"${v.name}" ${v.dtype ?? 'another type'}[${v.shape.join(', ')}]`).join(', ');

/** @throws ScionError of kind `input` where the graphs are not those of an image encoder or a dual one */
export function loadOnnx(path: string, config: unknown, { image, text }: OnnxTowers): OnnxImage | OnnxEncoder {
  const known: Config = config ?? {};
  return text ? new OnnxEncoder(path, known, { image, text }) : new OnnxImage(path, known, { image });
}
