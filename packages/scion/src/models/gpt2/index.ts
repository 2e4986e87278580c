/** GPT-2 (Radford et al., 2019), by the names of Hugging Face's GPT2Model and GPT2LMHeadModel. */
import type { Weights } from '../../nn/layers.js';
import { type Init, init, trained } from '../../nn/parameter.js';
import { type Checkpoint, type StoredTensor, fromCheckpoint } from '../weights.js';
import { parseGpt2Config } from './config.js';
import { Gpt2 } from './model.js';

export type { Gpt2Config } from './config.js';
export { Gpt2 } from './model.js';

/** What transformers calls Conv1D: these weights lie in the file as [in, out]. */
const conv1d = /\.(c_attn|c_proj|c_fc)\.weight$/;
/** Causal masks, which older versions saved. */
const buffer = /\.attn\.(bias|masked_bias)$/;

/**
 * The model of a checkpoint, with or without its head, which are the word embeddings unless `tie_word_embeddings` is
 * false; its weights stay in their files.
 * @throws ScionError of kind `input`: wrong values in config.json, or every tensor that does not fit
 */
export function loadGpt2({ path, config, tensors }: Checkpoint): Gpt2 {
  const full = parseGpt2Config(config, `${path}/config.json`);
  const named = new Map<string, StoredTensor>();
  for (const [name, stored] of tensors) {
    if (buffer.test(name) || (full.tie_word_embeddings && name === 'lm_head.weight')) continue;
    named.set(name, conv1d.test(name) && stored.shape.length === 2
      ? { ...stored, shape: [...stored.shape].reverse(), transposed: true } : stored);
  }
  const prefix = [...named.keys()].some((name) => name.startsWith('transformer.')) ? 'transformer.' : '';
  return fromCheckpoint(named, path, (weights) => new Gpt2(weights, full, { prefix }));
}

/**
 * A model to be trained from the beginning, in the layout of GPT2LMHeadModel, drawn as transformers draws it.
 * @param config the content of a config.json
 * @param weights other first values
 * @throws ScionError of kind `input` for a configuration that makes no sense
 */
export function newGpt2(config: unknown, weights?: Weights): Gpt2 {
  const full = parseGpt2Config(config, 'config');
  const { initializer_range: deviation, n_layer: layers } = full;
  const rules: readonly (readonly [RegExp, Init])[] = [
    [/bias$/, init.zeros],
    [/\.ln_\w+\.weight$/, init.constant(1)],
    // the paths of the residual sum add up, 2 in each layer
    [/\.c_proj\.weight$/, init.normal(deviation / Math.sqrt(2 * layers))],
    [/./, init.normal(deviation)],
  ];
  const drawn: Weights = (name, shape) => trained(shape, rules.find(([pattern]) => pattern.test(name))![1]);
  return new Gpt2(weights ?? drawn, full, { prefix: 'transformer.' }).named();
}
