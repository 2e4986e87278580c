/** The configurations of BERT and of its relatives, which differ in some defaults. */
import { z } from 'zod';
import { ConfigReader, encoderFields, whole } from '../config.js';

const id = z.number().int().min(0);
const encoderOnly = (key: string) =>
  z.literal(false, `false, since Scion reads this architecture as an encoder; take a checkpoint without ${key}`)
    .default(false);

/** The keys of transformers' BertConfig, with its defaults but for those of the relative. */
export const bertFields = (defaults: { vocab_size: number; pad: number; begin?: number; end?: number }) => z.object({
  ...encoderFields(768, 12, { hidden_act: 'gelu', layer_norm_eps: 1e-12 }),
  vocab_size: whole.default(defaults.vocab_size),
  max_position_embeddings: whole.default(512),
  type_vocab_size: whole.default(2),
  initializer_range: z.number().positive().default(0.02),
  pad_token_id: id.default(defaults.pad),
  bos_token_id: id.optional().transform((given) => given ?? defaults.begin),
  eos_token_id: z.union([id, z.array(id).min(1)], 'expected a token id or a list of them').optional()
    .transform((given) => given ?? defaults.end),
  tie_word_embeddings: z.boolean().default(true),
  position_embedding_type: z.literal('absolute',
    '"absolute", since relative positions are not supported; take a checkpoint with absolute ones').default('absolute'),
  is_decoder: encoderOnly('is_decoder'),
  add_cross_attention: encoderOnly('add_cross_attention'),
});
export type BertConfig = z.output<ReturnType<typeof bertFields>>;

/** What a relative of BERT has of its own. */
export interface BertFamily {
  /** As config.json names it. */
  readonly modelType: string;
  /** What the model type stands for, for messages. */
  readonly supported: string;
  readonly schema: ReturnType<typeof bertFields>;
  /** What parameters of the encoder are called below, where there is a head beside it. */
  readonly base: string;
  /** The names of the head of masked-language modelling. */
  readonly head: { readonly path: string; readonly dense: string; readonly norm: string };
  /** What is between `dense` and `norm` of the head. */
  headActivation(config: BertConfig): BertConfig['hidden_act'];
  /** The row of the position table that the first token gets. */
  firstPosition(config: BertConfig): number;
}

/** @throws ScionError of kind `input`: another architecture by its name, else every value that is wrong */
export function parseBertConfig(family: BertFamily, json: unknown, where: string): BertConfig {
  const reader = new ConfigReader(json, where, family.modelType, family.supported);
  const config = reader.read(family.schema);
  reader.checkHeads(config);
  if (config) {
    const { pad_token_id: pad, vocab_size: words, max_position_embeddings: rows } = config;
    if (pad >= words) reader.complain(['pad_token_id'], `${pad} is no token of vocab_size ${words}; take both from one model`);
    const first = family.firstPosition(config);
    if (rows <= first) {
      reader.complain(['max_position_embeddings'],
        `is ${rows}, expected more than ${first}, since positions begin at row ${first}; take the config of one model`);
    }
  }
  reader.done();
  return config!;
}
