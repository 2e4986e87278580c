/** Reading config.json files of Hugging Face: checks and messages that the models share. */
import { z } from 'zod';
import { type EncoderConfig, activations } from '../nn/transformer.js';
import { type Issue, ScionError, inputError } from '../util/errors.js';

/** A whole number from 1 on. */
export const whole = z.number().int().positive();
const names = Object.keys(activations) as [EncoderConfig['hidden_act'], ...EncoderConfig['hidden_act'][]];
export const activation = z.enum(names);

/** The keys that every transformer encoder has, with the defaults of one kind of model. */
export const encoderFields = (
  width: number, heads: number, defaults: Pick<EncoderConfig, 'hidden_act' | 'layer_norm_eps'>,
) => ({
  hidden_size: whole.default(width),
  intermediate_size: whole.default(4 * width),
  num_hidden_layers: whole.max(1000).default(12),
  num_attention_heads: whole.default(heads),
  hidden_act: activation.default(defaults.hidden_act),
  layer_norm_eps: z.number().positive().default(defaults.layer_norm_eps),
});

const isObject = (x: unknown): x is Record<string, unknown> => typeof x === 'object' && x !== null;

/**
 * Collects all that is wrong with the parts of a config.json.
 * @throws ScionError of kind `input` at once for another `model_type`, and by `done` for every wrong value
 */
export class ConfigReader {
  /** The content; empty where it is no object. */
  readonly json: Readonly<Record<string, unknown>>;
  private readonly issues: Issue[] = [];

  /**
   * @param where the file, for messages
   * @param supported what the model type stands for, for messages
   */
  constructor(json: unknown, private readonly where: string, modelType: string, supported: string) {
    this.json = isObject(json) ? json : {};
    const type = this.json['model_type'];
    if (type === modelType) return;
    const name = type === undefined ? 'has no model_type' : `model_type ${JSON.stringify(type)} is not supported`;
    throw inputError(where, `${name}; ${supported}`);
  }

  /** The whole content, or the part under `prefix`, by a schema. Null stands for the default. */
  read<T extends z.ZodType>(schema: T, input: unknown = this.json, prefix = ''): z.output<T> | undefined {
    const given = isObject(input)
      ? Object.fromEntries(Object.entries(input).filter(([, value]) => value !== null)) : input;
    const result = schema.safeParse(given);
    if (result.success) return result.data;
    for (const { path, message } of result.error.issues) {
      const value = path.reduce<unknown>((v, key) => (v as Record<PropertyKey, unknown>)[key], given);
      const expected = message.replace(/^[^:]*: (expected )?/, '').replace(/, received .*$/, '');
      this.complain([prefix, ...path.map(String)], `is ${JSON.stringify(value)}, expected ${expected}; ${again}`);
    }
    return undefined;
  }

  /** Attention heads must share the width evenly. */
  checkHeads(config: Pick<EncoderConfig, 'hidden_size' | 'num_attention_heads'> | undefined, prefix = ''): void {
    if (!config || config.hidden_size % config.num_attention_heads === 0) return;
    const { hidden_size: width, num_attention_heads: heads } = config;
    this.complain([prefix, 'num_attention_heads'],
      `${heads} does not divide hidden_size ${width}; take both from one model`);
  }

  complain(path: readonly string[], message: string): void {
    this.issues.push({ path: `${this.where}: ${path.filter(Boolean).join('.')}`, message });
  }

  /** @throws ScionError where anything was wrong */
  done(): void {
    if (this.issues.length > 0) throw new ScionError('input', this.issues);
  }
}

/**
 * A config.json of one part.
 * @throws ScionError of kind `input`: another architecture by its name, else every value that is wrong
 */
export function readModelConfig<T extends z.ZodType<Pick<EncoderConfig, 'hidden_size' | 'num_attention_heads'>>>(
  schema: T, json: unknown, where: string, modelType: string, supported: string,
): z.output<T> {
  const reader = new ConfigReader(json, where, modelType, supported);
  const config = reader.read(schema);
  reader.checkHeads(config);
  reader.done();
  return config!;
}

const again = 'correct the file or get it again';
