/**
 * The tensors of Python's PEFT and the trained parameters of a tree that LoRA has been attached to. PEFT names a tensor
 * by the path of its module in PyTorch's tree, which is the path in Scion's, below `base_model.model.`.
 */
import type { Module } from '../../nn/module.js';
import type { Parameter } from '../../nn/parameter.js';
import { type Issue, ScionError, usageError } from '../../util/errors.js';
import { type DType, type Shape, type Tensor, float32, sameShape, toFloat32 } from '../../util/tensor.js';
import type { Values } from '../backbone-method.js';
import type { LoraConfig } from '../lora/index.js';
import { GroupedLoraLayer } from '../lora/grouped.js';
import { LoraLayer } from '../lora/layer.js';
import { peftConfig } from './config.js';

const root = 'base_model.model.';
const readable: readonly DType[] = ['float32', 'float16', 'bfloat16', 'float64'];
/** Lines of each kind that a message lists at most. */
const most = 20;

/** A key of PEFT as the full name of a parameter; undefined for the untrained twin of a module that is trained whole. */
export function parameterName(key: string): string | undefined {
  if (key.includes('.original_module.')) return undefined;
  return (key.startsWith(root) ? key.slice(root.length) : key).replace('.modules_to_save.', '.').replace(/\.lora_magnitude_vector\.weight$/, '.lora_magnitude_vector');
}

/** The full name of a parameter as the key that PEFT stores it under. */
export const peftKey = (name: string): string => root + name;

/**
 * The values of an adapter by the full names of the parameters that they belong to.
 * @param model the tree with LoRA attached by the adapter's own settings
 * @param tensors PEFT's keys → values
 * @param where the adapter, for messages
 * @throws ScionError of kind `input`: the difference of the keys, where they are not exactly those of the model, and
 *   values that are no finite numbers
 */
export function fitAdapter(
  model: Module, tensors: ReadonlyMap<string, Tensor>, where = 'adapter',
): Map<string, Tensor<'float32'>> {
  const wanted = trainedParameters(model);
  const given = new Map<string, Tensor>();
  for (const [key, t] of tensors) {
    const name = parameterName(key);
    if (name !== undefined) given.set(name, t);
  }
  const list = (shape: Shape): string => `[${shape.join(', ')}]`;
  const issues = [
    ...some([...wanted].filter(([name]) => !given.has(name)), ([name, { shape }]) =>
      ['is missing', `${where}: ${peftKey(name)}`, `expected shape ${list(shape)}; ${mend}`]),
    ...some([...given].filter(([name]) => !wanted.has(name)), ([name, { shape }]) =>
      ['is not in the model', `${where}: ${peftKey(name)}`, `shape ${list(shape)}; ${mend}`]),
    ...some([...given].filter(([name, t]) => wanted.has(name) && !sameShape(t.shape, wanted.get(name)!.shape)),
      ([name, { shape }]) => ['has another shape', `${where}: ${peftKey(name)}`,
        `${list(shape)}, expected ${list(wanted.get(name)!.shape)}; ${mend}`]),
    ...some([...given].filter(([, t]) => !readable.includes(t.dtype)), ([name, t]) =>
      ['has another dtype', `${where}: ${peftKey(name)}`, `${t.dtype}, expected ${readable.join(', ')}; save it again`]),
  ];
  if (issues.length > 0) throw new ScionError('input', issues);
  const values = new Map([...given].map(([name, t]) => [name, toFloat32(t)]));
  const broken = some([...values].filter(([, t]) => t.data.some((v) => !Number.isFinite(v))), ([name, t]) =>
    ['has values that are no numbers', `${where}: ${peftKey(name)}`,
      `holds ${t.data.find((v) => !Number.isFinite(v))}, expected finite numbers; train the adapter again`]);
  if (broken.length > 0) throw new ScionError('input', broken);
  return values;
}

const mend = 'take the model that the adapter was trained on';

/** At most twenty of the faults, and how many more there are. */
function some<T>(faults: readonly T[], tell: (fault: T) => [what: string, path: string, message: string]): Issue[] {
  const told = faults.slice(0, most).map(tell);
  const issues = told.map(([what, path, message]): Issue => ({ path, message: `${what}: ${message}` }));
  const more = faults.length - told.length;
  return more > 0 ? [...issues, { path: '', message: `… and ${more} more of ${faults.length} that are the same: ${told[0]![0]}` }] : issues;
}

function trainedParameters(model: Module): Map<string, Parameter> {
  return new Map([...model.parameters()].filter(([, p]) => p.origin.kind === 'trained'));
}

/** An adapter as PEFT stores it: the content of adapter_config.json, and tensors by PEFT's keys. */
export interface PeftAdapter {
  config: Readonly<Record<string, unknown>>;
  tensors: Readonly<Record<string, Tensor<'float32'>>>;
}

/**
 * The trained values of a model as an adapter for Python's PEFT. Factors of parts of a fused projection become those of a
 * plain update of a greater rank, with zeros between them.
 * @param model the tree with LoRA attached
 * @param config the settings that it was attached with
 * @throws ScionError of kind `usage` where routing mixes pictures in, which PEFT does not know
 */
export function peftAdapterFiles(
  model: Module, config: LoraConfig, values: Values, { baseModel }: { baseModel?: string | undefined } = {},
): PeftAdapter {
  const adapted = [...model.modules()].filter((entry): entry is [string, LoraLayer] => entry[1] instanceof LoraLayer);
  if (adapted.some(([, { obstacle }]) => obstacle !== undefined)) {
    throw usageError('routing', `${config.routing}: Python's PEFT has no routing and would compute something else; `
      + 'keep the run as it is, or train with routing none');
  }
  const tensors = new Map([...trainedParameters(model).keys()].map((name) => [peftKey(name), values(name)]));
  const grouped = adapted.filter((entry): entry is [string, GroupedLoraLayer] => entry[1] instanceof GroupedLoraLayer);
  for (const [path, layer] of grouped) {
    const { rank, a, b } = layer.factors(values);
    tensors.set(peftKey(`${path}.lora_A.weight`), float32([rank, a.length / rank], a));
    tensors.set(peftKey(`${path}.lora_B.weight`), float32([b.length / rank, rank], b));
  }
  return {
    config: peftConfig({ ...config, ...ofGreaterRank(config, grouped, values) }, adapted.map(([path]) => path), baseModel),
    tensors: Object.fromEntries(tensors),
  };
}

/** The ranks of plain factors, and the lora_alpha that scales these as the grouped ones are scaled. */
function ofGreaterRank(
  config: LoraConfig, grouped: readonly [string, GroupedLoraLayer][], values: Values,
): Pick<LoraConfig, 'rank_pattern' | 'alpha_pattern'> {
  const rank_pattern: Record<string, number> = {};
  const alpha_pattern: Record<string, number> = {};
  for (const [path, layer] of grouped) {
    const { rank } = layer.factors(values);
    const key = path.replaceAll('.', String.raw`\.`);
    rank_pattern[key] = rank;
    alpha_pattern[key] = layer.scaling * (config.use_rslora ? Math.sqrt(rank) : rank);
  }
  // the first key that fits is taken
  return {
    rank_pattern: { ...rank_pattern, ...config.rank_pattern }, alpha_pattern: { ...alpha_pattern, ...config.alpha_pattern },
  };
}
