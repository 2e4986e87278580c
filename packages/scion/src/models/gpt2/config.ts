/** The configuration of GPT-2, as in Hugging Face's GPT2Config. */
import { z } from 'zod';
import { ConfigReader, activation, whole } from '../config.js';

const id = z.number().int().min(0);
const only = (value: boolean, why: string) => z.literal(value, `${value}, since ${why}`).default(value);

const schema = z.object({
  vocab_size: whole.default(50257),
  n_positions: whole.default(1024),
  n_embd: whole.default(768),
  n_layer: whole.max(1000).default(12),
  n_head: whole.default(12),
  n_inner: whole.optional(),
  activation_function: activation.default('gelu_new'),
  layer_norm_epsilon: z.number().positive().default(1e-5),
  initializer_range: z.number().positive().default(0.02),
  bos_token_id: id.default(50256),
  eos_token_id: z.union([id, z.array(id).min(1)], 'expected a token id or a list of them').default(50256),
  pad_token_id: id.optional(),
  tie_word_embeddings: z.boolean().default(true),
  scale_attn_weights: only(true, 'attention is always scaled by 1 / √d here; take a checkpoint that is'),
  scale_attn_by_inverse_layer_idx: only(false, 'scaling by layer is not supported; take a checkpoint without it'),
  reorder_and_upcast_attn: only(false, 'attention is computed in float32 anyway; set it to false'),
  add_cross_attention: only(false, 'GPT-2 is read as a decoder alone; take a checkpoint without cross-attention'),
}).transform((config) => ({ ...config, n_inner: config.n_inner ?? 4 * config.n_embd }));
export type Gpt2Config = z.output<typeof schema>;

/** @throws ScionError of kind `input`: another architecture by its name, else every value that is wrong */
export function parseGpt2Config(json: unknown, where: string): Gpt2Config {
  const reader = new ConfigReader(json, where, 'gpt2', 'supported is "gpt2" (GPT2Model, GPT2LMHeadModel)');
  const config = reader.read(schema);
  if (config && config.n_embd % config.n_head !== 0) {
    reader.complain(['n_head'], `${config.n_head} does not divide n_embd ${config.n_embd}; take both from one model`);
  }
  reader.done();
  return config!;
}
