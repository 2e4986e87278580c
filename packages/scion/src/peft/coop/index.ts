/** CoOp, context optimisation (Zhou et al., IJCV 2022, arXiv 2109.01134). */
import { z } from 'zod';
import type { Module } from '../../nn/module.js';
import { type Init, init } from '../../nn/parameter.js';
import { readableName } from '../../util/class-name.js';
import { float32 } from '../../util/tensor.js';
import { type AttachContext, type Attached, type BackboneMethod, refuse } from '../backbone-method.js';
import { TextLayout, wordsFor } from '../text-layout.js';
import { VirtualTokens, tokenEmbedding, virtualId } from '../virtual-tokens.js';

export const coopConfig = z.strictObject({
  n_ctx: z.number().int().min(1).max(4096).default(16).describe('learned context tokens of a prompt'),
  class_token_position: z.enum(['end', 'middle', 'front']).default('end')
    .describe('where the class name stands: after, between or before the context tokens'),
  csc: z.boolean().default(false).describe('class-specific contexts: each class learns its own'),
  ctx_init: z.string().trim().min(1).optional()
    .describe('words that the context starts as ("a photo of a"); n_ctx is then the number of their tokens'),
});
export type CoopConfig = z.output<typeof coopConfig>;

/**
 * The prompt of a class around its context, by section 3.2 and the published code: the name, then a full stop.
 * @param context the ids of the context
 */
export function arrange(
  position: CoopConfig['class_token_position'], context: readonly number[], name: readonly number[],
  rest: readonly number[],
): number[] {
  const before = { end: context.length, middle: Math.floor(context.length / 2), front: 0 }[position];
  return [...context.slice(0, before), ...name, ...context.slice(before), ...rest];
}

/** The ids of every class's name and of what follows it, as they are tokenized within a text. */
function namesOf(layout: TextLayout, classNames: readonly string[]): { name: number[]; rest: number[] }[] {
  // a word stands in front, since some tokenizers spell the first word of a text in another way
  const texts = classNames.map((name) => `a ${readableName(name)}`);
  const [word, ...all] = layout.contents(['a', ...texts, ...texts.map((text) => `${text}.`)]) as [number[], ...number[][]];
  return texts.map((_, k) => {
    const [alone, stopped] = [all[k]!, all[texts.length + k]!];
    return { name: stopped.slice(word.length, alone.length), rest: stopped.slice(Math.max(word.length, alone.length)) };
  });
}

async function attachCoop(model: Module, config: CoopConfig, context: AttachContext): Promise<Attached> {
  const { csc, class_token_position: position, ctx_init } = config;
  const [path, table] = tokenEmbedding(model, 'coop');
  const words = wordsFor('coop', context);
  const layout = new TextLayout(words);
  const [start] = ctx_init === undefined ? [] : layout.contents([readableName(ctx_init)]);
  if (start?.length === 0) refuse(['ctx_init', `${JSON.stringify(ctx_init)} has no tokens; write words`]);
  const count = start?.length ?? config.n_ctx;
  const contexts = csc ? words.classNames.length : 1;
  const ids = (k: number): number[] => Array.from({ length: count }, (_, i) => virtualId((csc ? k * count : 0) + i));
  const promptIds = layout.assemble(namesOf(layout, words.classNames).map(({ name, rest }, k) =>
    [arrange(position, ids(k), name, rest)]));
  let initial: Init = init.normal(0.02);
  if (start) {
    const { data } = await context.read(table.weight);
    const rows = start.flatMap((id) => [...data.subarray(id * table.features, (id + 1) * table.features)]);
    initial = (shape) => float32(shape, Array.from({ length: contexts }, () => rows).flat());
  }
  model.replace(path, () => new VirtualTokens(table, contexts * count, initial));
  model.named();
  return { promptIds };
}

/**
 * The recipe's templates and descriptions are not used: a class has one prompt. Differences from the publication: its
 * warm-up epoch has the constant rate 1e-5, where here the rate rises step by step from near 0 to `lr`; it has 50 epochs
 * for one shot, 100 for two and four, 200 for eight and sixteen (50 throughout on ImageNet), where here it is 200 unless
 * the recipe says otherwise; and it crops and mirrors pictures at random, where here their features are computed once.
 */
export const coop: BackboneMethod<typeof coopConfig> = {
  learnsPrompts: () => true,
  name: 'coop',
  title: 'CoOp',
  paper: 'https://arxiv.org/abs/2109.01134',
  summary: 'context words before the class names are learned as vectors, through the frozen text tower',
  needsText: true,
  config: coopConfig,
  training: {
    optimizer: 'sgd', lr: 2e-3, momentum: 0.9, weight_decay: 5e-4, epochs: 200, batch_size: 32, schedule: 'cosine',
    warmup_epochs: 1,
  },
  attach: attachCoop,
};
