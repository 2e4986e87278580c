/** A backbone that a method adapts from within, as a classifier of pictures by its own words. */
import type { Split } from '../data/feature-file.js';
import { Graph, type Value } from '../ir/graph.js';
import * as f from '../nn/functional.js';
import { Module } from '../nn/module.js';
import { type Parameter, bind, boundParameters, frozen, trained } from '../nn/parameter.js';
import {
  type BackboneMethod, type FeatureInputs, FeatureModule, type PromptWords, classMeans, cosineLogits, normaliseRows,
} from '../peft/index.js';
import type { Runtime, SessionOptions, Tensors } from '../runtime/session.js';
import { ScionError, usageError } from '../util/errors.js';
import { type Tensor, float32, tensor } from '../util/tensor.js';
import { compileInference } from './compile.js';
import type { Backbone, DualEncoder, ImageTower, TextTower } from './encode.js';
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

/** A fresh encoder. */
export type Tree = Module & (ImageTower | DualEncoder);

/** What an adapted model is made of beside its method. */
export interface AdaptedSource {
  readonly backbone: Backbone;
  readonly classNames: readonly string[];
  /** The texts of each class. */
  readonly prompts: readonly (readonly string[])[];
  readonly pictures: PictureLoader;
  readonly flip: boolean;
}

/** Where the directions of classes come from. */
abstract class Classes extends Module {
  /** [K, d], of norm 1 */
  abstract directions(graph: Graph): Value;
}

/** The mean direction of each class's texts, by the text tower of the model as it is at the moment. */
class ClassTexts extends Classes {
  private readonly ids: Parameter;
  private readonly averages: Parameter;

  /** @param ids of each class [texts of it, length] */
  constructor(private readonly tower: TextTower, ids: readonly Tensor<'int64'>[]) {
    super();
    const [texts, length] = [ids.reduce((sum, own) => sum + own.shape[0]!, 0), ids[0]!.shape[1]!];
    const all = new BigInt64Array(texts * length);
    const averages = new Float32Array(ids.length * texts);
    ids.reduce((at, own, k) => {
      const count = own.shape[0]!;
      all.set(own.data, at * length);
      averages.fill(1 / count, k * texts + at, k * texts + at + count);
      return at + count;
    }, 0);
    this.ids = this.parameter('ids', frozen(tensor('int64', [texts, length], all)));
    this.averages = this.parameter('averages', frozen(float32([ids.length, texts], averages)));
  }

  directions(graph: Graph): Value {
    const features = f.l2Normalize(this.tower.textFeatures(bind(graph, this.ids)));
    return f.l2Normalize(f.matmul(bind(graph, this.averages), features));
  }
}

/** Trained vectors, for models without words; they start from the class means of the training features. */
class ClassVectors extends Classes {
  private readonly weight: Parameter;

  constructor(inputs: FeatureInputs) {
    super();
    const { support, classes, dim } = inputs;
    const means = classMeans({ ...inputs, support: { ...support, features: normaliseRows(support.features) } });
    this.weight = this.parameter('weight', trained([classes, dim], () => normaliseRows(means)));
  }

  directions(graph: Graph): Value {
    return f.l2Normalize(bind(graph, this.weight));
  }
}

/**
 * `s · cos(f, c_k)` with trained parts in the image tower, the text tower or both. c_k is the mean direction of the class's
 * texts or, where the model knows no words, a trained vector.
 */
export class AdaptedModel extends FeatureModule {
  readonly images: ImageSide | undefined;
  /** Whether training changes anything but vectors of classes. */
  readonly adapts: boolean;
  private readonly classes: Classes;

  /** @param ids of the texts of each class; absent where the model knows no words */
  constructor(
    inputs: FeatureInputs, readonly tree: Tree, ids: readonly Tensor<'int64'>[] | undefined,
    { pictures, flip }: Pick<AdaptedSource, 'pictures' | 'flip'>,
  ) {
    super(inputs);
    const { height, width } = pictures;
    this.classes = ids ? classTexts(tree as TextTower & Tree, ids) : new ClassVectors(inputs);
    const encode = (images: Value): Value => tree.imageFeatures(images);
    const adaptsImages = trains((graph) => encode(graph.input('images', 'float32', [1, 3, height, width])));
    this.images = adaptsImages ? { ...pictures, flip, encode } : undefined;
    this.adapts = adaptsImages || (ids !== undefined && trains((graph) => this.directions(graph)));
    this.child('classes', this.classes);
    for (const [name, p] of this.classes.parameters()) p.name = `classes.${name}`;
  }

  /** The names of the backbone's parameters are those of its checkpoint. */
  override *modules(path = ''): Generator<[string, Module]> {
    yield* super.modules(path);
    yield* this.tree.modules(path);
  }

  /** [K, d], of norm 1 */
  directions(graph: Graph): Value {
    return this.classes.directions(graph);
  }

  logits(features: Value): Value {
    return cosineLogits(features, this.directions(features.graph), this.inputs.logitScale);
  }
}

/** Texts are cut behind the longest one where the tower does not read padding: most of its work is saved. */
function classTexts(tower: TextTower & Tree, ids: readonly Tensor<'int64'>[]): ClassTexts {
  const length = Math.max(...ids.map(usedLength));
  if (!tower.readsPadding && length < tower.textLength) {
    const cut = new ClassTexts(tower, ids.map((own) => cutTo(own, length)));
    try {
      cut.directions(new Graph());
      return cut;
    } catch (error) {
      if (!(error instanceof ScionError)) throw error; // a tower of ONNX that takes texts of one length alone
    }
  }
  return new ClassTexts(tower, ids);
}

/** Tokens up to the first of the equal ones at the end, which are padding or the end mark; that one counts. */
function usedLength({ shape, data }: Tensor<'int64'>): number {
  const [rows, length] = shape as [number, number];
  let used = 1;
  for (let row = 0; row < rows; row++) {
    let end = length;
    const last = data[(row + 1) * length - 1];
    while (end > 1 && data[row * length + end - 2] === last) end--;
    used = Math.max(used, end);
  }
  return used;
}

function cutTo({ shape, data }: Tensor<'int64'>, length: number): Tensor<'int64'> {
  const [rows, whole] = shape as [number, number];
  const out = new BigInt64Array(rows * length);
  for (let row = 0; row < rows; row++) out.set(data.subarray(row * whole, row * whole + length), row * length);
  return tensor('int64', [rows, length], out);
}

/** Whether anything trained goes into what `build` makes. */
export function trains(build: (graph: Graph) => Value): boolean {
  const graph = new Graph();
  build(graph);
  return [...boundParameters(graph).keys()].some(({ origin }) => origin.kind === 'trained');
}

/** The classes of a finished run, computed once: `s · cos(f, c_k)`. */
export class FixedClasses extends FeatureModule {
  private readonly directions: Parameter;

  /** @param directions [K, d], of norm 1 */
  constructor(inputs: FeatureInputs, directions: Tensor<'float32'>) {
    super(inputs);
    this.directions = this.parameter('directions', frozen(directions));
  }

  logits(features: Value): Value {
    return cosineLogits(features, bind(features.graph, this.directions), this.inputs.logitScale);
  }
}

/** The same of a run that can be asked about other words as well. */
export class OpenClasses extends FixedClasses {
  /** The feature is the adapted tower's already. */
  override comparedWithTexts(features: Value): Value {
    return features;
  }
}

/**
 * A fresh tree of the backbone with the method's parts in it, and the ids of each class's texts where it knows words.
 * @throws ScionError of kind `usage`: what the method refuses
 */
export async function attach(
  { fresh, read, text }: Backbone, method: BackboneMethod, config: Record<string, unknown>,
  { classNames, prompts }: Pick<AdaptedSource, 'classNames' | 'prompts'>,
): Promise<{ tree: Tree; ids?: readonly Tensor<'int64'>[] }> {
  const tree = fresh();
  if (!text) {
    await method.attach(tree, config, { read });
    return { tree };
  }
  const length = text.encoder.textLength;
  const words: PromptWords = {
    classNames, prompts, length, tokenize: (texts) => text.tokenizer.encode(texts, length),
  };
  const attached = await method.attach(tree, config, { read, words });
  return { tree, ids: attached?.promptIds ?? prompts.map((own) => words.tokenize(own)) };
}

/** The module that is trained. */
export async function adaptedModel(
  method: BackboneMethod, config: Record<string, unknown>, inputs: FeatureInputs, source: AdaptedSource,
): Promise<AdaptedModel> {
  const { tree, ids } = await attach(source.backbone, method, config, source);
  const model = new AdaptedModel(inputs, tree, ids, source);
  if (model.adapts) return model;
  throw usageError('config', `with these settings ${method.name} trains nothing that a feature of ${source.backbone.name} `
    + 'depends on; choose other targets');
}

/** The directions of the classes [K, d] of a trained model, of norm 1. */
export async function directionsOf(
  runtime: Runtime, model: AdaptedModel, values: Tensors, options: SessionOptions,
): Promise<Tensor<'float32'>> {
  const program = compileInference((graph) => ({ directions: model.directions(graph) }));
  const known = new Set(program.parameters.map(({ name }) => name));
  const own = Object.fromEntries(Object.entries(values).filter(([name]) => known.has(name)));
  const session = await openProgram(runtime, program, own, options);
  try {
    return (await session.run({}))['directions'] as Tensor<'float32'>;
  } finally {
    await session.release();
  }
}
