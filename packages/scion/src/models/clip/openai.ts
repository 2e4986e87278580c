/** OpenAI's own state dicts, brought to the names of the module tree. They hold no configuration: shapes tell it. */
import { inputError } from '../../util/errors.js';
import type { StoredTensor, TensorSource } from '../weights.js';
import type { ClipConfig } from './config.js';

/** OpenAI's names → Hugging Face's, applied one after the other. `visual.` of a ResNet stays as it is. */
const text: readonly (readonly [RegExp, string])[] = [
  [/^token_embedding\./, 'text_model.embeddings.token_embedding.'],
  [/^positional_embedding$/, 'text_model.embeddings.position_embedding.weight'],
  [/^ln_final\./, 'text_model.final_layer_norm.'],
  [/^transformer\.resblocks\./, 'text_model.encoder.layers.'],
  [/^text_projection$/, 'text_projection.weight'],
];
const vision: typeof text = [
  [/^visual\.class_embedding$/, 'vision_model.embeddings.class_embedding'],
  [/^visual\.positional_embedding$/, 'vision_model.embeddings.position_embedding.weight'],
  [/^visual\.conv1\./, 'vision_model.embeddings.patch_embedding.'],
  [/^visual\.ln_pre\./, 'vision_model.pre_layrnorm.'],
  [/^visual\.ln_post\./, 'vision_model.post_layernorm.'],
  [/^visual\.transformer\.resblocks\./, 'vision_model.encoder.layers.'],
  [/^visual\.proj$/, 'visual_projection.weight'],
];
const inLayer: typeof text = [
  [/^(.*\.layers\.\d+)\.ln_([12])\./, '$1.layer_norm$2.'],
  [/^(.*\.layers\.\d+)\.attn\./, '$1.self_attn.'],
  [/^(.*\.layers\.\d+)\.mlp\.c_fc\./, '$1.mlp.fc1.'],
  [/^(.*\.layers\.\d+)\.mlp\.c_proj\./, '$1.mlp.fc2.'],
];
/** Matrices that are multiplied from the right: x P. */
const transposed = /^(text_projection|visual\.proj)$/;
const packed = /\.in_proj_(weight|bias)$/;

export function isOpenAi(tensors: TensorSource): boolean {
  return tensors.has('visual.conv1.weight') && tensors.has('token_embedding.weight');
}

/**
 * @param where the checkpoint, for messages
 * @throws ScionError of kind `input` that names a tensor without which the sizes cannot be told
 */
export function fromOpenAi(tensors: TensorSource, where: string): { config: ClipConfig; tensors: TensorSource } {
  const isTransformer = tensors.has('visual.proj');
  const rules = [...text, ...(isTransformer ? vision : []), ...inLayer];
  const renamed = new Map<string, StoredTensor>();
  for (const [name, stored] of tensors) {
    const to = rules.reduce((n, [pattern, replacement]) => n.replace(pattern, replacement), name);
    if (packed.test(to)) {
      thirds(stored).forEach((part, i) => renamed.set(to.replace(packed, `.${'qkv'[i]}_proj.$1`), part));
    } else {
      renamed.set(to, transposed.test(name)
        ? { ...stored, shape: [...stored.shape].reverse(), transposed: true } : stored);
    }
  }
  return { config: configOf(tensors, where, isTransformer), tensors: renamed };
}

/** The rows of queries, keys and values lie one after the other. */
function thirds(stored: StoredTensor): StoredTensor[] {
  const [rows = 0, ...rest] = stored.shape;
  const byteLength = stored.byteLength / 3;
  return [0, 1, 2].map((i) => ({
    ...stored, shape: [rows / 3, ...rest], offset: stored.offset + i * byteLength, byteLength,
  }));
}

function configOf(tensors: TensorSource, where: string, isTransformer: boolean): ClipConfig {
  const size = (name: string, axis: number): number => {
    const found = tensors.get(name)?.shape[axis];
    if (found === undefined) throw inputError(where, `has no tensor ${name} as OpenAI's models have; get it again`);
    return found;
  };
  /** How many different numbers stand behind a prefix. */
  const count = (prefix: string): number => new Set([...tensors.keys()].filter((n) => n.startsWith(prefix))
    .map((n) => n.slice(prefix.length).split('.')[0])).size;
  const encoder = (width: number, blocks: string) => ({
    hidden_size: width, intermediate_size: size(`${blocks}0.mlp.c_fc.weight`, 0), num_hidden_layers: count(blocks),
    num_attention_heads: Math.max(1, Math.floor(width / 64)), hidden_act: 'quick_gelu', layer_norm_eps: 1e-5,
  } as const);
  const patches = (name: string): number => Math.round(Math.sqrt(size(name, 0) - 1));
  const width = size('visual.conv1.weight', 0);
  const patch_size = size('visual.conv1.weight', 3);
  return {
    text_config: {
      ...encoder(size('ln_final.weight', 0), 'transformer.resblocks.'),
      vocab_size: size('token_embedding.weight', 0), max_position_embeddings: size('positional_embedding', 0),
      eos_token_id: 2, // the largest id, as OpenAI's code reads it
    },
    vision_config: isTransformer
      ? {
        ...encoder(width, 'visual.transformer.resblocks.'), num_channels: 3, patch_size,
        image_size: patch_size * patches('visual.positional_embedding'),
      }
      : {
        layers: [count('visual.layer1.'), count('visual.layer2.'), count('visual.layer3.'), count('visual.layer4.')],
        width: 2 * width, num_attention_heads: width, // the last stage is 64 · width wide, a head 64
        image_size: 32 * patches('visual.attnpool.positional_embedding'),
      },
    projection_dim: size('text_projection', 1),
    logit_scale_init_value: 2.6592,
  };
}
