/** BART (Lewis et al., ACL 2020, arXiv 1910.13461), by the names of Hugging Face's BartModel and its kin. */
import { type Init, frozen, init, trained } from '../../nn/parameter.js';
import { zeros } from '../../util/tensor.js';
import { type Checkpoint, type StoredTensor, fromCheckpoint } from '../weights.js';
import { parseBartConfig } from './config.js';
import { Bart } from './model.js';

export type { BartConfig } from './config.js';
export { Bart } from './model.js';

/** All names of the one table of words, of which checkpoints have some. */
const tables = ['shared.weight', 'encoder.embed_tokens.weight', 'decoder.embed_tokens.weight'];

/**
 * The model of a checkpoint, whose head are the word embeddings unless `tie_word_embeddings` is false; its weights stay
 * in their files.
 * @throws ScionError of kind `input`: wrong values in config.json, or every tensor that does not fit
 */
export function loadBart({ path, config, tensors }: Checkpoint): Bart {
  const full = parseBartConfig(config, `${path}/config.json`);
  const prefix = [...tensors.keys()].some((name) => name.startsWith('model.')) ? 'model.' : '';
  const tied = full.tie_word_embeddings;
  const copies = [...tables.map((name) => `${prefix}${name}`), ...(tied ? ['lm_head.weight'] : [])];
  const named = new Map<string, StoredTensor>([...tensors].filter(([name]) => !copies.includes(name)));
  const words = copies.map((name) => tensors.get(name)).find((stored) => stored);
  if (words) named.set(copies[0]!, words);
  const hasBias = tensors.has('final_logits_bias');
  return fromCheckpoint(named, path, (weights) => new Bart(weights, full, { prefix, hasBias }));
}

/**
 * A model to be trained from the beginning, in the layout of BartForConditionalGeneration, drawn as transformers draws
 * it.
 * @param config the content of a config.json
 * @throws ScionError of kind `input` for a configuration that makes no sense
 */
export function newBart(config: unknown): Bart {
  const full = parseBartConfig(config, 'config');
  const normal = init.normal(full.init_std);
  const words: Init = (shape, random) => {
    const drawn = normal(shape, random);
    drawn.data.fill(0, full.pad_token_id * full.d_model, (full.pad_token_id + 1) * full.d_model);
    return drawn;
  };
  const rules: readonly (readonly [RegExp, Init])[] = [
    [/norm(_embedding)?\.weight$/, init.constant(1)],
    [/bias$/, init.zeros],
    [/shared\.weight$/, words],
    [/./, normal],
  ];
  return new Bart((name, shape) => (name === 'final_logits_bias' ? frozen(zeros('float32', shape))
    : trained(shape, rules.find(([pattern]) => pattern.test(name))![1])), full, { prefix: 'model.', hasBias: true }).named();
}
