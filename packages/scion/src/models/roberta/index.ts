/** RoBERTa (Liu et al., 2019, arXiv 1907.11692), by the names of Hugging Face's RobertaModel and its kin. */
import { type BertFamily, bertFields } from '../bert/config.js';
import type { BertEncoder } from '../bert/encoder.js';
import { loadBertEncoder, newBertEncoder } from '../bert/load.js';
import type { Checkpoint } from '../weights.js';

const roberta: BertFamily = {
  modelType: 'roberta',
  supported: 'supported is "roberta" (RobertaModel, RobertaForMaskedLM and other heads)',
  schema: bertFields({ vocab_size: 50265, pad: 1, begin: 0, end: 2 }),
  base: 'roberta',
  head: { path: 'lm_head', dense: 'dense', norm: 'layer_norm' },
  headActivation: () => 'gelu',
  // the rows up to that of padding are never looked up
  firstPosition: ({ pad_token_id }) => pad_token_id + 1,
};

/**
 * The model of a checkpoint, with or without its head; its weights stay in their files.
 * @throws ScionError of kind `input`: wrong values in config.json, or every tensor that does not fit
 */
export const loadRoberta = (checkpoint: Checkpoint): BertEncoder => loadBertEncoder(roberta, checkpoint);

/**
 * A model with its head, to be trained from the beginning, in the layout of RobertaForMaskedLM.
 * @param config the content of a config.json
 * @throws ScionError of kind `input` for a configuration that makes no sense
 */
export const newRoberta = (config: unknown): BertEncoder => newBertEncoder(roberta, config);
