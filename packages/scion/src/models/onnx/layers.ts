/** The layers of imported graphs as a module tree, so that methods find and replace them as in any other backbone. */
import type { ImportedModel, ReplaceLayer } from '../../onnx/import.js';
import * as f from '../../nn/functional.js';
import { LayerNorm, Linear, type Weights } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { fromColumns } from '../../nn/parameter-values.js';
import { type Origin, Parameter, frozen } from '../../nn/parameter.js';
import { type Shape, float32, toFloat32 } from '../../util/tensor.js';
import { readable } from '../weights.js';

/** The graphs of a model; the same one twice where one file holds both towers. */
export interface OnnxTowers {
  readonly image: ImportedModel;
  readonly text?: ImportedModel;
}

/**
 * Graphs whose linear layers and layer normalisations are children, by the names that the modules have in Hugging Face's
 * checkpoint. A graph is built from its own nodes; only layers that have been replaced, or whose parameters have been
 * given other values, are called as modules.
 */
export abstract class ImportedTowers extends Module {
  /** By graph and path in it, the names of the children. */
  private readonly names: ReadonlyMap<ImportedModel, ReadonlyMap<string, string>>;
  private readonly originals = new Map<string, Module>();
  private readonly origins = new Map<Parameter, Origin>();

  constructor(protected readonly path: string, protected readonly towers: OnnxTowers) {
    super();
    this.names = childNames(towers);
    for (const [model, names] of this.names) {
      for (const [path, name] of names) if (!this.originals.has(name)) this.add(name, layerOf(model, path));
    }
    this.named();
  }

  override get limitation(): string | undefined {
    const count = [...this.names.keys()].reduce((sum, { quantised }) => sum + quantised, 0);
    return count === 0 ? undefined : `${count} matrix products of ${this.path} are quantised, and adapters do not change `
      + 'such layers; take the file with float32 or float16 weights';
  }

  private add(name: string, layer: Module): void {
    this.originals.set(name, this.child(name, layer));
    for (const [, p] of layer.parameters()) this.origins.set(p, p.origin);
  }

  /** What `ImportedModel.build` is to replace in a graph: the layers that are no longer those of the file. */
  protected adapted(model: ImportedModel): ReplaceLayer {
    const names = this.names.get(model)!;
    return ({ path, x }) => {
      const name = names.get(path);
      if (name === undefined || !this.changed(name)) return undefined;
      const rows = f.reshape(x, [-1, x.shape.at(-1)!]);
      const y = x.graph.at('', () => this.run(name, rows)); // the name is the whole path
      return f.reshape(y, [...x.shape.slice(0, -1), y.shape[1]!]);
    };
  }

  private changed(name: string): boolean {
    const module = this.part(name);
    return module !== this.originals.get(name)
      || [...module.parameters()].some(([, p]) => p.origin !== this.origins.get(p));
  }
}

function layerOf(model: ImportedModel, path: string): Linear | LayerNorm {
  const linear = model.linears.get(path);
  if (linear) {
    const { inFeatures, outFeatures, bias, transposed } = linear;
    return new Linear((name, shape) => (name === 'weight' ? parameter(model, linear.weight, shape, transposed)
      : parameter(model, bias!, shape)), inFeatures, outFeatures, bias !== undefined);
  }
  const norm = model.norms.get(path)!;
  const weights: Weights = (name, shape) => parameter(model, norm[name as 'weight' | 'bias'], shape);
  return new LayerNorm(weights, norm.features, norm.epsilon);
}

/** A constant as a parameter: its bytes stay in the file, unless it is so small that the graph's outline holds it. */
function parameter(model: ImportedModel, name: string, shape: Shape, transposed = false): Parameter {
  const constant = model.constant(name);
  if ('path' in constant) {
    const { dtype, shape: _, ...data } = constant;
    return new Parameter(shape, { kind: 'external', dtype, data, transposed });
  }
  const { data } = toFloat32(constant);
  return frozen(transposed ? fromColumns(data, shape) : float32(shape, data));
}

/** The name in Hugging Face's checkpoint of a module of each tower. */
const towerNames = /^(vision_model|visual_projection|text_model|text_projection)(\.|$)/;

/**
 * The names of the layers that adapters may change. A module around the exported model (`clip.vision_model…`) is left
 * out. Where both files have layers of the same name, as towers that were exported each by itself, the names begin
 * with `vision_model.` and `text_model.`.
 */
function childNames({ image, text }: OnnxTowers): ReadonlyMap<ImportedModel, ReadonlyMap<string, string>> {
  const images = unwrapped(image);
  const names = new Map([[image, images]]);
  if (!text || text === image) return names;
  const texts = unwrapped(text);
  names.set(text, texts);
  const taken = new Set(images.values());
  if (![...texts.values()].some((name) => taken.has(name))) return names;
  const below = (tower: string, own: ReadonlyMap<string, string>): Map<string, string> =>
    new Map([...own].map(([path, name]) => [path, towerNames.test(name) ? name : `${tower}.${name}`]));
  return names.set(image, below('vision_model', images)).set(text, below('text_model', texts));
}

function unwrapped(model: ImportedModel): Map<string, string> {
  const floats = (name: string): boolean => readable.includes(model.constant(name).dtype);
  const linears = [...model.linears.values()].filter((layer) => !layer.quantised && floats(layer.weight));
  const norms = [...model.norms.values()].filter(({ weight }) => floats(weight));
  const paths = [...linears, ...norms].map(({ path }) => path);
  const wrapper = paths.map((path) => /^(?:.+?\.)??(?=(?:vision|text)_model\.)/.exec(path)?.[0])
    .find((prefix) => prefix !== undefined) ?? '';
  const within = paths.every((path) => path.startsWith(wrapper)) ? wrapper.length : 0;
  return new Map(paths.map((path) => [path, path.slice(within)]));
}
