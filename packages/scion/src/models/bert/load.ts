/** From a checkpoint of BERT or a relative to its encoder, or a new one. */
import { type Init, init, trained } from '../../nn/parameter.js';
import { type Checkpoint, type StoredTensor, type TensorSource, fromCheckpoint } from '../weights.js';
import { type BertConfig, type BertFamily, parseBertConfig } from './config.js';
import { BertEncoder } from './encoder.js';

/**
 * The encoder of a checkpoint, with its head of masked-language modelling where there is one; its weights stay in their
 * files. The pooler and heads of other tasks are not read.
 * @throws ScionError of kind `input`: wrong values in config.json, or every tensor that does not fit
 */
export function loadBertEncoder(family: BertFamily, { path, config, tensors }: Checkpoint): BertEncoder {
  const full = parseBertConfig(family, config, `${path}/config.json`);
  const named = rename(family, full, tensors);
  const prefixed = [...named.keys()].some((name) => name.startsWith(`${family.base}.`));
  const hasHead = named.has(`${family.head.path}.${family.head.dense}.weight`);
  return fromCheckpoint(named, path, (weights) => new BertEncoder(weights, family, full, { prefixed, hasHead }));
}

/**
 * The tensors by the names that the model has: without those of TensorFlow (`LayerNorm.gamma`), and the decoder of the
 * head once, though checkpoints have copies of it, or one of two names of its bias.
 */
function rename(family: BertFamily, { tie_word_embeddings: tied }: BertConfig, tensors: TensorSource): TensorSource {
  const { path } = family.head;
  const [kept, other] = tied ? ['bias', 'decoder.bias'] : ['decoder.bias', 'bias'];
  const found = new Map<string, StoredTensor>();
  for (const [name, tensor] of tensors) {
    if (name.startsWith('cls.seq_relationship.') || (tied && name === `${path}.decoder.weight`)) continue;
    if (name === `${path}.${other}`) {
      if (!tensors.has(`${path}.${kept}`)) found.set(`${path}.${kept}`, tensor);
      continue;
    }
    found.set(name.replace(/LayerNorm\.gamma$/, 'LayerNorm.weight').replace(/LayerNorm\.beta$/, 'LayerNorm.bias'), tensor);
  }
  return found;
}

/**
 * A model with its head of masked-language modelling, to be trained from the beginning; drawn as transformers draws it.
 * @throws ScionError of kind `input` for a configuration that makes no sense
 */
export function newBertEncoder(family: BertFamily, config: unknown): BertEncoder {
  const full = parseBertConfig(family, config, 'config');
  const normal = init.normal(full.initializer_range);
  const words: Init = (shape, random) => {
    const drawn = normal(shape, random);
    drawn.data.fill(0, full.pad_token_id * full.hidden_size, (full.pad_token_id + 1) * full.hidden_size);
    return drawn;
  };
  const rules: readonly (readonly [RegExp, Init])[] = [
    [/(LayerNorm|layer_norm)\.weight$/, init.constant(1)],
    [/bias$/, init.zeros],
    [/word_embeddings\.weight$/, words],
    [/./, normal],
  ];
  return new BertEncoder(
    (name, shape) => trained(shape, rules.find(([pattern]) => pattern.test(name))![1]),
    family, full, { prefixed: true, hasHead: true },
  ).named();
}
