/** Methods against each other on a task with words, under the same examples and seeds. */
import * as z from 'zod';
import type { Runtime } from '../../runtime/session.js';
import { type ScionError, inputError } from '../../util/errors.js';
import { Random } from '../../util/random.js';
import { checkDevice } from '../check-runtime.js';
import { openJournal } from '../comparison-journal.js';
import { trainSideBySide } from '../side-by-side.js';
import { countValues, environment, version } from '../train.js';
import { adaptTask, testTask } from './adapt.js';
import { readLanguageData } from './data.js';
import type { LanguageData } from './examples.js';
import type { LanguageOptions } from './model.js';
import { type PreparedTask, digestOf, prepareTask, useful } from './prepare.js';
import {
  type LanguageComparison, type LanguageComparisonInput, type LanguageRecipe, type LanguageVariant, languageRecipeOf,
  resolveLanguageComparison, resolveLanguageRecipe,
} from './recipe.js';

const cellSchema = z.object({
  /** Name of the variant: an entry of `methods`. */
  method: z.string(),
  seed: z.number(),
  /** On the test examples, by name: `accuracy`, or `ciderD`, `bleu4` and the like; 0 … 1, CIDEr-D 0 … 10. */
  metrics: z.record(z.string(), z.number()),
  examples: z.number(),
  epoch: z.number(),
  validation: z.object({ accuracy: z.number(), loss: z.number() }).exactOptional(),
  trainableParameters: z.number(),
  /** Of the training; others may have gone on beside it. */
  seconds: z.number(),
});
export type LanguageCell = z.output<typeof cellSchema>;

export interface LanguageComparisonResult {
  /** ISO date. */
  created: string;
  scionVersion: string;
  task: LanguageRecipe['task'];
  data: string;
  recipe: Record<string, unknown>;
  environment: Record<string, string>;
  methods: { name: string; method: string }[];
  seeds: number[];
  /** In the order of methods and seeds. Cells are missing where it was stopped. */
  cells: LanguageCell[];
  warnings: string[];
}

export interface LanguageCompareOptions extends LanguageOptions {
  onCell?: (cell: LanguageCell, done: number, total: number) => void;
  /** A file that finished cells are added to, and that a comparison which was stopped goes on from. */
  journal?: string;
}

interface Plan {
  variant: LanguageVariant;
  seed: number;
}

/**
 * Trains and tests every method × seed. Several cells go side by side, each with its share of the cores.
 * @throws ScionError with all that is wrong, before anything starts
 */
export async function compareLanguage(
  input: LanguageComparisonInput, options: LanguageCompareOptions = {},
): Promise<LanguageComparisonResult> {
  const comparison = resolveLanguageComparison(input);
  await checkDevice(comparison.device);
  const warnings = new Set<string>();
  const warn = (warning: string): void => {
    if (!warnings.has(warning)) options.onWarning?.(warning);
    warnings.add(warning);
  };
  const plans = comparison.seeds.flatMap((seed) => comparison.methods.map((variant): Plan => ({ variant, seed })));
  const { data } = comparison;
  // read before anything is written or trained
  const found = await readLanguageData(comparison.task, data);
  if (useful(found, 'test').length === 0) {
    throw inputError(data, 'has no test examples whose answers or captions are known; a comparison needs them');
  }
  const journal = options.journal === undefined ? undefined : await openJournal(
    options.journal, { scion: version, recipe: { ...comparison }, data: { [data]: digestOf(found.splits) } }, cellSchema);
  const key = ({ method, seed }: Pick<LanguageCell, 'method' | 'seed'>): string => JSON.stringify([method, seed]);
  const keyOf = ({ variant, seed }: Plan): string => key({ method: variant.name, seed });
  const cells = new Map(journal?.cells.map((cell) => [key(cell), cell]));
  const failures = await trainAll(comparison, found, plans.filter((plan) => !cells.has(keyOf(plan))), async (cell) => {
    cells.set(key(cell), cell);
    await journal?.add(cell);
    options.onCell?.(cell, cells.size, plans.length);
  }, warn, options);
  if (options.signal?.aborted && cells.size < plans.length) warn(`stopped after ${cells.size} of ${plans.length} trainings`);
  if (cells.size === 0 && failures.length > 0) throw failures[0]!;
  return {
    created: new Date().toISOString(), scionVersion: version, task: comparison.task, data, recipe: { ...comparison },
    environment: environment(comparison.device),
    methods: comparison.methods.map(({ name, method }) => ({ name, method })), seeds: comparison.seeds,
    cells: comparison.methods.flatMap((variant) => comparison.seeds.flatMap((seed) => cells.get(keyOf({ variant, seed })) ?? [])),
    warnings: [...warnings],
  };
}

/** Trains the planned cells; gives the failures of single cells. */
function trainAll(
  comparison: LanguageComparison, data: LanguageData, plans: readonly Plan[], done: (cell: LanguageCell) => Promise<void>,
  warn: (warning: string) => void, options: LanguageCompareOptions,
): Promise<ScionError[]> {
  // what variants have in common is encoded once
  const tasks = new Map<string, Promise<PreparedTask>>();
  const prepare = (runtime: Runtime, recipe: LanguageRecipe): Promise<PreparedTask> => {
    const { method: _m, config: _c, training: _t, generation: _g, classifier_layers: _l, prefix: _p, ...decisive } = recipe;
    const key = JSON.stringify(decisive);
    let task = tasks.get(key);
    if (!task) {
      if (tasks.size >= 4) tasks.delete(tasks.keys().next().value!);
      task = prepareTask(runtime, recipe, ['train', 'val', 'test'], { ...options, onWarning: warn }, data);
      tasks.set(key, task);
    }
    return task;
  };
  return trainSideBySide(plans, {
    machine: comparison, signal: options.signal,
    train: async (runtime, { variant, seed }, threads) =>
      done(await trainCell(runtime, { ...comparison, threads }, variant, seed, prepare, warn, options)),
    failed: ({ variant, seed }, error) => warn(`${variant.name}, seed ${seed} is left out: ${error.message}`),
  });
}

async function trainCell(
  runtime: Runtime, comparison: LanguageComparison, variant: LanguageVariant, seed: number,
  prepare: (runtime: Runtime, recipe: LanguageRecipe) => Promise<PreparedTask>, warn: (warning: string) => void,
  { signal }: LanguageCompareOptions,
): Promise<LanguageCell> {
  const { recipe, method } = resolveLanguageRecipe(languageRecipeOf(comparison, variant, seed));
  const shared = await prepare(runtime, recipe);
  const task = shared.sight ? { ...shared, sight: { ...shared.sight, prefix: recipe.prefix } } : shared;
  task.warnings.forEach(warn);
  const started = performance.now();
  const adapted = await adaptTask(task, recipe, method);
  adapted.warnings.forEach(warn);
  const fit = await adapted.fit({ runtime, random: Random.seeded(seed).child('fit'), ...(signal && { signal }) });
  const seconds = (performance.now() - started) / 1000;
  const test = await testTask(task, adapted, recipe, runtime, fit.values, signal ? { signal } : {});
  if (!test) throw inputError(recipe.data, 'has no test examples whose answers or captions are known; a comparison needs them');
  const validation = fit.history[fit.epoch - 1];
  return {
    method: variant.name, seed, metrics: test.metrics, examples: test.examples, epoch: fit.epoch,
    ...(validation && { validation }), trainableParameters: countValues(fit.values), seconds,
  };
}
