/** The layers of an imported graph by module path: products with a matrix from the file, and normalisations. */
import { arrayOver, numel, toFloat64 } from '../util/tensor.js';
import type { OnnxNode, OnnxSummary } from './decode.js';
import { Lookup } from './lookup.js';
import { modulePath, weightPath } from './module-path.js';

/** A layer `x Wᵀ + b` with a fixed matrix. */
export interface ImportedLinear {
  /** Of the module, `vision_model.encoder.layers.0.self_attn.q_proj`; where the file names none, the node's name. */
  readonly path: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Names of the constants in the file. */
  readonly weight: string;
  readonly bias?: string;
  /** Whether the file holds the matrix as [in, out]. */
  readonly transposed: boolean;
  /** Whether the file holds it as whole numbers that are scaled. */
  readonly quantised: boolean;
}

/** A layer normalisation over the last axis. */
export interface ImportedNorm {
  readonly path: string;
  readonly features: number;
  readonly epsilon: number;
  readonly weight: string;
  readonly bias: string;
}

/** Where a layer is called: the value that goes in. What comes out is the output of the call's last node. */
export interface LayerUse { readonly path: string; readonly x: string }

export interface ImportedLayers {
  readonly linears: ReadonlyMap<string, ImportedLinear>;
  readonly norms: ReadonlyMap<string, ImportedNorm>;
  /** The calls by their last node. Several share a layer where a module is called more than once. */
  readonly uses: ReadonlyMap<OnnxNode, LayerUse>;
  /** How many products there are whose weights are quantised. */
  readonly quantised: number;
}

/** A layer without its path, and its last node. */
type Found<T> = Omit<T, 'path'> & { readonly last: OnnxNode };

export function findLayers(summary: OnnxSummary): ImportedLayers {
  const lookup = new Lookup(summary);
  const linears = new Map<string, ImportedLinear>();
  const norms = new Map<string, ImportedNorm>();
  const uses = new Map<OnnxNode, LayerUse>();
  let quantised = 0;
  for (const node of summary.nodes) {
    const linear = linearOf(node, lookup);
    if (linear) {
      const path = pathOf(node, linear.weight, (name) => !norms.has(name) && fits(linears.get(name), linear));
      const { last, ...layer } = linear;
      linears.set(path, { path, ...layer });
      uses.set(last, { path, x: node.inputs[0]! });
    }
    if (linear?.quantised || wholeProducts.has(node.op)) quantised++;
    const norm = linear ? undefined : normOf(node, lookup);
    if (norm) {
      const path = pathOf(node, norm.weight, (name) => !linears.has(name) && fits(norms.get(name), norm));
      const { last, x, ...layer } = norm;
      norms.set(path, { path, ...layer });
      uses.set(last, { path, x });
    }
  }
  return { linears, norms, uses, quantised };
}

const wholeProducts: ReadonlySet<string> = new Set(
  ['MatMulInteger', 'QLinearMatMul', 'QGemm', 'DynamicQuantizeMatMul', 'MatMulIntegerToFloat']);

/** Whether a layer is the one that is there already, called once more. */
const fits = (there: { weight: string; bias?: string } | undefined, layer: { weight: string; bias?: string }): boolean =>
  !there || (there.weight === layer.weight && there.bias === layer.bias);

/** The module's path, else the best name that no other layer has. */
function pathOf(node: OnnxNode, weight: string, free: (name: string) => boolean): string {
  const module = modulePath(node);
  const names = [
    module, weightPath(weight), module && `${module}.${node.name.split('/').at(-1)}`, node.name, node.outputs[0],
  ].filter((name): name is string => name !== undefined && name !== '');
  // every value of a graph has a name of its own
  return names.find(free) ?? `${names[0]}.${node.outputs[0]}`;
}

function linearOf(node: OnnxNode, lookup: Lookup): Found<ImportedLinear> | undefined {
  const packed = node.domain === 'com.microsoft' && node.op === 'MatMulNBits';
  const product = node.domain === '' && (node.op === 'MatMul' || node.op === 'Gemm');
  const stored = packed || product ? lookup.stored(node.inputs[1]) : undefined;
  if (!stored?.initializer.dtype) return undefined;
  const { initializer: { name: weight }, shape, flipped } = stored;
  const { K, N, alpha = 1, beta = 1, transA = 0, transB = 0 } = node.attributes;
  if (packed) {
    return typeof K !== 'number' || typeof N !== 'number' ? undefined
      : withBias({ inFeatures: K, outFeatures: N, weight, transposed: false, quantised: true }, node, node.inputs[5], lookup);
  }
  const gemm = node.op === 'Gemm';
  if (shape.length !== 2 || (gemm && (alpha !== 1 || transA !== 0 || (node.inputs[2] && beta !== 1)))) return undefined;
  const rows = gemm && transB === 1; // [out, in]
  const [outFeatures, inFeatures] = (rows ? shape : [...shape].reverse()) as [number, number];
  const layer = { inFeatures, outFeatures, weight, transposed: rows === flipped, quantised: stored.quantised };
  return withBias(layer, node, gemm ? node.inputs[2] : undefined, lookup);
}

/** With what is added to the product: within the node, or by an Add of the same module behind it. */
function withBias(
  layer: Omit<ImportedLinear, 'path' | 'bias'>, node: OnnxNode, inside: string | undefined, lookup: Lookup,
): Found<ImportedLinear> | undefined {
  const { outFeatures } = layer;
  if (inside) {
    const bias = lookup.vector(inside, outFeatures);
    return bias && { ...layer, bias: bias.name, last: node };
  }
  const [product] = node.outputs;
  const add = node.op === 'Gemm' ? undefined : lookup.reader(product, 'Add');
  const bias = add && modulePath(add) === modulePath(node)
    ? lookup.vector(lookup.other(add, product!), outFeatures) : undefined;
  return bias ? { ...layer, bias: bias.name, last: add! } : { ...layer, last: node };
}

function normOf(node: OnnxNode, lookup: Lookup): (Found<ImportedNorm> & { x: string }) | undefined {
  if (node.domain !== '') return undefined;
  if (node.op === 'Div') return spelledNorm(node, lookup);
  if (node.op !== 'LayerNormalization' || (node.attributes['axis'] ?? -1) !== -1) return undefined;
  const epsilon = node.attributes['epsilon'] ?? 1e-5;
  return typeof epsilon !== 'number' ? undefined
    : affine(node.inputs[1], node.inputs[2], lookup, { epsilon, x: node.inputs[0]!, last: node });
}

/** `(x - mean) / sqrt(mean((x - mean)²) + ε) · weight + bias`, as op sets before 17 have it. */
function spelledNorm(div: OnnxNode, lookup: Lookup): (Found<ImportedNorm> & { x: string }) | undefined {
  const [centred, deviation] = div.inputs as [string, string];
  const sub = lookup.maker(centred, 'Sub');
  const [x, mean] = sub?.inputs ?? [];
  const sum = lookup.maker(lookup.maker(deviation, 'Sqrt')?.inputs[0], 'Add');
  const variance = sum?.inputs.find((name) => lookup.maker(name, 'ReduceMean'));
  if (x === undefined || variance === undefined || meanOf(mean, lookup) !== x) return undefined;
  const epsilon = numberOf(lookup.other(sum!, variance), lookup);
  const square = meanOf(variance, lookup);
  const power = lookup.maker(square, 'Pow');
  const squared = power ? numberOf(power.inputs[1], lookup) === 2 && power.inputs[0] === centred
    : lookup.maker(square, 'Mul')?.inputs.every((name) => name === centred) === true;
  const mul = lookup.reader(div.outputs[0], 'Mul');
  const last = mul && lookup.reader(mul.outputs[0], 'Add');
  if (epsilon === undefined || !squared || !last) return undefined;
  return affine(lookup.other(mul, div.outputs[0]!), lookup.other(last, mul.outputs[0]!), lookup, { epsilon, x, last });
}

function affine<T>(
  weight: string | undefined, bias: string | undefined, lookup: Lookup, rest: T,
): (T & Pick<ImportedNorm, 'features' | 'weight' | 'bias'>) | undefined {
  const features = lookup.stored(weight)?.shape.at(-1) ?? 0;
  const [scale, shift] = [lookup.vector(weight, features), lookup.vector(bias, features)];
  return scale && shift && { ...rest, features, weight: scale.name, bias: shift.name };
}

/** What a value is the mean of, over the last axis. */
function meanOf(value: string | undefined, lookup: Lookup): string | undefined {
  const node = lookup.maker(value, 'ReduceMean');
  const { axes } = node?.attributes ?? {};
  const axis = Array.isArray(axes) ? (axes.length === 1 ? axes[0] as unknown : undefined) : numberOf(node?.inputs[1], lookup);
  return axis === -1 ? node!.inputs[0] : undefined;
}

/** A constant of one element. */
function numberOf(name: string | undefined, lookup: Lookup): number | undefined {
  const { dtype, shape, data } = lookup.stored(name)?.initializer ?? {};
  if (!dtype || !shape || !data || 'location' in data || numel(shape) !== 1) return undefined;
  return toFloat64({ dtype, shape, data: arrayOver(dtype, data) })[0];
}
