/** Validation: which rows choose the hyper-parameters and the epoch, and the choice itself. Test rows never do. */
import { type FewShot, drawShots, folds, plainRows, rowsByClass, subset, withViews } from '../data/few-shot.js';
import type { FeatureFile, Split } from '../data/feature-file.js';
import type { Method, Search } from '../peft/index.js';
import type { Runtime, SessionOptions, Tensors } from '../runtime/session.js';
import type { Calibration } from '../tasks/calibration.js';
import { usageError } from '../util/errors.js';
import { Random } from '../util/random.js';
import { scalar } from '../util/tensor.js';
import { openClassifier } from './classifier.js';
import { calibrateHeldOut } from './held-out.js';
import type { MakeModule } from './maker.js';
import { type Checkpoint, type Fit, type Metric, type Score, better } from './descend.js';
import { type FitOptions, fit, score, scorer } from './fit.js';
import type { Recipe } from './recipe.js';

/** The rows of one training, split for validation. */
export interface Prepared {
  /** What the final training sees. */
  support: Split;
  validation: 'holdout' | 'kfold' | 'none';
  /** One pair for a held-out set, k for cross-validation, none without validation. */
  pairs: readonly { train: Split; val: Split }[];
  warnings: readonly string[];
}

/** The most validation rows per class, as in CoOp's few-shot protocol. */
const mostHeldOut = 4;

/**
 * Draws the training and validation rows of a recipe. A validation split in the file is used before rows of `train`
 * that were not drawn.
 */
export function prepareRows(
  file: FeatureFile,
  recipe: Pick<Recipe, 'shots' | 'seed' | 'validation' | 'strict_shots'>,
): Prepared {
  const random = Random.seeded(recipe.seed);
  const { classNames } = file;
  const classes = classNames.length;
  const train = file.train!;
  const wanted = recipe.shots === 'all' ? Infinity : recipe.shots;
  const drawn = drawShots(train, classNames, wanted, random, {
    strict: recipe.strict_shots && wanted !== Infinity,
    where: `${file.path}: train.labels`,
  });
  const warnings = wanted === Infinity ? [] : [...drawn.warnings];
  const held =
    recipe.validation === 'none' || recipe.validation === 'kfold' ? undefined : holdOut(file, drawn, wanted, random);
  if (recipe.validation === 'holdout' && !held) {
    throw usageError('--validation', 'holdout: no rows are left in some classes; use fewer --shots, or kfold');
  }
  const support = subset(train, withViews(train, held?.train ?? drawn.train));
  if (held) return { support, validation: 'holdout', pairs: [{ train: support, val: held.val }], warnings };
  if (recipe.validation === 'none') return { support, validation: 'none', pairs: [], warnings };

  const counts = new Array<number>(classes).fill(0);
  for (const row of plainRows(support)) counts[support.labels[row]!]!++;
  const smallest = Math.min(...counts);
  const k = Math.min(mostHeldOut, smallest);
  if (k < 2) {
    const why = 'a class has one training row and no row is left over for validation';
    if (recipe.validation === 'kfold') throw usageError('--validation', `kfold: ${why}; use more --shots, or none`);
    warnings.push(`${why}: nothing is chosen on validation, published values are used`);
    return { support, validation: 'none', pairs: [], warnings };
  }
  const parts = folds(support, classes, k, random);
  const pairs = parts.map((part, i) => ({
    train: subset(
      support,
      withViews(
        support,
        parts.flatMap((rows, j) => (j === i ? [] : rows)),
      ),
    ),
    val: subset(support, part),
  }));
  return { support, validation: 'kfold', pairs, warnings };
}

/** `min(shots, 4)` rows per class that are not trained on; undefined where a class has none. */
function holdOut(
  file: FeatureFile,
  drawn: FewShot,
  shots: number,
  random: Random,
): { train: readonly number[]; val: Split } | undefined {
  const count = Math.min(shots, mostHeldOut);
  if (file.val) {
    // a class without validation rows is no reason to refuse the others
    const rows =
      shots === Infinity
        ? Array.from(file.val.labels, (_, i) => i)
        : rowsByClass(file.val.labels, file.classNames.length).flatMap((some, k) =>
            random.child('validation', k).shuffle(some).slice(0, count),
          );
    return { train: drawn.train, val: subset(file.val, rows) };
  }
  if (shots !== Infinity) {
    if (drawn.rest.some((rows) => rows.length === 0)) return undefined;
    return {
      train: drawn.train,
      val: subset(
        file.train!,
        drawn.rest.flatMap((rows) => rows.slice(0, count)),
      ),
    };
  }
  // all rows were asked for: a fifth of each class, four at most, is kept back
  const labels = file.train!.labels;
  const taken = new Set<number>();
  for (let k = 0; k < file.classNames.length; k++) {
    const rows = drawn.train.filter((row) => labels[row] === k);
    const few = Math.min(mostHeldOut, Math.floor(rows.length / 5));
    if (few === 0) return undefined;
    rows.slice(0, few).forEach((row) => taken.add(row));
  }
  return { train: drawn.train.filter((row) => !taken.has(row)), val: subset(file.train!, [...taken]) };
}

/** The grid without hyper-parameters that the user has set: those are not searched. */
function openGrid(method: Method, config: Record<string, unknown>): Search['grid'] {
  const published = method.config.parse({});
  return Object.fromEntries(Object.entries(method.search!.grid).filter(([name]) => config[name] === published[name]));
}

/** Every combination of a grid. */
export function combinations(grid: Search['grid']): Record<string, number>[] {
  return Object.entries(grid).reduce<Record<string, number>[]>(
    (all, [name, values]) => all.flatMap((c) => values.map((v) => ({ ...c, [name]: v }))),
    [{}],
  );
}

export interface Chosen extends Fit {
  /** The method's configuration with the values that validation chose. */
  config: Record<string, unknown>;
  /** Its score on validation rows (the mean over folds); absent without validation. */
  validation?: Score;
  /** Where it was asked for and there are validation rows. */
  calibration?: Calibration;
  /** What the search tried, best first. */
  searched: { values: Record<string, number>; score: Score }[];
}

export interface ChooseOptions {
  runtime: Runtime;
  method: Method;
  recipe: Recipe;
  rows: Prepared;
  make: MakeModule;
  onMetric?: (metric: Metric) => void;
  /** What is being done beside the final training: "search 3 of 13", "fold 2 of 4". */
  onPhase?: (phase: string) => void;
  afterStep?: FitOptions['afterStep'];
  resume?: Checkpoint;
  /** Ends the work with an error of kind `interrupted`. */
  signal?: AbortSignal;
  /** Whether to fit a temperature on the validation rows. */
  calibrate?: boolean;
}

/** Searches where the recipe asks for it, then trains on all support rows. */
export async function chooseAndFit(options: ChooseOptions): Promise<Chosen> {
  const { runtime, method, recipe, rows, make } = options;
  const { training } = recipe;
  const random = Random.seeded(recipe.seed);
  const searches =
    rows.pairs.length > 0 &&
    method.search !== undefined &&
    (recipe.search === 'on' || (recipe.search === 'auto' && method.search.published));
  const shared = { runtime, random, ...threadsOf(recipe) };
  let config = recipe.config;
  const grid = method.search && openGrid(method, config);
  let searched: Chosen['searched'] = [];

  /** Trains on one pair's training rows and scores every epoch on its validation rows. */
  const onPair = async (c: Record<string, unknown>, pair: Prepared['pairs'][number], start?: Tensors): Promise<Fit> =>
    training
      ? fit({
          ...shared,
          module: await make(c, pair.train),
          ...pair,
          training,
          ...(start ? { start } : {}),
          ...(options.signal ? { signal: options.signal } : {}),
        })
      : nothing;

  if (searches && method.search!.when === 'train' && training) {
    const tried = combinations(grid!);
    let before: Fit[] = [];
    for (const [i, values] of tried.entries()) {
      options.onPhase?.(`search ${i + 1} of ${tried.length}`);
      const fits: Fit[] = [];
      for (const [j, pair] of rows.pairs.entries())
        fits.push(await onPair({ ...config, ...values }, pair, before[j]?.values));
      before = fits;
      searched.push({ values, score: bestEpoch(fits, training.checkpoint).score });
    }
    searched = ranked(searched);
    config = { ...config, ...searched[0]!.values };
  }

  // cross-validation tells how many epochs; with a held-out set the final training sees it itself
  let stopAfter: number | undefined;
  let fold: Fit[] = [];
  const scansAfterwards = searches && method.search!.when === 'evaluate';
  if (rows.validation === 'kfold' && training && (training.checkpoint === 'best' || scansAfterwards)) {
    for (const [i, pair] of rows.pairs.entries()) {
      options.onPhase?.(`fold ${i + 1} of ${rows.pairs.length}`);
      fold.push(await onPair(config, pair));
    }
    if (training.optimizer !== 'lbfgs') stopAfter = bestEpoch(fold, training.checkpoint).epoch;
  }
  options.onPhase?.('training');
  const holdout = rows.validation === 'holdout' ? rows.pairs[0]! : undefined;
  const final = training
    ? await fit({
        ...shared,
        module: await make(config, rows.support),
        train: rows.support,
        training,
        ...(holdout ? { val: holdout.val } : {}),
        ...(stopAfter === undefined ? {} : { stopAfter }),
        ...(options.onMetric ? { onMetric: options.onMetric } : {}),
        // who takes checkpoints looks at the signal itself, after saving one
        ...(options.afterStep ? { afterStep: options.afterStep } : options.signal ? { signal: options.signal } : {}),
        ...(options.resume ? { resume: options.resume } : {}),
      })
    : nothing;

  if (holdout) fold = [final];
  if (scansAfterwards) {
    options.onPhase?.('search');
    searched = await scan(options, grid!, config, fold);
    config = { ...config, ...searched[0]!.values };
  }
  const validation =
    searched[0]?.score ??
    (rows.pairs.length === 0
      ? undefined
      : training
        ? foldScore(fold, training.checkpoint)
        : await plainScore(options, config));
  let calibration: Calibration | undefined;
  if (options.calibrate && rows.pairs.length > 0) {
    if (stopAfter !== undefined) options.onPhase?.('calibration');
    const pairs: Parameters<typeof calibrateHeldOut>[1][number][] = [];
    for (const [i, pair] of rows.pairs.entries()) {
      // each fold kept the epoch that suits itself; what counts is the training that ends where the final one does
      const { values } =
        stopAfter === undefined
          ? (fold[i] ?? (await onPair(config, pair)))
          : await fit({
              ...shared,
              module: await make(config, pair.train),
              train: pair.train,
              training: training!,
              stopAfter,
              ...(options.signal ? { signal: options.signal } : {}),
            });
      pairs.push({ val: pair.val, module: await make(config, pair.train), values });
    }
    calibration = await calibrateHeldOut(runtime, pairs, threadsOf(recipe));
  }
  return { ...final, config, searched, ...(validation ? { validation } : {}), ...(calibration ? { calibration } : {}) };
}

export function threadsOf({ threads }: Pick<Recipe, 'threads'>): SessionOptions {
  return threads === undefined ? {} : { threads };
}

const nothing: Fit = { values: {}, epoch: 0, history: [] };

function foldScore(fits: readonly Fit[], checkpoint: 'best' | 'last'): Score | undefined {
  return fits.length && fits.every((f) => f.history.length) ? bestEpoch(fits, checkpoint).score : undefined;
}

async function plainScore(
  { runtime, recipe, make, rows }: ChooseOptions,
  config: Record<string, unknown>,
): Promise<Score> {
  const scores: Score[] = [];
  for (const pair of rows.pairs) {
    const classifier = await openClassifier(runtime, await make(config, pair.train), {}, threadsOf(recipe));
    try {
      scores.push(await score(classifier, pair.val));
    } finally {
      await classifier.release();
    }
  }
  return mean(scores);
}

const askedAhead = 8;

/** Tries settings that need no training again, on each pair with the values trained for it. */
async function scan(
  options: ChooseOptions,
  grid: Search['grid'],
  config: Record<string, unknown>,
  fits: readonly Fit[],
): Promise<Chosen['searched']> {
  const { runtime, recipe, rows, make } = options;
  const tried = combinations(grid);
  const scores: Score[][] = tried.map(() => []);
  for (const [i, pair] of rows.pairs.entries()) {
    const trained: Tensors = fits[i]?.values ?? {};
    const classifier = await openClassifier(
      runtime,
      await make(config, pair.train),
      trained,
      threadsOf(recipe),
    );
    try {
      const scoreOf = await scorer(classifier, pair.val);
      // several at once: the next are computed while one is scored; not all, since their logits wait in memory
      for (let start = 0; start < tried.length; start += askedAhead) {
        const found = await Promise.all(tried.slice(start, start + askedAhead).map((values) =>
          scoreOf(Object.fromEntries(Object.entries(values).map(([name, v]) => [name, scalar(v)])))));
        found.forEach((score, j) => scores[start + j]!.push(score));
      }
    } finally {
      await classifier.release();
    }
  }
  return ranked(tried.map((values, j) => ({ values, score: mean(scores[j]!) })));
}

function mean(scores: readonly Score[]): Score {
  const average = (pick: (s: Score) => number): number => scores.reduce((sum, s) => sum + pick(s), 0) / scores.length;
  return { accuracy: average((s) => s.accuracy), loss: average((s) => s.loss) };
}

/** Best first; equals keep their order in the grid. */
function ranked(tried: Chosen['searched']): Chosen['searched'] {
  return [...tried].sort((a, b) => (better(a.score, b.score) ? -1 : better(b.score, a.score) ? 1 : 0));
}

/** The epoch with the best mean score over the folds, from 1 on. */
function bestEpoch(fits: readonly Fit[], checkpoint: 'best' | 'last'): { epoch: number; score: Score } {
  const epochs = Math.min(...fits.map((f) => f.history.length));
  let best: { epoch: number; score: Score } | undefined;
  for (let e = checkpoint === 'last' ? epochs - 1 : 0; e < epochs; e++) {
    const now = mean(fits.map((f) => f.history[e]!));
    if (better(now, best?.score)) best = { epoch: e + 1, score: now };
  }
  return best!;
}
