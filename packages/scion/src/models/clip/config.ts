/** The configuration of CLIP as in Hugging Face's config.json, with the defaults of transformers' CLIPConfig. */
import { z } from 'zod';
import { ConfigReader, encoderFields, whole } from '../config.js';
import type { ResNetConfig } from './resnet.js';

const shared = { hidden_act: 'quick_gelu', layer_norm_eps: 1e-5 } as const;
const text = z.object({
  ...encoderFields(512, 8, shared),
  vocab_size: whole.default(49408),
  max_position_embeddings: whole.default(77),
  /** The text feature is read at the first of these. 2, an old mistake, stands for the largest id of the text. */
  eos_token_id: z.number().int().nonnegative().default(49407),
});
const vision = z.object({
  ...encoderFields(768, 12, shared),
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
  const reader = new ConfigReader(json, where, 'clip', supported);
  const all = reader.read(clip);
  // older files hold a text_config_dict and a vision_config_dict too, which transformers lets win
  const tower = <T extends z.ZodType>(schema: T, of: string): z.output<T> | undefined =>
    reader.read(schema, reader.json[`${of}_dict`] ?? reader.json[of] ?? {}, of);
  const [text_config, vision_config] = [tower(text, 'text_config'), tower(vision, 'vision_config')];
  reader.checkHeads(text_config, 'text_config');
  reader.checkHeads(vision_config, 'vision_config');
  reader.done();
  return { ...all!, text_config: text_config!, vision_config: vision_config! };
}
