/** What is tried on every kind of backbone: methods of the backbone with their options. A new method is a few rows. */
import type { Modality } from '../../nn/places.js';
import { adaptFormer } from '../adaptformer/index.js';
import { adapter } from '../adapter/index.js';
import type { BackboneMethod } from '../backbone-method.js';
import { bitFit } from '../bitfit/index.js';
import { fullFineTuning } from '../full-finetuning/index.js';
import { layerNormTuning } from '../layernorm-tuning/index.js';
import { clipLora, lora } from '../lora/index.js';
import { prefixTuning } from '../prefix-tuning/index.js';
import { promptTuning } from '../prompt-tuning/index.js';
import type { ModelCase } from './models.js';

/** What the refusal says on a model that the method does not fit; undefined where it fits. */
type Refusal = (model: ModelCase) => RegExp | undefined;

export interface Row {
  method: BackboneMethod;
  config: (model: ModelCase) => object;
  /** Of Adam, in 15 steps. */
  lr: number;
  /** Whether it is a change of weights that the model has. */
  merges: boolean;
  /** Whether it gives the model's own output before the first step. */
  startsAsBase: boolean;
  refuses: Refusal;
}

type Options = Partial<Pick<Row, 'lr' | 'merges' | 'refuses' | 'startsAsBase'>>;

function row(method: BackboneMethod, config: object | Row['config'], options: Options = {}): Row {
  return {
    method, config: typeof config === 'function' ? config as Row['config'] : () => config,
    lr: 5e-3, merges: true, startsAsBase: true, refuses: () => undefined, ...options,
  };
}

const needsTower = (tower: Modality): Refusal => ({ towers }) =>
  (towers.includes(tower) ? undefined : /this model has no (text|image) tower; use both/);
const needsBlocks = (...wanted: readonly Modality[]): Refusal => (model) => {
  if (wanted.some((tower) => model.blocks.includes(tower))) return undefined;
  return (wanted.length === 1 ? needsTower(wanted[0]!)(model) : undefined)
    ?? /tower of this model has (no )?transformer layers.*: lora, bitfit, layernorm-tuning, full-finetuning/;
};
/** The fixture of OpenAI's transformer has one layer in each tower. */
const needsSecondLayer = (...wanted: readonly Modality[]): Refusal => (model) => needsBlocks(...wanted)(model)
  ?? (model.name === 'clip/openai-vit' ? /: 1: no transformer layer has this number; there is 0 alone/ : undefined);
const on = (models: RegExp, otherwise: RegExp): Refusal => ({ name }) => (models.test(name) ? undefined : otherwise);

const convolutions = '.*(conv\\d|stem\\.\\d|downsample(\\.0)?)';
const needsConvolutions = on(/picto|resnet/, /matches the whole path of no linear layer or convolution; paths are/);
const plugs: Options = { merges: false, refuses: needsBlocks('text', 'vision') };

export const rows: Readonly<Record<string, Row>> = {
  'lora on all linear layers': row(lora, { r: 2, lora_alpha: 4, target_modules: 'all-linear' }),
  'lora by an expression, rank-stabilised, gaussian, with dropout': row(lora, {
    r: 4, lora_alpha: 4, target_modules: '.*(q_proj|query|fc1)', use_rslora: true, init_lora_weights: 'gaussian',
    lora_dropout: 0.25,
  }),
  'lora with DoRA and dropout': row(lora, { r: 2, target_modules: 'all-linear', use_dora: true, lora_dropout: 0.1 }),
  'lora on convolutions': row(lora, { r: 2, target_modules: convolutions }, { refuses: needsConvolutions }),
  'lora with DoRA on convolutions': row(lora, { r: 2, target_modules: convolutions, use_dora: true }, {
    refuses: needsConvolutions,
  }),
  'lora with all biases and a module trained whole': row(lora, ({ head }: ModelCase) => ({
    target_modules: 'all-linear', bias: 'all', modules_to_save: [head],
  })),
  'lora of different ranks with its own biases': row(lora, {
    target_modules: '.*(out_proj|dense|fc2)', bias: 'lora_only', rank_pattern: { '.*(fc2|output.dense)': 3 },
    alpha_pattern: { '(out_proj|dense|fc2)': 5 },
  }),
  'clip-lora': row(clipLora, {}, {
    lr: 2e-2,
    refuses: on(/clip|siglip/, /"q_proj" is the end of the path of no linear layer or convolution; there are/),
  }),
  'adapter as Houlsby': row(adapter, {}, plugs),
  'adapter as Pfeiffer': row(adapter, { placement: 'pfeiffer', bottleneck_dim: 5, non_linearity: 'silu' }, plugs),
  'adapter beside, with dropout': row(adapter, { placement: 'parallel', dropout: 0.1 }, plugs),
  'adapter in the image tower': row(adapter, {
    modality: 'vision', reduction_factor: 4, non_linearity: 'tanh', scaling: 0.5,
  }, { merges: false, refuses: needsBlocks('vision') }),
  'adapter in one layer of the text tower': row(adapter, {
    modality: 'text', layers_to_transform: 1, reduction_factor: 4,
  }, { lr: 2e-2, merges: false, refuses: needsSecondLayer('text') }),
  adaptformer: row(adaptFormer, {}, plugs),
  'adaptformer with a LayerNorm in front and a learned factor': row(adaptFormer, {
    adapter_layernorm_option: 'in', adapter_scalar: 'learnable_scalar', ffn_num: 6,
  }, plugs),
  'adaptformer with a LayerNorm behind': row(adaptFormer, { adapter_layernorm_option: 'out', ffn_num: 6 }, plugs),
  bitfit: row(bitFit, {}),
  'bitfit on some biases': row(bitFit, { biases: 'query,mid-mlp' }, {
    lr: 3e-2, refuses: on(/^(?!picto)/, /"query" is the end of the path of no module with a bias; there are/),
  }),
  'bitfit in the image tower': row(bitFit, { modality: 'vision' }),
  'layernorm-tuning': row(layerNormTuning, {}),
  'layernorm-tuning in the text tower': row(layerNormTuning, { modality: 'text' }, {
    lr: 2e-2, refuses: needsTower('text'),
  }),
  'layernorm-tuning in the image tower': row(layerNormTuning, { modality: 'vision' }, {
    refuses: on(/^(?!.*resnet)/, /there is no LayerNorm in what it names/),
  }),
  'full-finetuning': row(fullFineTuning, {}, { lr: 1e-3 }),
  'full-finetuning of one layer': row(fullFineTuning, { layers: [1] }, {
    lr: 1e-3, refuses: needsSecondLayer('text', 'vision'),
  }),
  'full-finetuning of the image tower': row(fullFineTuning, { modality: 'vision' }, { lr: 1e-3 }),
  'prefix-tuning': row(prefixTuning, { num_virtual_tokens: 4 }, { ...plugs, lr: 5e-2 }),
  'prefix-tuning in the image tower': row(prefixTuning, { modality: 'vision', num_virtual_tokens: 4 }, {
    lr: 5e-2, merges: false, refuses: needsBlocks('vision'),
  }),
  'prompt-tuning of pictures': row(promptTuning, { num_virtual_tokens: 4 }, {
    lr: 5e-2, merges: false, refuses: needsBlocks('vision'), startsAsBase: false,
  }),
  'prompt-tuning of pictures in every layer': row(promptTuning, { num_virtual_tokens: 4, deep: true }, {
    lr: 5e-2, merges: false, refuses: needsBlocks('vision'), startsAsBase: false,
  }),
};
