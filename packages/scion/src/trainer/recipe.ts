/** Recipes: what to train, how, and on what. Every value has a default; the resolved recipe is stored with the run. */
import { z } from 'zod';
import { type Method, getMethod, isBackboneMethod } from '../peft/index.js';
import { devices } from '../runtime/session.js';
import { type Issue, ScionError } from '../util/errors.js';
import { parse, unwrap, withoutForeign } from './parse.js';
import { sourceFields, sourceIssues } from './recipe-source.js';
import { type Variant, parseVariant } from './variants.js';

const fields = {
  optimizer: z.enum(['adam', 'adamw', 'sgd', 'lbfgs']).describe('adam, adamw, sgd, or lbfgs for convex problems'),
  lr: z.number().positive().describe('learning rate'),
  epochs: z.number().int().min(1).max(100_000).describe('passes over the training rows'),
  batch_size: z.number().int().min(1).describe('rows per step'),
  schedule: z.enum(['constant', 'linear', 'cosine']).describe('of the learning rate'),
  warmup_epochs: z.number().min(0).describe('epochs of linear warm-up'),
  weight_decay: z.number().min(0).optional().describe('as in the optimizer: 0 for adam and sgd, 0.01 for adamw'),
  eps: z.number().positive().optional().describe("Adam's ε"),
  betas: z
    .tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)])
    .optional()
    .describe("Adam's β₁ and β₂"),
  momentum: z.number().min(0).lt(1).optional().describe('of sgd'),
  nesterov: z.boolean().optional().describe('of sgd'),
  max_grad_norm: z.number().positive().optional().describe('gradients are clipped to this global norm'),
  label_smoothing: z.number().min(0).lt(1).describe('share of the target spread over all classes'),
  class_weights: z.enum(['none', 'balanced']).describe('balanced: classes count alike however many rows they have'),
  steps_per_shot: z.number().int().min(1).optional()
    .describe('steps for each training row of a class, instead of epochs'),
  augment: z.boolean().optional()
    .describe('another random view of each picture in every epoch, for methods that adapt the image tower'),
  recompute: z
    .boolean()
    .describe('recompute activations of each layer in the backward pass: less memory, more time'),
  patience: z
    .number()
    .int()
    .min(1)
    .optional()
    .describe('stop after this many epochs without a better validation result'),
  checkpoint: z.enum(['best', 'last']).describe('which epoch is kept: best by validation, or the last'),
};
export const trainingSchema = z.strictObject({
  ...fields,
  warmup_epochs: fields.warmup_epochs.default(0),
  label_smoothing: fields.label_smoothing.default(0),
  class_weights: fields.class_weights.default('none'),
  recompute: fields.recompute.default(false),
  checkpoint: fields.checkpoint.default('best'),
});
export const trainingChanges = z.strictObject(fields).partial();
export type Training = z.output<typeof trainingSchema>;

const shots = z
  .union([z.number().int().min(1), z.literal('all')], 'expected a whole number from 1 on, or all')
  .describe('training rows per class, or all');
const validation = z
  .enum(['auto', 'holdout', 'kfold', 'none'])
  .default('auto')
  .describe(
    'holdout: min(shots, 4) rows per class that are not trained on, as in CoOp; kfold: for sets too small for that; ' +
      'auto: holdout where every class has rows left, else kfold',
  );
const search = z
  .enum(['auto', 'on', 'off'])
  .default('auto')
  .describe("choose hyper-parameters on validation data; auto: where the method's authors do");

/** What computes. */
export const machineFields = {
  threads: z.number().int().min(1).max(1024).optional().describe('threads of ONNX Runtime; all cores where absent'),
  device: z.enum(devices).default('cpu').describe('what computes: cpu, webgpu or cuda, as scion doctor lists them'),
};

const shared = {
  ...sourceFields,
  validation,
  search,
  strict_shots: z.boolean().default(false).describe('a class with fewer rows than shots is an error'),
  ...machineFields,
};

const recipe = z.strictObject({
  ...shared,
  method: z.string().default('graph-adapter').describe('see scion methods'),
  config: z.record(z.string(), z.unknown()).default({}).describe("the method's hyper-parameters"),
  training: trainingChanges.default({}).describe('changes to the published training of the method'),
  shots: shots.default(16),
  seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(1).describe('of everything random'),
});
export type RecipeInput = z.input<typeof recipe>;
/** The keys of recipes of classes. */
export const recipeKeys = Object.keys(recipe.shape);
/** Keys of recipes of questions and captions alone. */
export const wordKeys = [
  'task', 'text_model', 'text_revision', 'visual', 'prefix', 'head', 'classifier_layers', 'answers', 'examples', 'val_examples',
  'test_examples', 'max_length', 'generation',
];

export interface Recipe extends Omit<z.output<typeof recipe>, 'training'> {
  /** Absent for methods that train nothing. */
  training?: Training;
}

const variantSchema = z.strictObject({
  name: z.string().min(1).describe('what the report calls it'),
  method: z.string().min(1),
  config: z.record(z.string(), z.unknown()).optional(),
  training: z.record(z.string(), z.unknown()).optional(),
  search: z.enum(['auto', 'on', 'off']).optional(),
});
/** A method as text, `graph-adapter` or `graph-adapter:beta=1`, or written out. */
const entry = z.union(
  [z.string().min(1), variantSchema],
  'expected a method, or an object with name, method and what it changes of config, training and search',
);

const listOf = (expected: string) => {
  const path = z.string().min(1);
  return z.union([path, z.array(path).min(1)], expected).transform((all) => [all].flat()).optional();
};

const comparison = z.strictObject({
  ...shared,
  features: listOf('expected a feature file or a list of them'),
  data: listOf('expected pictures (a folder, a manifest or a built-in name) or a list of them'),
  methods: z.array(entry).min(1),
  shots: z.array(z.number().int().min(1)).min(1).default([1, 2, 4, 8, 16]),
  seeds: z.array(z.number().int().min(0)).min(1).default([1, 2, 3]),
  config: z.record(z.string(), z.record(z.string(), z.unknown())).default({}).describe('hyper-parameters by method'),
  training: trainingChanges.default({}),
});
export type ComparisonInput = z.input<typeof comparison>;
export interface Comparison extends Omit<z.output<typeof comparison>, 'methods'> {
  methods: Variant[];
}

/** Checks a recipe and fills in the method's published values. Throws all that is wrong at once. */
export function resolveRecipe(given: unknown): { recipe: Recipe; method: Method } {
  const issues: Issue[] = [];
  const input = withoutForeign(given, wordKeys, (key) => (key === 'task'
    ? 'such recipes are for scion train; leave the task out for classes of pictures'
    : 'is for the tasks vqa and caption; add the task, or leave it out'), issues);
  const values = parse(recipe, input, '', issues);
  issues.push(...sourceIssues(input));
  const name = values?.method ?? (input as { method?: unknown } | null)?.method;
  const method = typeof name === 'string' ? collect(issues, () => getMethod(name)) : undefined;
  // the method's own values are checked even where others are wrong, so that all complaints come at once
  const own = values?.config ?? (input as { config?: unknown } | null)?.config ?? {};
  const config = method && typeof own === 'object' ? parse(method.config, own, 'config', issues) : undefined;
  const full = method && values ? resolveTraining(method, values.training, issues) : undefined;
  if (method && isBackboneMethod(method) && values?.features !== undefined) {
    issues.push({
      path: 'features', message: `${method.name} adapts the model itself, which features are not enough for; name pictures `
        + 'with --data',
    });
  }
  if (values?.search === 'on' && values.validation === 'none') {
    issues.push({
      path: 'search',
      message: 'on: there is nothing to search on with validation none; choose auto, holdout or kfold',
    });
  }
  if (issues.length > 0) throw new ScionError('usage', issues);
  const { training: _, ...rest } = values!;
  return { recipe: { ...rest, config: config!, ...(full ? { training: full } : {}) }, method: method! };
}

/** Checks a comparison, and every method's recipe in it. */
export function resolveComparison(input: unknown): Comparison {
  const issues: Issue[] = [];
  const parsed = parse(comparison, input, '', issues);
  issues.push(...sourceIssues(input));
  const values = parsed && {
    ...parsed,
    methods: parsed.methods.flatMap((entry) =>
      (typeof entry === 'string' ? collect(issues, () => parseVariant(entry)) ?? [] : entry)),
  };
  if (values) {
    const lists = {
      features: values.features ?? [],
      data: values.data ?? [],
      methods: values.methods.map(({ name }) => name),
      shots: values.shots,
      seeds: values.seeds,
    };
    for (const [path, list] of Object.entries<readonly (string | number)[]>(lists)) {
      const twice = list.find((v, i) => list.indexOf(v) !== i);
      if (twice !== undefined) issues.push({ path, message: `${twice} stands there twice; name it once` });
    }
    for (const v of values.methods) {
      const found: Issue[] = [];
      collect(found, () => resolveRecipe(recipeOf(values, v, values.shots[0]!, values.seeds[0]!)));
      // what the method takes from the comparison is named by its own key, once for all methods
      const own = found.map((i) => (isOwn(v, i.path) ? { ...i, path: `methods: ${v.name}: ${i.path}` } : i));
      issues.push(...own.filter((i) => !issues.some((j) => j.path === i.path && j.message === i.message)));
    }
    for (const name of Object.keys(values.config)) {
      if (!values.methods.some(({ method }) => method === name))
        issues.push({ path: `config.${name}`, message: 'is not among the methods compared' });
    }
  }
  if (issues.length > 0) throw new ScionError('usage', issues);
  return values!;
}

/** Whether the value at `path` of a cell's recipe is one that the variant itself gives. */
function isOwn({ config = {}, training: t = {}, search: s }: Variant, path: string): boolean {
  const [group, key = ''] = path.split('.');
  return (group === 'config' && key in config) || (group === 'training' && key in t) || (group === 'search' && !!s);
}

/** The recipe of one cell of a comparison. */
export function recipeOf(c: Comparison, variant: Variant, shotCount: number | 'all', seed: number): RecipeInput {
  const { methods: _m, shots: _s, seeds: _e, config, features, data, ...rest } = c;
  const { method } = variant;
  const trains = getMethod(method).training !== undefined;
  return {
    ...rest,
    features: features?.[0],
    data: data?.[0],
    method,
    shots: shotCount,
    seed,
    config: { ...config[method], ...variant.config },
    training: { ...(trains ? c.training : {}), ...variant.training },
    ...(variant.search ? { search: variant.search } : {}),
  };
}

/** A method's published training with the recipe's changes. */
export function resolveTraining(
  method: Method,
  changed: z.output<typeof trainingChanges>,
  issues: Issue[],
): Training | undefined {
  if (!method.training) {
    for (const key of Object.keys(changed)) {
      issues.push({ path: `training.${key}`, message: `${method.name} trains nothing; leave it out` });
    }
    return undefined;
  }
  if (!isBackboneMethod(method) && changed.augment !== undefined) {
    issues.push({
      path: 'training.augment', message: `${method.name} trains on features, which are computed once; use --views instead`,
    });
  }
  const full = { ...method.training, ...changed };
  // epochs that somebody asks for are what he gets
  if (changed.epochs !== undefined && changed.steps_per_shot === undefined) delete full.steps_per_shot;
  if (full.optimizer === 'lbfgs' && method.training.optimizer !== 'lbfgs') {
    issues.push({
      path: 'training.optimizer',
      message: `lbfgs is for convex problems; ${method.name} takes adam, adamw or sgd`,
    });
  }
  const optimizer = full.optimizer ?? method.training.optimizer;
  const epochs = full.epochs ?? method.training.epochs;
  if (optimizer === 'lbfgs') {
    const used = ['optimizer', 'epochs', 'label_smoothing', 'class_weights'];
    for (const key of Object.keys(changed).filter((k) => !used.includes(k))) {
      issues.push({
        path: `training.${key}`,
        message: `has no meaning for ${method.name}, which is solved by lbfgs; leave it out`,
      });
    }
  }
  const adam = optimizer.startsWith('adam');
  for (const [key, fits] of Object.entries({
    betas: adam,
    eps: adam,
    momentum: !adam,
    nesterov: !adam && !!changed.momentum,
  })) {
    if (key in changed && !fits && optimizer !== 'lbfgs') {
      issues.push({
        path: `training.${key}`,
        message: `has no meaning for ${optimizer}${key === 'nesterov' && !adam ? ' without momentum' : ''}; leave it out`,
      });
    }
  }
  if ((changed.warmup_epochs ?? 0) > epochs) {
    issues.push({
      path: 'training.warmup_epochs',
      message: `${changed.warmup_epochs}: expected at most the ${epochs} epochs of the training`,
    });
  }
  return parse(trainingSchema, full, 'training', issues);
}

export function collect<T>(issues: Issue[], body: () => T): T | undefined {
  try {
    return body();
  } catch (error) {
    if (!(error instanceof ScionError)) throw error;
    issues.push(...error.issues.filter((i) => !issues.some((j) => j.path === i.path && j.message === i.message)));
    return undefined;
  }
}

/** What a value of a recipe means, for help texts: `describeField('training.lr')`. */
export const describeField = (path: string): string => describeIn(recipe, path);

/** The same of any schema. */
export function describeIn(schema: z.ZodType, path: string): string {
  let at: unknown = path
    .split('.')
    .reduce<unknown>((inner, key) => (unwrap(inner) as { shape?: Record<string, unknown> }).shape?.[key], schema);
  for (; at; at = (at as { unwrap?: () => unknown }).unwrap?.()) {
    const { description } = at as { description?: string };
    if (description !== undefined) return description;
  }
  return '';
}
