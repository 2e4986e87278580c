/** A dual encoder whose towers are imported ONNX graphs, as transformers.js lays them out. */
import { Graph, type Value } from '../../ir/graph.js';
import type { OnnxValue } from '../../onnx/decode.js';
import type { BuildOptions, ImportedModel } from '../../onnx/import.js';
import * as f from '../../nn/functional.js';
import { inputError } from '../../util/errors.js';
import { float32, int64 } from '../../util/tensor.js';

/** The graphs of a model; the same one twice where one file holds both towers. */
export interface OnnxTowers {
  readonly image: ImportedModel;
  readonly text?: ImportedModel;
}

/** What config.json says, as far as it is needed. */
interface Config {
  model_type?: unknown;
  image_size?: unknown;
  vision_config?: { image_size?: unknown };
  max_position_embeddings?: unknown;
  text_config?: { max_position_embeddings?: unknown };
}

/** Sizes that the configurations of these models leave out, and whose text features do not see padding. */
const known: Readonly<Record<string, { imageSize: number; textLength: number }>> = {
  clip: { imageSize: 224, textLength: 77 },
  siglip: { imageSize: 224, textLength: 64 },
};

/** CLIP's training holds the factor at 100 or less, where it ends; the files of single towers do not have it. */
const usualScale = 100;

export class OnnxEncoder {
  readonly imageSize: number;
  readonly textLength: number;
  private readonly pixels: string;
  private readonly imageOutput: string;
  private readonly textOutput: string;

  /**
   * @param path the model, for messages
   * @throws ScionError of kind `input`: inputs or outputs that are not those of an image and a text tower, sizes that
   *   neither the graphs nor config.json say, or ops that are not read
   */
  constructor(private readonly path: string, config: unknown, private readonly towers: Required<OnnxTowers>) {
    const { image, text } = towers;
    const given = (config ?? {}) as Config;
    const usual = typeof given.model_type === 'string' && Object.hasOwn(known, given.model_type)
      ? known[given.model_type] : undefined;
    this.pixels = this.imageInput(image);
    this.imageOutput = this.output(image, ['image_embeds', 'pooler_output'], 'images');
    this.textOutput = this.output(text, ['text_embeds', 'pooler_output'], 'texts');
    if (text.inputs.has('attention_mask') && !usual) {
      throw inputError(path, `takes "attention_mask", and is no ${Object.keys(known).join(' or ')} by the model_type of `
        + 'config.json, whose text features do not depend on it; other text towers are not supported');
    }
    const sizes = image.inputs.get(this.pixels)!.shape.slice(2);
    this.imageSize = this.size('image_size', [sizes[0], given.vision_config?.image_size, given.image_size, usual?.imageSize]);
    this.textLength = this.size('max_position_embeddings', [text.inputs.get('input_ids')!.shape[1],
      given.text_config?.max_position_embeddings, given.max_position_embeddings, usual?.textLength]);
    // built once to see that nothing is in the way, before anything long starts
    this.imageFeatures(new Graph().input('images', 'float32', [2, 3, this.imageSize, this.imageSize]));
    this.textFeatures(new Graph().input('ids', 'int64', [2, this.textLength]));
  }

  /** images [B, 3, size, size] → [B, d] */
  imageFeatures(images: Value, options: Omit<BuildOptions, 'outputs'> = {}): Value {
    return this.features(this.towers.image, images.graph, { [this.pixels]: images }, this.imageOutput, options);
  }

  /** ids int64 [B, T] → [B, d] */
  textFeatures(ids: Value, options: Omit<BuildOptions, 'outputs'> = {}): Value {
    const { text } = this.towers;
    const [rows, length] = ids.shape as [number, number];
    const each = (at: (place: number) => number): Value => ids.graph.constant(
      int64([rows, length], Array.from({ length: rows * length }, (_, i) => at(i % length))));
    const feeds: Record<string, Value> = { input_ids: ids };
    if (text.inputs.has('attention_mask')) feeds['attention_mask'] = each(() => 1);
    if (text.inputs.has('token_type_ids')) feeds['token_type_ids'] = each(() => 0);
    if (text.inputs.has('position_ids')) feeds['position_ids'] = each((place) => place);
    return this.features(text, ids.graph, feeds, this.textOutput, options);
  }

  /** The factor on cosines: `exp(logit_scale)` of a file with both towers, else 100. */
  scale(graph: Graph): Value {
    const learned = [this.towers.image, this.towers.text].map((model) => model.scalar(/(^|\.)logit_scale$/))
      .find((x) => x !== undefined);
    return f.constant(graph, float32([], [learned === undefined ? usualScale : Math.exp(learned)]));
  }

  private features(
    model: ImportedModel, graph: Graph, feeds: Readonly<Record<string, Value>>, output: string, options: BuildOptions,
  ): Value {
    const declared = [...model.inputs].map(([name, { dtype }]) => [name, feeds[name], dtype] as const);
    // some files take ids as int32
    const cast = Object.fromEntries(declared.flatMap(([name, v, dtype]) =>
      (v ? [[name, dtype === 'int32' ? f.cast(v, dtype) : v]] : [])));
    const value = model.build(graph, cast, { ...options, outputs: [output] })[output]!;
    if (value.shape.length === 2) return value;
    throw inputError(this.path, `gives "${output}" of shape [${value.shape.join(', ')}], expected a row per picture or text`);
  }

  private imageInput({ inputs }: ImportedModel): string {
    const flat = [...inputs.values()].filter(({ shape }) => shape.length === 4);
    if (inputs.has('pixel_values')) return 'pixel_values';
    if (flat.length === 1) return flat[0]!.name;
    throw inputError(this.path, `takes no pictures [B, 3, H, W] as "pixel_values"; its inputs are ${list(inputs)}`);
  }

  /** The output that is known by its name, else the only one that can be a row per picture or text. */
  private output({ outputs }: ImportedModel, names: readonly string[], what: string): string {
    const named = names.find((name) => outputs.has(name));
    const rows = [...outputs.values()].filter(({ shape }) => shape.length === 2);
    if (named !== undefined) return named;
    if (rows.length === 1) return rows[0]!.name;
    throw inputError(this.path, `gives no features of ${what} as ${names.join(' or ')}; its outputs are ${list(outputs)}`);
  }

  /** The first of the candidates that is a size. */
  private size(key: string, candidates: readonly unknown[]): number {
    const found = candidates.find((x): x is number => typeof x === 'number' && Number.isInteger(x) && x > 0);
    return found ?? this.missing(key);
  }

  private missing(key: string): never {
    throw inputError(this.path, `says nowhere what its ${key} is; put the model's config.json beside it`);
  }
}

const list = (values: ReadonlyMap<string, OnnxValue>): string =>
  [...values.values()].map(({ name, dtype, shape }) => `"${name}" ${dtype ?? 'another type'}[${shape.join(', ')}]`).join(', ');

/** @throws ScionError of kind `input` where there is no text tower, or the graphs are none of a dual encoder */
export function loadOnnx(path: string, config: unknown, { image, text }: OnnxTowers): OnnxEncoder {
  if (!text) {
    throw inputError(path, 'has no text tower, which all methods need now; put its text_model.onnx beside it, '
      + 'exported with input_ids and text_embeds');
  }
  return new OnnxEncoder(path, config, { image, text });
}
