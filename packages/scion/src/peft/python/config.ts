/** adapter_config.json of Python's PEFT, and the settings of Scion's LoRA: the same names, but for what PEFT has more. */
import { z } from 'zod';
import { brief, isObject } from '../../formats/json.js';
import { type Issue, ScionError, inputError } from '../../util/errors.js';
import { type LoraConfig, loraConfig, peftOptions } from '../lora/index.js';

/** Options of PEFT that change nothing once the values are there. */
const withoutEffect = new Set([
  'peft_type', 'peft_version', 'task_type', 'auto_mapping', 'base_model_name_or_path', 'revision', 'inference_mode',
  'runtime_config', 'megatron_core', 'qalora_group_size', 'eva_config', 'ensure_weight_tying',
  'fan_in_fan_out', // how the layer below is stored; PEFT itself corrects it by the kind of that layer
]);
/** First values that leave the model's own weights as they are, so that they do not matter afterwards. */
const harmlessInit: readonly unknown[] = [true, false, 'gaussian', 'eva', 'orthogonal'];

export interface PeftConfig {
  config: LoraConfig;
  /** `base_model_name_or_path`: a name or folder of whoever trained the adapter; never opened. */
  baseModel?: string;
}

/**
 * @param json the content of adapter_config.json
 * @param where the file, for messages
 * @throws ScionError of kind `input`: another method by its name, else every option that Scion does not have and that
 *   is set to something, and every wrong value
 */
export function parsePeftConfig(json: unknown, where: string): PeftConfig {
  if (!isObject(json)) throw inputError(where, `is ${brief(json)}, expected an object; get the file again`);
  const { peft_type: type, base_model_name_or_path: base } = json;
  if (type !== 'LORA') {
    throw inputError(`${where}: peft_type`, type === undefined
      ? 'is missing; is this PEFT\'s adapter_config.json? supported is "LORA"'
      : `${brief(type)} is not supported; supported is "LORA" (plain, DoRA, rank-stabilised)`);
  }
  const issues: Issue[] = [];
  const complain = (option: string, message: string): void => {
    issues.push({ path: `${where}: ${option}`, message });
  };
  const taken: Record<string, unknown> = {};
  for (const [option, value] of Object.entries(json)) {
    if (withoutEffect.has(option)) continue;
    if (Object.hasOwn(peftOptions.shape, option)) {
      if (value !== null) taken[option] = value;
    } else if (isSet(value)) {
      complain(option, `${brief(value)}: Scion does not have this option; train the adapter without it`);
    }
  }
  taken['init_lora_weights'] = firstValues(taken['init_lora_weights'] ?? true, complain);
  for (const key of ['layers_to_transform', 'exclude_modules']) {
    if (Array.isArray(taken[key]) && taken[key].length === 0) delete taken[key]; // to PEFT the same as none given
  }
  for (const key of ['target_modules', 'exclude_modules']) taken[key] = asExpression(taken[key]);
  if (taken['target_modules'] === undefined) complain('target_modules', 'is missing, expected a list or a text');
  const result = loraConfig.safeParse(taken);
  for (const issue of result.error?.issues ?? []) complain(issue.path.join('.'), describe(issue, taken));
  if (issues.length > 0) throw new ScionError('input', issues);
  return { config: result.data!, ...(typeof base === 'string' && base !== '' ? { baseModel: base } : {}) };
}

/** Whether an option says anything: PEFT writes all of them, with null, false or nothing in it. */
function isSet(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (isObject(value)) return Object.keys(value).length > 0;
  return value !== null && value !== undefined && value !== false && value !== '';
}

function firstValues(init: unknown, complain: (option: string, message: string) => void): unknown {
  if (!harmlessInit.includes(init)) {
    complain('init_lora_weights', `${brief(init)} changes the weights of the model below; save the adapter in Python `
      + 'with save_pretrained(…, path_initial_model_for_weight_conversion=…), which makes plain LoRA of it');
  }
  return init === 'gaussian' ? init : true;
}

/** A text is an expression on whole paths to PEFT, even where it is one word; Scion takes a word as an end of paths. */
function asExpression(value: unknown): unknown {
  if (typeof value === 'string' && value.toLowerCase() === 'all-linear') return 'all-linear';
  return typeof value === 'string' && /^[\w.,-]+$/.test(value) ? `(?:${value})` : value;
}

function describe({ path, message }: z.core.$ZodIssue, input: unknown): string {
  const value = path.reduce<unknown>((v, key) => (v as Record<PropertyKey, unknown> | undefined)?.[key], input);
  return `is ${brief(value)}; ${message.replace(/^Invalid input: /, '')}; correct the file or get it again`;
}

/** Leaves out what PEFT does not have. */
const onlyPeft = z.object(peftOptions.shape);

/**
 * The content of adapter_config.json that makes PEFT adapt the same modules.
 * @param paths the modules that have been adapted
 */
export function peftConfig(config: LoraConfig, paths: readonly string[], baseModel?: string): Record<string, unknown> {
  const { target_modules: targets, layers_to_transform: layers, exclude_modules: left, ...rest } = onlyPeft.parse(config);
  // what an expression or all-linear means is decided here: expressions differ between the languages
  const listed = typeof targets !== 'string';
  return {
    peft_type: 'LORA', task_type: null, base_model_name_or_path: baseModel ?? null, revision: null, inference_mode: true,
    fan_in_fan_out: false, ...rest,
    target_modules: listed ? targets : paths,
    layers_to_transform: (listed ? layers : undefined) ?? null,
    exclude_modules: (listed ? left : undefined) ?? null,
    modules_to_save: config.modules_to_save.length > 0 ? config.modules_to_save : null,
  };
}
