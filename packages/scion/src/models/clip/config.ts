/** The configuration of CLIP as in Hugging Face's config.json, with the defaults of transformers' CLIPConfig. */
import { z } from 'zod';
import { type EncoderConfig, activations } from '../../nn/transformer.js';
import { type Issue, ScionError, inputError } from '../../util/errors.js';
import type { ResNetConfig } from './resnet.js';

const whole = z.number().int().positive();
const names = Object.keys(activations) as [EncoderConfig['hidden_act'], ...EncoderConfig['hidden_act'][]];

const encoder = (width: number, heads: number) => ({
  hidden_size: whole.default(width),
  intermediate_size: whole.default(4 * width),
  num_hidden_layers: whole.default(12),
  num_attention_heads: whole.default(heads),
  hidden_act: z.enum(names).default('quick_gelu'),
  layer_norm_eps: z.number().positive().default(1e-5),
});

const text = z.object({
  ...encoder(512, 8),
  vocab_size: whole.default(49408),
  max_position_embeddings: whole.default(77),
  /** The text feature is read at the first of these. 2, an old mistake, stands for the largest id of the text. */
  eos_token_id: z.number().int().nonnegative().default(49407),
});

const vision = z.object({
  ...encoder(768, 12),
  num_channels: whole.default(3),
  image_size: whole.default(224),
  patch_size: whole.default(32),
});

const clip = z.object({
  projection_dim: whole.default(512),
  logit_scale_init_value: z.number().default(2.6592),
});

export type ClipTextConfig = z.output<typeof text>;
export type ClipVisionConfig = z.output<typeof vision>;

export interface ClipConfig {
  text_config: ClipTextConfig;
  vision_config: ClipVisionConfig | ResNetConfig;
  projection_dim: number;
  /** Natural logarithm of the factor on the cosines, before training. */
  logit_scale_init_value: number;
}

export function isResNet(config: ClipConfig['vision_config']): config is ResNetConfig {
  return 'layers' in config;
}

const supported = 'supported is "clip" (CLIPModel: vision transformer and text transformer), and OpenAI\'s own '
  + 'checkpoints, ResNets among them, without a config.json';

/**
 * Reads the content of a config.json.
 * @param where the file, for messages
 * @throws ScionError of kind `input`: another architecture by its name, else every value that is wrong
 */
export function parseClipConfig(json: unknown, where: string): ClipConfig {
  const given = isObject(json) ? json : {};
  const type = given['model_type'];
  if (type !== 'clip') {
    const name = type === undefined ? 'has no model_type' : `model_type ${JSON.stringify(type)} is not supported`;
    throw inputError(where, `${name}; ${supported}`);
  }
  const issues: Issue[] = [];
  const all = parse(clip, given, where, '', issues);
  // older files hold a text_config_dict and a vision_config_dict too, which transformers lets win
  const tower = <T extends z.ZodType>(schema: T, of: string): z.output<T> | undefined =>
    parse(schema, given[`${of}_dict`] ?? given[of] ?? {}, where, of, issues);
  const [text_config, vision_config] = [tower(text, 'text_config'), tower(vision, 'vision_config')];
  for (const [of, { hidden_size: width, num_attention_heads: heads }] of [
    ...(text_config ? [['text_config', text_config] as const] : []),
    ...(vision_config ? [['vision_config', vision_config] as const] : []),
  ]) {
    if (width % heads !== 0) {
      issues.push({
        path: `${where}: ${of}.num_attention_heads`,
        message: `${heads} does not divide hidden_size ${width}; take both from one model`,
      });
    }
  }
  if (issues.length > 0) throw new ScionError('input', issues);
  const { projection_dim, logit_scale_init_value } = all!;
  return { text_config: text_config!, vision_config: vision_config!, projection_dim, logit_scale_init_value };
}

const isObject = (x: unknown): x is Record<string, unknown> => typeof x === 'object' && x !== null;

function parse<T extends z.ZodType>(
  schema: T, input: unknown, where: string, prefix: string, issues: Issue[],
): z.output<T> | undefined {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  for (const { path, message } of result.error.issues) {
    const value = path.reduce<unknown>((v, key) => (v as Record<PropertyKey, unknown>)[key], input);
    const expected = message.replace(/^[^:]*: (expected )?/, '').replace(/, received .*$/, '');
    issues.push({
      path: `${where}: ${[prefix, ...path.map(String)].filter(Boolean).join('.')}`,
      message: `is ${JSON.stringify(value)}, expected ${expected}; correct the file or get it again`,
    });
  }
  return undefined;
}
