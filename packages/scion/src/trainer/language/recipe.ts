/** Recipes of tasks with pictures and words: questions that are answered, captions that are written. */
import { z } from 'zod';
import { type BackboneMethod, type Method, getMethod, isBackboneMethod, methodNames } from '../../peft/index.js';
import { type Issue, ScionError, usageError } from '../../util/errors.js';
import { generationOptions } from '../generate/index.js';
import { parse, withoutForeign } from '../parse.js';
import { parseVariant } from '../variants.js';
import { type Training, collect, describeIn, machineFields, recipeKeys, resolveTraining, trainingChanges } from '../recipe.js';

export const languageTasks = ['vqa', 'caption'] as const;
export type LanguageTask = (typeof languageTasks)[number];

/** How texts are written. */
const generation = generationOptions.extend({
  max_new_tokens: generationOptions.shape.max_new_tokens.unwrap().default(24).describe('words of the longest text that is written'),
}).omit({ num_return_sequences: true, max_length: true });

const fields = {
  task: z.enum(languageTasks).describe('vqa: questions about pictures are answered; caption: pictures are described'),
  data: z.string().min(1).describe('folder in an official layout, with Parquet files, or a manifest'),
  model: z.string().min(1).default('picto').describe('encoder of pictures: see scion models'),
  revision: z.string().min(1).optional().describe('branch, tag or commit of the model on the hub'),
  text_model: z.string().min(1).optional()
    .describe('model of texts: a built-in name, the folder of a checkpoint, or org/name on the hub'),
  text_revision: z.string().min(1).optional().describe('branch, tag or commit of the text model on the hub'),
  visual: z.enum(['pooled', 'patches', 'none']).default('pooled')
    .describe('what is seen of a picture: one feature, its patches, or nothing (for comparisons)'),
  prefix: z.boolean().default(true).describe('whether the picture stands before the words as tokens'),
  head: z.enum(['auto', 'classify', 'generate']).default('auto')
    .describe('vqa: answers are chosen among the frequent ones, or written; auto: chosen, but by decoders'),
  classifier_layers: z.union([z.literal(1), z.literal(2)]).default(2).describe('linear layers of the classifier'),
  answers: z.number().int().min(2).max(100_000).default(3129).describe('most frequent answers to choose among'),
  examples: z.union([z.number().int().min(1), z.literal('all')]).default('all')
    .describe('training examples, drawn by the seed: questions, or pictures with all their captions'),
  val_examples: z.union([z.number().int().min(1), z.literal('all')]).default(1000)
    .describe('validation examples that choose the epoch'),
  test_examples: z.union([z.number().int().min(1), z.literal('all')]).default('all').describe('test examples'),
  max_length: z.number().int().min(4).max(4096).optional()
    .describe('tokens of a text; longer ones are cut. As many as the text model has places for where absent'),
  generation: generation.prefault({}).describe('how texts are written'),
  skip_bad: z.boolean().default(false).describe('leave out pictures that cannot be read, instead of stopping'),
  cache: z.boolean().default(true).describe('whether features of pictures are kept for the next time'),
  ...machineFields,
};

const recipe = z.strictObject({
  ...fields,
  method: z.string().default('lora').describe('a method that adapts a model from within, see scion methods'),
  config: z.record(z.string(), z.unknown()).default({}).describe("the method's hyper-parameters"),
  training: trainingChanges.default({}).describe('changes to the training'),
  seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(1).describe('of everything random'),
});
export type LanguageRecipeInput = z.input<typeof recipe>;

const {
  task: _task, data: _data, threads: _threads, device: _device, cache: _cache, skip_bad: _bad, test_examples: _test,
  generation: _generation, ...ofVariant
} = fields;
/** A method under a name, with what it changes: of the method, the training, or what is seen and read. */
const variant = z.strictObject({
  ...Object.fromEntries(Object.entries(ofVariant).map(([key, schema]) => [key, unwrapped(schema).optional()])) as {
    [K in keyof typeof ofVariant]: z.ZodOptional<z.ZodType<z.output<(typeof ofVariant)[K]>>>;
  },
  name: z.string().min(1).describe('what the report calls it'),
  method: z.string().min(1),
  config: z.record(z.string(), z.unknown()).optional(),
  training: trainingChanges.optional(),
  /** Only what is given: defaults would hide what all variants have in common. */
  generation: z.record(z.string(), z.unknown()).optional(),
});
const comparison = z.strictObject({
  ...fields,
  data: z.union([fields.data, z.array(z.string().min(1)).length(1)], 'expected one folder or manifest').transform((one) => [one].flat()[0]!),
  methods: z.array(z.union([z.string().min(1), variant], 'expected a method, or an object with name, method and what it changes')).min(1)
    .describe('methods, or variants of them'),
  seeds: z.array(z.number().int().min(0)).min(1).default([1, 2, 3]).describe('of everything random'),
  config: z.record(z.string(), z.record(z.string(), z.unknown())).default({}).describe('hyper-parameters by method'),
  training: trainingChanges.default({}),
});
export type LanguageComparisonInput = z.input<typeof comparison>;
export type LanguageVariant = z.output<typeof variant>;
export interface LanguageComparison extends Omit<z.output<typeof comparison>, 'methods'> {
  methods: LanguageVariant[];
}

/** A default of a comparison must not hide what all variants have in common. */
function unwrapped(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault ? unwrapped(schema.unwrap() as z.ZodType) : schema;
}

/** The recipe of one cell of a comparison. */
export function languageRecipeOf(
  { methods: _m, seeds: _s, config, training, ...shared }: LanguageComparison, variantOf: LanguageVariant, seed: number,
): LanguageRecipeInput {
  const { name: _n, config: own, training: changed, ...rest } = variantOf;
  const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
  return {
    ...shared, ...given, generation: { ...shared.generation, ...rest.generation }, method: variantOf.method, seed, config: { ...config[variantOf.method], ...own },
    training: { ...training, ...changed },
  };
}

/** Checks a comparison, and the recipe of every variant in it. @throws ScionError of kind `usage` with all that is wrong */
export function resolveLanguageComparison(input: unknown): LanguageComparison {
  const issues: Issue[] = [];
  const parsed = parse(comparison, input, '', issues);
  const values = parsed && {
    ...parsed,
    methods: parsed.methods.flatMap((entry) =>
      (typeof entry === 'string' ? collect(issues, () => plainVariant(entry)) ?? [] : [entry])),
  };
  for (const [path, list] of Object.entries<readonly (string | number)[]>(
    values ? { methods: values.methods.map(({ name }) => name), seeds: values.seeds } : {})) {
    const twice = list.find((v, i) => list.indexOf(v) !== i);
    if (twice !== undefined) issues.push({ path, message: `${twice} stands there twice; name it once` });
  }
  for (const one of values?.methods ?? []) {
    const found: Issue[] = [];
    collect(found, () => resolveLanguageRecipe(languageRecipeOf(values!, one, values!.seeds[0]!)));
    issues.push(...found.map((issue) => ({ ...issue, path: `methods: ${one.name}: ${issue.path}` })));
  }
  for (const name of Object.keys(values?.config ?? {})) {
    if (!values!.methods.some(({ method }) => method === name)) {
      issues.push({ path: `config.${name}`, message: 'is not among the methods compared' });
    }
  }
  if (issues.length > 0) throw new ScionError('usage', issues);
  return values!;
}

function plainVariant(text: string): LanguageVariant {
  const { search, ...rest } = parseVariant(text);
  if (search !== undefined) throw usageError('methods', `${text}: search is for classes of pictures; leave it out`);
  const issues: Issue[] = [];
  const checked = parse(variant, rest, `methods: ${text}`, issues);
  if (!checked) throw new ScionError('usage', issues);
  return checked;
}

export interface LanguageRecipe extends Omit<z.output<typeof recipe>, 'training' | 'text_model'> {
  text_model: string;
  training: Training;
}

/** The built-in model of each task. */
const defaultText: Readonly<Record<LanguageTask, string>> = { vqa: 'picto-roberta', caption: 'picto-gpt' };

/**
 * The training of these tasks, where the recipe says nothing else: AdamW, linear with 5 % of warm-up as published (Qu et
 * al., ECCV 2024, section 5), with smaller batches and fewer epochs for less data.
 */
const usual: NonNullable<Method['training']> = {
  optimizer: 'adamw', lr: 1e-3, epochs: 10, batch_size: 64, schedule: 'linear', warmup_epochs: 0.5,
};
/** What says something of pictures or classes alone, with the value that a resolved recipe has there. */
const elsewhere = { augment: undefined, class_weights: 'none', steps_per_shot: undefined } as const;

export function isLanguageTask(task: unknown): task is LanguageTask {
  return languageTasks.includes(task as LanguageTask);
}

/**
 * Checks a recipe and fills in its values, but for `config.target_modules`, which the text model decides where the recipe
 * does not.
 * @throws ScionError of kind `usage` with all that is wrong
 */
export function resolveLanguageRecipe(input: unknown): { recipe: LanguageRecipe; method: BackboneMethod } {
  const issues: Issue[] = [];
  const foreign = recipeKeys.filter((key) => !Object.hasOwn(recipe.shape, key));
  const values = parse(recipe, withoutForeign(input, foreign, (key) => 'is for classes of pictures, not for this task; '
    + (key === 'shots' ? 'use examples' : 'leave it out'), issues), '', issues);
  const name = values?.method ?? 'lora';
  const method = collect(issues, () => getMethod(name));
  if (method && !isBackboneMethod(method)) {
    const within = methodNames().map((other) => getMethod(other)).filter(isBackboneMethod)
      .flatMap((other) => (other.learnsPrompts?.(other.config.parse({})) ? [] : [other.name]));
    issues.push({
      path: 'method', message: `${name} works on features of classes; choose one that adapts a model from within: ${within.join(', ')}`,
    });
  }
  const own = method && isBackboneMethod(method) ? { ...method, training: usual } : undefined;
  const config = own && values ? parse(own.config, values.config, 'config', issues) : undefined;
  if (config && own!.learnsPrompts?.(config)) {
    issues.push({ path: 'method', message: `${name} learns the prompts of classes, of which this task has none; use lora or adapter` });
  }
  // names of projections differ between text models: what the method means is known when the model is
  if (config && values!.config.target_modules === undefined) delete config.target_modules;
  for (const [key, idle] of Object.entries(elsewhere)) {
    const given = values?.training[key as keyof typeof elsewhere];
    if (given !== undefined && given !== idle) {
      issues.push({ path: `training.${key}`, message: 'is for classes of pictures; leave it out' });
    }
  }
  const training = own && values ? resolveTraining(own, values.training, issues) : undefined;
  if (training?.optimizer === 'lbfgs') issues.push({ path: 'training.optimizer', message: 'lbfgs is for convex problems' });
  if (values) issues.push(...contradictions(values));
  if (issues.length > 0) throw new ScionError('usage', issues);
  const { text_model: text = defaultText[values!.task], training: _, ...rest } = values!;
  return { recipe: { ...rest, text_model: text, config: config!, training: training! }, method: own! };
}

function contradictions({ task, head, visual, prefix, generation: g }: z.output<typeof recipe>): Issue[] {
  const issues: Issue[] = [];
  if (task === 'caption' && head === 'classify') {
    issues.push({ path: 'head', message: 'classify: captions are written, not chosen; leave it out' });
  }
  if (visual === 'none' && !prefix) {
    issues.push({ path: 'prefix', message: 'false: nothing is seen with visual none; leave it out' });
  }
  if (g.do_sample && g.num_beams > 1) {
    issues.push({ path: 'generation.num_beams', message: `${g.num_beams}: drawing goes with one beam; take one of them` });
  }
  return issues;
}

/** What a value of a recipe means, for help texts: `describeLanguageField('text_model')`. */
export const describeLanguageField = (path: string): string => describeIn(recipe, path);
