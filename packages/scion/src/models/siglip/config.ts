/** The configuration of SigLIP as in Hugging Face's config.json, with the defaults of transformers' SiglipConfig. */
import { z } from 'zod';
import { ConfigReader, encoderFields, whole } from '../config.js';

const shared = { hidden_act: 'gelu_pytorch_tanh', layer_norm_eps: 1e-6 } as const;
const text = z.object({
  ...encoderFields(768, 12, shared),
  vocab_size: whole.default(32000),
  /** Tokens of every text, since padding is read like any other token. */
  max_position_embeddings: whole.default(64),
  /** Numbers of a feature; hidden_size where absent. */
  projection_size: whole.optional(),
});
const vision = z.object({
  ...encoderFields(768, 12, shared),
  num_channels: whole.default(3),
  image_size: whole.default(224),
  patch_size: whole.default(16),
  vision_use_head: z.literal(true, 'true, since without its pooling head the model gives no feature').default(true),
});

export type SiglipTextConfig = z.output<typeof text> & { projection_size: number };
export type SiglipVisionConfig = z.output<typeof vision>;
export interface SiglipConfig {
  text_config: SiglipTextConfig;
  vision_config: SiglipVisionConfig;
}

const supported = 'supported is "siglip" (SiglipModel: SigLIP, and SigLIP 2 for pictures of one size)';

/**
 * Reads the content of a config.json.
 * @param where the file, for messages
 * @throws ScionError of kind `input`: another architecture by its name, else every value that is wrong
 */
export function parseSiglipConfig(json: unknown, where: string): SiglipConfig {
  const reader = new ConfigReader(json, where, 'siglip', supported);
  const texts = reader.read(text, reader.json['text_config'] ?? {}, 'text_config');
  const images = reader.read(vision, reader.json['vision_config'] ?? {}, 'vision_config');
  reader.checkHeads(texts, 'text_config');
  reader.checkHeads(images, 'vision_config');
  const size = texts?.projection_size ?? texts?.hidden_size;
  if (texts && images && size !== images.hidden_size) {
    reader.complain(['text_config', 'projection_size'],
      `is ${size}, expected ${images.hidden_size} as vision_config.hidden_size; take both from one model`);
  }
  reader.done();
  return { text_config: { ...texts!, projection_size: size! }, vision_config: images! };
}
