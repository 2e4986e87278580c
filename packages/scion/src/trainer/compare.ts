/** Methods against each other on one or several data sets, under the same rows, seeds and shots. */
import { type Method, getMethod, needText } from '../peft/index.js';
import type { Runtime } from '../runtime/session.js';
import { type Issue, ScionError } from '../util/errors.js';
import { checkDevice } from './check-runtime.js';
import { cellSchema, openJournal } from './comparison-journal.js';
import { moduleMaker } from './maker.js';
import type { RecipeFeatures, SourceOptions } from './pictures.js';
import { type Comparison, type ComparisonInput, recipeOf, resolveComparison, resolveRecipe } from './recipe.js';
import { evaluateSplit } from './run.js';
import { type Prepared, chooseAndFit, prepareRows, threadsOf } from './select.js';
import { sources } from './sources.js';
import { trainSideBySide } from './side-by-side.js';
import { countValues, environment, version } from './train.js';
import { type Variant, variantTitle } from './variants.js';

/** One trained and tested cell of the comparison. */
export interface ComparisonCell {
  /** Name of the data set. */
  dataset: string;
  /** Name of the method, or of its variant: an entry of `methods`. */
  method: string;
  /** Rows per class asked for; a class with fewer gave all it has. */
  shots: number;
  seed: number;
  /** Share of the test rows that were classified rightly, 0 … 1. */
  accuracy: number;
  /** Test rows. */
  rows: number;
  /** Expected calibration error on the test rows, 0 … 1. */
  ece: number;
  /** The same for named groups of test rows, where the data set has some. */
  groups?: Record<string, { rows: number; accuracy: number }>;
  trainableParameters: number;
  /** From drawn rows to trained method, search included; other cells may have been trained beside it. */
  seconds: number;
  /** The method's configuration, with what validation chose. */
  hyperparameters: Record<string, unknown>;
}

/** What was compared on. */
export interface ComparisonDataset {
  name: string;
  path: string;
  digest: string;
  model?: string;
  classes: number;
  dim: number;
  /** Rows. */
  train: number;
  test: number;
}

/** A whole comparison. Cells are missing where it was stopped. */
export interface ComparisonResult {
  /** ISO date. */
  created: string;
  scionVersion: string;
  datasets: ComparisonDataset[];
  recipe: Record<string, unknown>;
  environment: Record<string, string>;
  /** `name` is that of the cells; `method` is the method behind it. */
  methods: { name: string; method: string; title: string; paper?: string }[];
  shots: number[];
  seeds: number[];
  /** In the order of data sets, shots, seeds and methods. */
  cells: ComparisonCell[];
  warnings: string[];
}

export interface CompareOptions extends SourceOptions {
  onCell?: (cell: ComparisonCell, done: number, total: number) => void;
  onWarning?: (warning: string) => void;
  signal?: AbortSignal;
  /**
   * A file that finished cells are added to, and that a comparison which was stopped goes on from. It is left where it
   * is.
   */
  journal?: string;
}

/** One cell to be: what is trained on what. */
interface Plan {
  dataset: string;
  file: RecipeFeatures;
  variant: Variant;
  method: Method;
  shots: number;
  seed: number;
}

/**
 * Trains and tests every method × shots × seed on every data set. Up to four cells are trained side by side.
 * @throws ScionError with all that is wrong, before anything starts
 */
export async function compare(input: ComparisonInput, options: CompareOptions = {}): Promise<ComparisonResult> {
  const comparison = resolveComparison(input);
  await checkDevice(comparison.device);
  const warnings = new Set<string>();
  const warn = (warning: string): void => {
    if (!warnings.has(warning)) options.onWarning?.(warning);
    warnings.add(warning);
  };
  const methods = comparison.methods.map((variant) => ({ variant, method: getMethod(variant.method, '--methods') }));
  const files = await openAll(comparison, needText(methods.map(({ method }) => method)), warn, options);
  const plans = [...files].flatMap(([dataset, file]) => comparison.shots.flatMap((shots) =>
    comparison.seeds.flatMap((seed) => methods.map((m): Plan => ({ dataset, file, shots, seed, ...m })))));
  const { features: _f, data: _d, ...recipe } = comparison;
  const data = Object.fromEntries([...files].map(([name, { digest }]) => [name, digest]));
  const journal = options.journal === undefined ? undefined
    : await openJournal(options.journal, { scion: version, recipe, data }, cellSchema);

  const key = (c: Pick<ComparisonCell, 'dataset' | 'method' | 'shots' | 'seed'>): string =>
    JSON.stringify([c.dataset, c.method, c.shots, c.seed]);
  const keyOf = (plan: Plan): string => key({ ...plan, method: plan.variant.name });
  const cells = new Map(journal?.cells.map((cell) => [key(cell), cell]));
  const failures = await trainAll(
    comparison,
    plans.filter((plan) => !cells.has(keyOf(plan))),
    async (cell) => {
      cells.set(key(cell), cell);
      await journal?.add(cell);
      options.onCell?.(cell, cells.size, plans.length);
    },
    warn,
    options.signal,
  );
  if (options.signal?.aborted && cells.size < plans.length) warn(`stopped after ${cells.size} of ${plans.length} trainings`);
  if (cells.size === 0 && failures.length > 0) throw failures[0]!;
  return {
    created: new Date().toISOString(),
    scionVersion: version,
    datasets: [...files].map(([name, file]) => factsOf(name, file)),
    recipe: { ...comparison },
    environment: environment(comparison.device),
    methods: methods.map(({ variant, method: { name, title, paper } }) => ({
      name: variant.name, method: name, title: variantTitle(variant, title), ...(paper ? { paper } : {}),
    })),
    shots: comparison.shots,
    seeds: comparison.seeds,
    cells: plans.flatMap((plan) => cells.get(keyOf(plan)) ?? []),
    warnings: [...warnings],
  };
}

function factsOf(name: string, file: RecipeFeatures): ComparisonDataset {
  const { path, digest, model, classNames, dim, train, test } = file;
  return {
    name, path, digest, ...(model ? { model } : {}), classes: classNames.length, dim,
    train: train!.labels.length, test: test!.labels.length,
  };
}

/**
 * Opens every data set and draws every set of rows once, so that what is missing and classes that are too small show
 * before the first training.
 */
async function openAll(
  comparison: Comparison, text: readonly string[], warn: (warning: string) => void, options: SourceOptions,
): Promise<Map<string, RecipeFeatures>> {
  const files = new Map<string, RecipeFeatures>();
  const issues: Issue[] = [];
  const kinds = new Set<ScionError['kind']>();
  const note = (error: unknown): void => {
    if (!(error instanceof ScionError)) throw error;
    kinds.add(error.kind);
    issues.push(...error.issues.filter((i) => !issues.some((j) => j.path === i.path && j.message === i.message)));
  };
  const all = await sources(comparison, options);
  for (const { name, open } of all) {
    const tell = (warning: string): void => warn(all.length > 1 ? `${name}: ${warning}` : warning);
    try {
      const file = await open({ train: true, test: true, text });
      file.notes.forEach(tell);
      files.set(name, file);
      for (const shots of comparison.shots) {
        for (const seed of comparison.seeds) prepareRows(file, { ...comparison, shots, seed }).warnings.forEach(tell);
      }
    } catch (error) {
      note(error);
    }
  }
  if (issues.length > 0) throw new ScionError(kinds.has('usage') ? 'usage' : kinds.has('input') ? 'input' : 'io', issues);
  return files;
}

/** Trains the planned cells; gives the failures of single cells. */
function trainAll(
  comparison: Comparison, plans: readonly Plan[], done: (cell: ComparisonCell) => Promise<void>,
  warn: (warning: string) => void, signal: AbortSignal | undefined,
): Promise<ScionError[]> {
  const several = new Set(plans.map(({ dataset }) => dataset)).size > 1;
  const rows = new WeakMap<Runtime, { of: string; prepared: Prepared }>();
  return trainSideBySide(plans, {
    machine: comparison, keep: 16, signal,
    async train(runtime, plan, threads) {
      const { dataset, file, shots, seed } = plan;
      const of = JSON.stringify([dataset, shots, seed]);
      let own = rows.get(runtime);
      if (own?.of !== of) rows.set(runtime, own = { of, prepared: prepareRows(file, { ...comparison, shots, seed }) });
      await done(await trainCell(runtime, { ...comparison, threads }, plan, own.prepared, signal));
    },
    failed({ dataset, variant, shots, seed }, error) {
      const where = several ? `${dataset}, ` : '';
      warn(`${where}${variant.name}, shots ${shots}, seed ${seed} is left out: ${error.message}`);
    },
  });
}

async function trainCell(
  runtime: Runtime, comparison: Comparison, plan: Plan, rows: Prepared, signal: AbortSignal | undefined,
): Promise<ComparisonCell> {
  const { dataset, file, variant, method, shots, seed } = plan;
  const started = performance.now();
  const { recipe } = resolveRecipe(recipeOf(comparison, variant, shots, seed));
  const make = moduleMaker(method, file);
  const chosen = await chooseAndFit({
    runtime, method, recipe, rows, make,
    ...(signal ? { signal } : {}),
  });
  const seconds = (performance.now() - started) / 1000;
  const module = await make(chosen.config, rows.support);
  const report = await evaluateSplit(runtime, module, chosen.values, file.test!, threadsOf(recipe));
  const { accuracy, rows: tested, ece, groups } = report;
  return {
    dataset, method: variant.name, shots, seed, accuracy, rows: tested, ece,
    ...(groups ? { groups } : {}),
    trainableParameters: countValues(chosen.values),
    seconds,
    hyperparameters: chosen.config,
  };
}
