/** The configuration of PictoCLIP: `model_type` "picto_clip" in config.json. */
import { z } from 'zod';
import { inputError } from '../../util/errors.js';

const whole = z.number().int().positive();

const schema = z.object({
  model_type: z.literal('picto_clip'),
  projection_dim: whole,
  /** Natural logarithm of the factor on the cosines, before training. */
  logit_scale_init_value: z.number(),
  text_config: z.object({
    vocab_size: whole,
    hidden_size: whole,
    intermediate_size: whole,
    /** Most tokens of a text, the end token included. */
    max_position_embeddings: whole,
    eos_token_id: z.number().int().nonnegative(),
    layer_norm_eps: z.number().positive(),
  }),
  vision_config: z.object({
    image_size: whole.refine((n) => n % 4 === 0, 'expected a multiple of 4'),
    num_channels: whole,
    /** Channels behind the first of the two convolutions that each halve the picture. */
    stem_size: whole,
    /** Channels of each stage; from one stage to the next the picture is halved. */
    hidden_sizes: z.array(whole).min(1),
    /** Residual blocks of each stage. */
    depths: z.array(whole).min(1),
    layer_norm_eps: z.number().positive(),
  }).refine((v) => v.hidden_sizes.length === v.depths.length, 'expected as many depths as hidden_sizes')
    .refine((v) => v.image_size % (4 * 2 ** (v.depths.length - 1)) === 0, 'expected an image_size that the stages can halve'),
});

export type PictoConfig = z.output<typeof schema>;
export type PictoTextConfig = PictoConfig['text_config'];
export type PictoVisionConfig = PictoConfig['vision_config'];

/**
 * Reads the content of a config.json.
 * @param where the file, for messages
 * @throws ScionError of kind `input` that names the first wrong value
 */
export function parsePictoConfig(json: unknown, where: string): PictoConfig {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const [problem] = result.error.issues;
  throw inputError(`${where}: ${problem!.path.join('.') || 'content'}`, `${problem!.message}; get the file again`);
}
