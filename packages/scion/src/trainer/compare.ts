/** Methods against each other under the same rows, seeds and shots. */
import { getMethod } from '../peft/index.js';
import { nodeRuntime } from '../runtime/node.js';
import { ScionError } from '../util/errors.js';
import { type SourceOptions, recipeFeatures } from './pictures.js';
import { type ComparisonInput, recipeOf, resolveComparison, resolveRecipe } from './recipe.js';
import { evaluateSplit } from './run.js';
import { chooseAndFit, featureInputs, prepareRows, threadsOf } from './select.js';
import { countValues, environment, version } from './train.js';

/** One trained and tested cell of the comparison. */
export interface ComparisonCell {
  method: string;
  /** Rows per class asked for; a class with fewer gave all it has. */
  shots: number;
  seed: number;
  /** Share of the test rows that were classified rightly, 0 … 1. */
  accuracy: number;
  /** Expected calibration error on the test rows, 0 … 1. */
  ece: number;
  trainableParameters: number;
  /** From drawn rows to trained method, search included. */
  seconds: number;
  /** The method's configuration, with what validation chose. */
  hyperparameters: Record<string, unknown>;
}

/** A whole comparison. Cells are missing where it was stopped. */
export interface ComparisonResult {
  /** ISO date. */
  created: string;
  scionVersion: string;
  features: { path: string; digest: string; model?: string; classes: number; dim: number; train: number; test: number };
  recipe: Record<string, unknown>;
  environment: Record<string, string>;
  methods: { name: string; title: string; paper?: string }[];
  shots: number[];
  seeds: number[];
  cells: ComparisonCell[];
  warnings: string[];
}

export interface CompareOptions extends SourceOptions {
  onCell?: (cell: ComparisonCell, done: number, total: number) => void;
  onWarning?: (warning: string) => void;
  signal?: AbortSignal;
}

/** Trains and tests every method × shots × seed. @throws ScionError with all that is wrong, before anything starts */
export async function compare(input: ComparisonInput, options: CompareOptions = {}): Promise<ComparisonResult> {
  const comparison = resolveComparison(input);
  const methods = comparison.methods.map((name) => getMethod(name, '--methods'));
  const file = await recipeFeatures(comparison, {
    train: true,
    test: true,
    text: methods.some((m) => m.needsText),
  }, options);
  const warnings = new Set<string>();
  const warn = (warning: string): void => {
    if (!warnings.has(warning)) options.onWarning?.(warning);
    warnings.add(warning);
  };
  file.notes.forEach(warn);
  // every set of rows is drawn before the first training: a class that is too small shows at once
  const draws = comparison.shots.flatMap((shots) =>
    comparison.seeds.map((seed) => {
      const rows = prepareRows(file, { ...comparison, shots, seed });
      rows.warnings.forEach(warn);
      return { shots, seed, rows };
    }),
  );
  const cells: ComparisonCell[] = [];
  const failures: ScionError[] = [];
  const total = draws.length * methods.length;
  const runtime = nodeRuntime();
  try {
    for (const { shots, seed, rows } of draws) {
      for (const method of methods) {
        if (options.signal?.aborted) {
          warn(`stopped after ${cells.length} of ${total} trainings`);
          break;
        }
        const started = performance.now();
        const { recipe } = resolveRecipe(recipeOf(comparison, method.name, shots, seed));
        const chosen = await chooseAndFit({
          runtime,
          method,
          recipe,
          rows,
          inputs: (support) => featureInputs(file, support),
          ...(options.signal ? { signal: options.signal } : {}),
        }).catch((error: unknown) => {
          // what is done already is not lost for one training that failed
          if (!(error instanceof ScionError)) throw error;
          if (error.kind !== 'interrupted') failures.push(error);
          return error;
        });
        if (chosen instanceof ScionError) {
          warn(
            chosen.kind === 'interrupted'
              ? `stopped after ${cells.length} of ${total} trainings`
              : `${method.name}, shots ${shots}, seed ${seed} is left out: ${chosen.message}`,
          );
          continue;
        }
        const seconds = (performance.now() - started) / 1000;
        const module = method.create(featureInputs(file, rows.support), chosen.config);
        const { accuracy, ece } = await evaluateSplit(runtime, module, chosen.values, file.test!, threadsOf(recipe));
        const cell: ComparisonCell = {
          method: method.name,
          shots,
          seed,
          accuracy,
          ece,
          trainableParameters: countValues(chosen.values),
          seconds,
          hyperparameters: chosen.config,
        };
        cells.push(cell);
        options.onCell?.(cell, cells.length, total);
      }
    }
  } finally {
    await runtime.close();
  }
  if (cells.length === 0 && failures.length > 0) throw failures[0]!;
  return {
    created: new Date().toISOString(),
    scionVersion: version,
    features: {
      path: file.path,
      digest: file.digest,
      ...(file.model ? { model: file.model } : {}),
      classes: file.classNames.length,
      dim: file.dim,
      train: file.train!.labels.length,
      test: file.test!.labels.length,
    },
    recipe: { ...comparison },
    environment: environment(),
    methods: methods.map(({ name, title, paper }) => ({ name, title, ...(paper ? { paper } : {}) })),
    shots: comparison.shots,
    seeds: comparison.seeds,
    cells,
    warnings: [...warnings],
  };
}
