/** BERT (Devlin et al., NAACL 2019, arXiv 1810.04805), by the names of Hugging Face's BertModel and its kin. */
import type { Checkpoint } from '../weights.js';
import { type BertFamily, bertFields } from './config.js';
import type { BertEncoder } from './encoder.js';
import { loadBertEncoder, newBertEncoder } from './load.js';

export type { BertConfig } from './config.js';
export { BertEncoder } from './encoder.js';

const bert: BertFamily = {
  modelType: 'bert',
  supported: 'supported is "bert" (BertModel, BertForMaskedLM, BertForPreTraining and other heads)',
  schema: bertFields({ vocab_size: 30522, pad: 0 }),
  base: 'bert',
  head: { path: 'cls.predictions', dense: 'transform.dense', norm: 'transform.LayerNorm' },
  headActivation: ({ hidden_act }) => hidden_act,
  firstPosition: () => 0,
};

/**
 * The model of a checkpoint, with or without its head; its weights stay in their files.
 * @throws ScionError of kind `input`: wrong values in config.json, or every tensor that does not fit
 */
export const loadBert = (checkpoint: Checkpoint): BertEncoder => loadBertEncoder(bert, checkpoint);

/**
 * A model with its head, to be trained from the beginning, in the layout of BertForMaskedLM.
 * @param config the content of a config.json
 * @throws ScionError of kind `input` for a configuration that makes no sense
 */
export const newBert = (config: unknown): BertEncoder => newBertEncoder(bert, config);
