/** The configuration of BART, as in Hugging Face's BartConfig. */
import { z } from 'zod';
import { ConfigReader, activation, whole } from '../config.js';

const id = z.number().int().min(0);
const only = (value: boolean) =>
  z.literal(value, `${value}, as BART has it; models of another arrangement are not supported`).default(value);

const schema = z.object({
  vocab_size: whole.default(50265),
  max_position_embeddings: whole.default(1024),
  d_model: whole.default(1024),
  encoder_layers: whole.max(1000).default(12),
  encoder_attention_heads: whole.default(16),
  encoder_ffn_dim: whole.default(4096),
  decoder_layers: whole.max(1000).default(12),
  decoder_attention_heads: whole.default(16),
  decoder_ffn_dim: whole.default(4096),
  activation_function: activation.default('gelu'),
  init_std: z.number().positive().default(0.02),
  scale_embedding: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(true),
  pad_token_id: id.default(1),
  bos_token_id: id.default(0),
  eos_token_id: z.union([id, z.array(id).min(1)], 'expected a token id or a list of them').default(2),
  decoder_start_token_id: id.default(2),
  // what fairseq and old versions of transformers could arrange otherwise
  normalize_before: only(false),
  add_final_layer_norm: only(false),
  normalize_embedding: only(true),
  static_position_embeddings: only(false),
});
export type BartConfig = z.output<typeof schema>;

/** @throws ScionError of kind `input`: another architecture by its name, else every value that is wrong */
export function parseBartConfig(json: unknown, where: string): BartConfig {
  const reader = new ConfigReader(json, where, 'bart', 'supported is "bart" (BartModel, BartForConditionalGeneration)');
  const config = reader.read(schema);
  for (const key of ['encoder_attention_heads', 'decoder_attention_heads'] as const) {
    if (!config || config.d_model % config[key] === 0) continue;
    reader.complain([key], `${config[key]} does not divide d_model ${config.d_model}; take both from one model`);
  }
  for (const key of ['pad_token_id', 'decoder_start_token_id'] as const) {
    if (!config || config[key] < config.vocab_size) continue;
    reader.complain([key], `${config[key]} is no token of vocab_size ${config.vocab_size}; take both from one model`);
  }
  reader.done();
  return config!;
}
