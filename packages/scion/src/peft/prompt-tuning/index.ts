/**
 * Prompt tuning: learned tokens in front of or behind those of the input. For pictures this is visual prompt tuning
 * (VPT; Jia et al., ECCV 2022, arXiv 2203.12119), for texts Lester et al. (EMNLP 2021, arXiv 2104.08691).
 */
import { z } from 'zod';
import type { Module } from '../../nn/module.js';
import { type Init, init } from '../../nn/parameter.js';
import { PatchEmbedding } from '../../nn/patches.js';
import type { AttachContext, Attached, BackboneMethod } from '../backbone-method.js';
import { TextLayout, wordsFor } from '../text-layout.js';
import { findBlocks, modality } from '../towers.js';
import { VirtualTokens, tokenEmbedding, virtualId } from '../virtual-tokens.js';
import { PromptTokens } from './layer.js';

export const promptTuningConfig = z.strictObject({
  modality: modality.unwrap().default('vision').describe('the tower that gets learned tokens: vision, text or both'),
  num_virtual_tokens: z.number().int().min(1).max(4096).default(10).describe('learned tokens of a tower, or of each layer'),
  deep: z.boolean().default(false).describe('each layer has its own learned tokens, which replace those before'),
});
export type PromptTuningConfig = z.output<typeof promptTuningConfig>;

/** Uniform within √(6 / (numbers of a patch + width)), as the published code of VPT. */
function patchwise(model: Module, width: number): Init {
  const patches = [...model.modules()].map(([, module]) => module).find((m) => m instanceof PatchEmbedding);
  const [, ...patch] = patches?.weight.shape ?? [];
  return init.uniform(Math.sqrt(6 / (patch.reduce((a, b) => a * b, 1) + width)));
}

/** Puts tokens behind the patches, where no position is added to them and no pooling reads them. */
function promptPictures(model: Module, { num_virtual_tokens: count, deep }: PromptTuningConfig): void {
  for (const [, block] of findBlocks(model, 'vision')) {
    const { layer, width } = block.kind;
    if (layer > 0 && !deep) continue;
    block.plug('tokens', new PromptTokens(count, width, patchwise(model, width), { replaces: layer > 0 }));
  }
}

/** Puts tokens behind the begin mark of every text. */
function promptTexts(model: Module, { num_virtual_tokens: count, deep }: PromptTuningConfig, context: AttachContext): Attached {
  const normal = init.normal(0.02);
  const [path, table] = tokenEmbedding(model, 'prompt-tuning');
  const words = wordsFor('prompt-tuning', context);
  const layout = new TextLayout(words);
  const learned = Array.from({ length: count }, (_, j) => virtualId(j));
  const promptIds = layout.assemble(words.prompts.map((texts) => layout.contents(texts).map((ids) => [...learned, ...ids])));
  for (const [, block] of deep ? findBlocks(model, 'text') : []) {
    if (block.kind.layer === 0) continue; // reads the tokens from the table
    block.plug('tokens', new PromptTokens(count, block.kind.width, normal, { start: layout.begin.length, replaces: true }));
  }
  model.replace(path, () => new VirtualTokens(table, count, normal));
  return { promptIds };
}

function attachPrompts(model: Module, config: PromptTuningConfig, context: AttachContext): Attached {
  if (config.modality !== 'text') promptPictures(model, config);
  const attached = config.modality === 'vision' ? {} : promptTexts(model, config, context);
  model.named();
  return attached;
}

/**
 * Training as published for VPT, but the rate: VPT searches it for each task, and its losses have no scale of 100 on
 * cosines. 2.5e-3 is that of Khattak et al. (MaPLe, CVPR 2023) for prompts in CLIP. With CLIP the tokens come behind the
 * norm in front of the first layer, which in MaPLe's code they pass.
 */
export const promptTuning: BackboneMethod<typeof promptTuningConfig> = {
  learnsPrompts: ({ modality: towers }) => towers !== 'vision',
  name: 'prompt-tuning',
  title: 'Prompt tuning',
  paper: 'https://arxiv.org/abs/2203.12119',
  summary: 'learned tokens beside those of pictures (VPT), of texts, or of both',
  needsText: false,
  config: promptTuningConfig,
  training: {
    optimizer: 'sgd', lr: 2.5e-3, momentum: 0.9, weight_decay: 1e-4, epochs: 100, batch_size: 64, schedule: 'cosine',
    warmup_epochs: 10, augment: true,
  },
  attach: attachPrompts,
};
