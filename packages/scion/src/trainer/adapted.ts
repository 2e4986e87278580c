/** A backbone that a method adapts from within, as a classifier of pictures by its own words. */
import type { Split } from '../data/feature-file.js';
import { Graph, type Value } from '../ir/graph.js';
import * as f from '../nn/functional.js';
import type { Module } from '../nn/module.js';
import { type Parameter, bind, boundParameters, frozen } from '../nn/parameter.js';
import { type BackboneMethod, type FeatureInputs, FeatureModule, type PromptWords, cosineLogits } from '../peft/index.js';
import type { Runtime, SessionOptions, Tensors } from '../runtime/session.js';
import { usageError } from '../util/errors.js';
import { type Tensor, float32, tensor } from '../util/tensor.js';
import { compileInference } from './compile.js';
import type { Backbone, DualEncoder } from './encode.js';
import type { PictureLoader } from './picture-loader.js';
import { openProgram } from './program.js';

/** How a module reads pictures where its image tower is trained. */
export interface ImageSide extends PictureLoader {
  /** Whether random views are mirrored half of the time. */
  readonly flip: boolean;
  /** images [B, 3, H, W] → the features that `logits` takes */
  encode(images: Value): Value;
}

/** A classifier over features that are computed once, or over pictures, where the image tower is trained with it. */
export type Classifying = FeatureModule & { readonly images?: ImageSide | undefined };

/** The pictures of a split, where a module needs them. */
export type Rows = Pick<Split, 'features' | 'images'>;

/** A fresh encoder with words. */
export type Tree = Module & DualEncoder;

/** What an adapted model is made of beside its method. */
export interface AdaptedSource {
  readonly backbone: Backbone;
  readonly classNames: readonly string[];
  /** The texts of each class. */
  readonly prompts: readonly (readonly string[])[];
  readonly pictures: PictureLoader;
  readonly flip: boolean;
}

/** `s · cos(f, T_k)`, T_k the mean direction of the class's texts, with trained parts in one tower or both. */
export class AdaptedModel extends FeatureModule {
  readonly images: ImageSide | undefined;
  /** Whether class texts change in training. */
  readonly adaptsTexts: boolean;
  private readonly ids: Parameter;
  private readonly averages: Parameter;

  constructor(inputs: FeatureInputs, readonly tree: Tree, ids: readonly Tensor<'int64'>[], source: AdaptedSource) {
    super(inputs);
    const length = tree.textLength;
    const texts = ids.reduce((sum, own) => sum + own.shape[0]!, 0);
    const all = new BigInt64Array(texts * length);
    const averages = new Float32Array(ids.length * texts);
    ids.reduce((at, own, k) => {
      const count = own.shape[0]!;
      all.set(own.data, at * length);
      averages.fill(1 / count, k * texts + at, k * texts + at + count);
      return at + count;
    }, 0);
    this.ids = this.parameter('prompts.ids', frozen(tensor('int64', [texts, length], all)));
    this.averages = this.parameter('prompts.averages', frozen(float32([ids.length, texts], averages)));
    const { height, width } = source.pictures;
    this.adaptsTexts = trains((graph) => this.texts(graph));
    const adaptsImages = trains((graph) => tree.imageFeatures(graph.input('images', 'float32', [1, 3, height, width])));
    this.images = adaptsImages
      ? { ...source.pictures, flip: source.flip, encode: (images) => tree.imageFeatures(images) } : undefined;
  }

  /** The names of the backbone's parameters are those of its checkpoint. */
  override *modules(path = ''): Generator<[string, Module]> {
    yield [path, this];
    yield* this.tree.modules(path);
  }

  /** [K, d], of norm 1 */
  texts(graph: Graph): Value {
    const features = f.l2Normalize(this.tree.textFeatures(bind(graph, this.ids)));
    return f.l2Normalize(f.matmul(bind(graph, this.averages), features));
  }

  logits(features: Value): Value {
    return cosineLogits(features, this.texts(features.graph), this.inputs.logitScale);
  }
}

/** Whether anything trained goes into what `build` makes. */
function trains(build: (graph: Graph) => Value): boolean {
  const graph = new Graph();
  build(graph);
  return [...boundParameters(graph).keys()].some(({ origin }) => origin.kind === 'trained');
}

/** The class texts of a finished run, computed once: `s · cos(f, T_k)`. */
export class FixedTexts extends FeatureModule {
  private readonly texts: Parameter;

  /** @param texts [K, d], of norm 1 */
  constructor(inputs: FeatureInputs, texts: Tensor<'float32'>) {
    super(inputs);
    this.texts = this.parameter('texts', frozen(texts));
  }

  logits(features: Value): Value {
    return cosineLogits(features, bind(features.graph, this.texts), this.inputs.logitScale);
  }
}

/** The same of a run that can be asked about other words as well. */
export class OpenTexts extends FixedTexts {
  /** The feature is the adapted tower's already. */
  override comparedWithTexts(features: Value): Value {
    return features;
  }
}

/**
 * A fresh tree of the backbone with the method's parts in it.
 * @throws ScionError of kind `usage`: a model without words or without a module tree, and what the method refuses
 */
export async function attach(
  { fresh, read, name, text }: Backbone, method: BackboneMethod, config: Record<string, unknown>,
  { classNames, prompts }: Pick<AdaptedSource, 'classNames' | 'prompts'>,
): Promise<{ tree: Tree; ids: Tensor<'int64'>[] }> {
  if (!text) {
    throw usageError('model', `${name} sees pictures alone, and ${method.name} tells classes by words; take a CLIP or SigLIP `
      + 'model');
  }
  const tree = fresh() as Tree;
  const words: PromptWords = {
    classNames, prompts, length: tree.textLength, tokenize: (texts) => text.tokenizer.encode(texts, tree.textLength),
  };
  const attached = await method.attach(tree, config, { read, words });
  return { tree, ids: attached?.promptIds ? split(attached.promptIds) : prompts.map((own) => words.tokenize(own)) };
}

/** [K, templates, length] → K tensors [templates, length] */
function split({ shape, data }: Tensor<'int64'>): Tensor<'int64'>[] {
  const [classes, templates, length] = shape as [number, number, number];
  const size = templates * length;
  return Array.from({ length: classes }, (_, k) =>
    tensor('int64', [templates, length], data.slice(k * size, (k + 1) * size)));
}

/** The module that is trained. */
export async function adaptedModel(
  method: BackboneMethod, config: Record<string, unknown>, inputs: FeatureInputs, source: AdaptedSource,
): Promise<AdaptedModel> {
  const { tree, ids } = await attach(source.backbone, method, config, source);
  const model = new AdaptedModel(inputs, tree, ids, source);
  if (model.images || model.adaptsTexts) return model;
  throw usageError('config', `with these settings ${method.name} trains nothing that a feature of ${source.backbone.name} `
    + 'depends on; choose other targets');
}

/** The class texts [K, d] of a trained model, of norm 1. */
export async function classTextsOf(
  runtime: Runtime, model: AdaptedModel, values: Tensors, options: SessionOptions,
): Promise<Tensor<'float32'>> {
  const program = compileInference((graph) => ({ texts: model.texts(graph) }));
  const known = new Set(program.parameters.map(({ name }) => name));
  const own = Object.fromEntries(Object.entries(values).filter(([name]) => known.has(name)));
  const session = await openProgram(runtime, program, own, options);
  try {
    return (await session.run({}))['texts'] as Tensor<'float32'>;
  } finally {
    await session.release();
  }
}
