/** The linear layers of an imported graph: products with a matrix from the file, by module path. */
import type { OnnxInitializer, OnnxNode, OnnxSummary } from './decode.js';
import { modulePath, weightPath } from './module-path.js';

/** A product `x Wᵀ` with a fixed matrix. */
export interface ImportedLinear {
  /** Of the module, `vision_model.encoder.layers.0.self_attn.q_proj`; where the file names none, the node's name. */
  readonly path: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Names of the constants in the file: the matrix, and what is added behind the product. */
  readonly weight: string;
  readonly bias?: string;
}

interface Stored { readonly initializer: OnnxInitializer; readonly shape: readonly number[] }

/**
 * The linear layer of each node that is one. Nodes share a layer where they have the same path and weight: a module
 * that is called twice.
 */
export function findLinears({ nodes, initializers }: OnnxSummary): ReadonlyMap<OnnxNode, ImportedLinear> {
  const constants = new Map(initializers.map((t) => [t.name, t]));
  const makers = new Map(nodes.flatMap((n) => n.outputs.map((name) => [name, n] as const)));
  const readers = new Map<string, OnnxNode[]>();
  for (const n of nodes) {
    for (const name of n.inputs) {
      const known = readers.get(name);
      if (known) known.push(n);
      else readers.set(name, [n]);
    }
  }

  /** The constant behind a value, through ops that keep it a matrix of the same numbers. */
  const stored = (name: string): Stored | undefined => {
    let flipped = false;
    for (let at = name, steps = 0; steps < 8; steps++) {
      const initializer = constants.get(at) ?? tensorOf(makers.get(at));
      if (initializer) {
        const { shape } = initializer;
        return { initializer, shape: flipped ? [...shape].reverse() : shape };
      }
      const maker = makers.get(at);
      if (!maker || !['Identity', 'Cast', 'DequantizeLinear', 'Transpose'].includes(maker.op)) return undefined;
      const perm = maker.attributes['perm'];
      if (maker.op === 'Transpose' && !(Array.isArray(perm) && perm.length !== 2)) flipped = !flipped;
      at = maker.inputs[0]!;
    }
    return undefined;
  };

  const found = new Map<OnnxNode, ImportedLinear>();
  const taken = new Map<string, ImportedLinear>();
  for (const node of nodes) {
    const sizes = sizesOf(node, stored);
    if (!sizes) continue;
    const module = modulePath(node);
    const bias = biasOf(node, module, sizes.outFeatures, readers, stored);
    const names = [
      module, weightPath(sizes.weight), module && `${module}.${node.name.split('/').at(-1)}`, node.name,
      node.outputs[0],
    ].filter((name): name is string => name !== undefined && name !== '');
    const free = names.find((name) => {
      const other = taken.get(name);
      return !other || (other.weight === sizes.weight && other.outFeatures === sizes.outFeatures);
    });
    const path = free ?? `${names[0]}.${taken.size}`;
    const linear = taken.get(path) ?? { path, ...sizes, ...(bias === undefined ? {} : { bias }) };
    taken.set(path, linear);
    found.set(node, linear);
  }
  return found;
}

/** The content of a Constant node. */
function tensorOf(node: OnnxNode | undefined): OnnxInitializer | undefined {
  const value = node?.op === 'Constant' ? node.attributes['value'] : undefined;
  return typeof value === 'object' && 'dtype' in value ? { ...value, name: node!.outputs[0]! } : undefined;
}

type Sizes = Pick<ImportedLinear, 'inFeatures' | 'outFeatures' | 'weight'>;

function sizesOf(node: OnnxNode, stored: (name: string) => Stored | undefined): Sizes | undefined {
  const { op, domain, attributes } = node;
  const weight = ['MatMul', 'Gemm', 'MatMulNBits'].includes(op) ? stored(node.inputs[1] ?? '') : undefined;
  if (!weight) return undefined;
  const { initializer: { name }, shape } = weight;
  if (domain === 'com.microsoft' && op === 'MatMulNBits') {
    const { K, N } = attributes;
    return typeof K === 'number' && typeof N === 'number' ? { inFeatures: K, outFeatures: N, weight: name } : undefined;
  }
  if (domain !== '' || shape.length !== 2) return undefined;
  const plain = op === 'MatMul' || ((attributes['transA'] ?? 0) === 0 && (attributes['alpha'] ?? 1) === 1);
  if (!plain) return undefined;
  const [rows, columns] = shape as [number, number];
  const [inFeatures, outFeatures] = op === 'Gemm' && attributes['transB'] === 1 ? [columns, rows] : [rows, columns];
  return { inFeatures, outFeatures, weight: name };
}

/** What is added behind the product: within the node, or by an Add of the same module. */
function biasOf(
  node: OnnxNode, module: string, features: number, readers: ReadonlyMap<string, readonly OnnxNode[]>,
  stored: (name: string) => Stored | undefined,
): string | undefined {
  const inside = node.op === 'Gemm' ? node.inputs[2] : node.op === 'MatMulNBits' ? node.inputs[5] : undefined;
  const next = readers.get(node.outputs[0]!) ?? [];
  const [add] = next;
  const outside = node.op !== 'Gemm' && next.length === 1 && add!.op === 'Add' && modulePath(add!) === module
    ? add!.inputs.find((name) => name !== node.outputs[0]) : undefined;
  const bias = stored(inside || outside || '');
  return bias && bias.shape.join() === `${features}` ? bias.initializer.name : undefined;
}
