/** What methods of the backbone refuse, and that they say what there is instead. */
import { expect, test } from 'vitest';
import { ScionError } from '../util/errors.js';
import { adapter } from './adapter/index.js';
import { adaptFormer } from './adaptformer/index.js';
import type { BackboneMethod } from './backbone-method.js';
import { bitFit } from './bitfit/index.js';
import { fullFineTuning } from './full-finetuning/index.js';
import { layerNormTuning } from './layernorm-tuning/index.js';
import { lora } from './lora/index.js';
import { modelCase } from './testing/models.js';
import { attach } from './testing/trial.js';

const others = 'a method that needs none: lora, bitfit, layernorm-tuning, full-finetuning';
const noBlocks = 'has no transformer layers, which are what this method adapts; use';
const noModule = 'is the end of the path of no linear layer or convolution; there are';

const refused: readonly [model: string, method: BackboneMethod, config: object, message: string][] = [
  ['clip/quick-gelu', lora, { target_modules: ['q_proj', 'v_prj', 'up_proj'] },
    `config.target_modules: "v_prj" ${noModule} v_proj, `],
  ['clip/quick-gelu', lora, { target_modules: 'q_proj,fc3' }, `"fc3" ${noModule} fc1, fc2, `],
  ['vit/model', lora, { target_modules: '(?:[a-z0-9_.]+)+X' }, 'could keep the matching busy without end'],
  ['vit/model', lora, { target_modules: ['query'], rank_pattern: { '(': 3 } }, 'config.rank_pattern: "(" is no regular expression'],
  ['vit/model', lora, { target_modules: ['query'], alpha_pattern: { key: 3 } },
    'config.alpha_pattern: "key" matches no target module; there are query'],
  ['vit/model', lora, { target_modules: 'attention.qery' }, 'there are attention.query, '],
  ['clip/quick-gelu', lora, { target_modules: '.*(q|v)_prj' },
    '".*(q|v)_prj" matches the whole path of no linear layer or convolution; paths are like'],
  ['clip/quick-gelu', lora, { target_modules: '(q_proj' }, '"(q_proj" is no regular expression'],
  ['clip/quick-gelu', lora, { layers_to_transform: [1, 2] },
    'config.layers_to_transform: 2: no target module lies in such a layer; there are 0, 1'],
  ['clip/quick-gelu', lora, { target_modules: 'visual_projection', layers_to_transform: 0 },
    'what is adapted lies in no numbered layers'],
  ['clip/quick-gelu', lora, { modules_to_save: ['visual_projektion'] },
    'is the end of no module\'s path; there are visual_projection'],
  ['clip/quick-gelu', lora, { target_modules: 'q_proj', modules_to_save: ['q_proj'] }, 'none is left for LoRA'],
  ['clip/quick-gelu', lora, { init_lora_weights: false }, 'random B and A would change the model before training'],
  ['clip/quick-gelu', adapter, { reduction_factor: 2, bottleneck_dim: 8 },
    'config.bottleneck_dim: 8: reduction_factor 2 says the width of the bottleneck too; give one of them'],
  ['clip/quick-gelu', adapter, { layers_to_transform: [0, 7] },
    '7: no transformer layer has this number; there are 0, 1'],
  ['picto', adapter, {},
    `config.modality: both: no tower of this model ${noBlocks.replace('no ', '')} ${others}`],
  ['picto', adaptFormer, { modality: 'text' },
    `config.modality: text: the text tower of this model ${noBlocks} ${others}`],
  ['clip/openai-resnet', adapter, { modality: 'vision' },
    `vision: the image tower of this model ${noBlocks} modality text, or ${others}`],
  ['vit/model', adapter, { modality: 'text' }, 'config.modality: text: this model has no text tower; use both'],
  ['vit/model', bitFit, { modality: 'text' }, 'this model has no text tower; use both'],
  ['clip/quick-gelu', bitFit, { biases: 'query,mid-mpl,fc2' },
    'config.biases: "mid-mpl" is the end of the path of no module with a bias; there are mid-mlp'],
  ['clip/openai-resnet', layerNormTuning, { modality: 'vision' }, 'there is no LayerNorm in what it names'],
  ['picto', fullFineTuning, { layers: 0 }, 'no tower of this model has transformer layers'],
  ['clip/quick-gelu', fullFineTuning, { layers: [5] },
    'config.layers: 5: no transformer layer has this number; there are 0, 1'],
];

test.each(refused.map((row): [string, (typeof refused)[number]] =>
  [`${row[1].name} on ${row[0]} with ${JSON.stringify(row[2])}`, row]))('%s', async (_, row) => {
  const [model, method, config, message] = row;
  const failure = await attach(modelCase(model), method, config).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(ScionError);
  expect((failure as ScionError).exitCode).toBe(2);
  expect((failure as ScionError).message).toContain(message);
});

test('a tower without transformer layers is left as it is where the other has some', async () => {
  const { trained } = await attach(modelCase('clip/openai-resnet'), adapter, { placement: 'pfeiffer' });
  expect(trained.length).toBe(8);
  const places = /^text_model\.encoder\.layers\.\d\.feed_forward_output\.(down|up)_proj\./;
  expect(trained.filter((name) => !places.test(name))).toEqual([]);
});

test('what is trained whole beside LoRA gets no update, and statistics are never trained', async () => {
  const { trained } = await attach(modelCase('clip/openai-resnet'), lora, {
    target_modules: 'q_proj,v_proj', modules_to_save: ['visual'], bias: 'lora_only',
  });
  expect(trained.filter((name) => name.startsWith('visual.') && name.includes('lora_'))).toEqual([]);
  expect(trained).toContain('visual.attnpool.q_proj.weight');
  expect(trained).toContain('visual.bn1.weight');
  expect(trained).toContain('text_model.encoder.layers.0.self_attn.q_proj.base_layer.bias');
  expect(trained.filter((name) => name.includes('running_'))).toEqual([]);
});

test('BitFit takes the packed biases of SigLIP\'s pooling, and not the bias on its logits', async () => {
  const { trained } = await attach(modelCase('siglip/sentencepiece'), bitFit, {});
  expect(trained).toContain('vision_model.head.attention.in_proj_bias');
  expect(trained).not.toContain('logit_bias');
  const some = await attach(modelCase('siglip/sentencepiece'), bitFit, { biases: 'query,mid-mlp', modality: 'text' });
  expect(some.trained.map((name) => name.replace(/^.*layers\./, ''))).toEqual([
    '0.self_attn.q_proj.bias', '0.mlp.fc1.bias', '1.self_attn.q_proj.bias', '1.mlp.fc1.bias',
  ]);
});
