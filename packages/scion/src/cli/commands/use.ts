/** `scion eval` and `scion predict`: what a finished run is for. */
import type { Command } from 'commander';
import {
  type Device,
  type Evaluation,
  type ImagePrediction,
  type Issue,
  type Prediction,
  type Run,
  type RunOptions,
  ScionError,
  isLanguageTask,
  loadRun,
  taskOf,
} from '../../index.js';
import {
  Progress,
  calibrationErrors,
  interruptible,
  note,
  percent,
  print,
  printable,
  table,
  watchSource,
} from '../output.js';
import { addFlags, deviceFlag, deviceOf, generationFlags, givenFlags, withFlagNames } from '../recipe-flags.js';
import { answerQuestion, evaluateLanguage } from './ask.js';

interface Options {
  features?: string;
  data?: string;
  model?: string;
  revision?: string;
  reject?: string | boolean;
  skipBad?: boolean;
  device?: string;
  cache: boolean;
  json?: boolean;
}
/** Of 100 pictures like those of training, as many are kept where `--reject` says nothing else. */
const defaultKeep = 0.95;
const rejectHelp =
  'say "none of these" below the probability that this share of validation rows reaches (0.95 where not given)';

export function addUse(program: Command): void {
  const evaluate = shared(program.command('eval <run>'))
    .summary('how good a run is: per class, confusion, calibration; answers or captions')
    .description(
      'Evaluates a run on test pictures or the test split of a feature file, by default those of its training. A run of ' +
        'questions or captions is evaluated on the test split of its data, or of others in the same layouts.',
    )
    .option('--features <file>', 'feature file with test.features and test.labels')
    .option('--data <path>', 'pictures below test/<class>, or a manifest with a test split')
    .option('--no-cache', 'neither take features from the cache nor keep them there')
    .option('--json', 'print the result as JSON (accuracy, loss, ece, per_class, confusion)')
    .action(async (path: string, options: Options) => {
      const issues: Issue[] = [];
      if (options.features !== undefined && options.data !== undefined) {
        issues.push({ path: '--data', message: 'is given beside --features; choose one' });
      }
      const reject = keepOf(options, issues);
      ignored(options, issues);
      const device = deviceOf(options.device, issues);
      const asking = isLanguageTask(await taskOf(path));
      if (asking) forClasses(['--features', '--reject'], [options.features, options.reject], issues);
      else ofWriting({ ...options }, path, issues);
      if (issues.length > 0) throw new ScionError('usage', issues);
      if (asking) return evaluateLanguage(path, options.data, { ...options });
      const left: string[] = [];
      await withRun(path, { ...options, device }, left, async (run) => {
        const { features, data } = options;
        const found = await run.evaluate({ features, data }, { reject });
        print(options.json === true, evaluationJson(run, found, left), () => evaluationText(run, found));
      });
    });

  const predict = shared(program.command('predict <run> [pictures...]'))
    .summary('classes and probabilities of pictures or features; answers to a question')
    .description(
      'Predicts pictures (files, or folders that stand for all pictures in and below them) with the backbone that ' +
        'the run was trained on, or every row of a feature file: `test.features` or `features`, labels are not needed.',
    )
    .option('--features <file>', 'feature file instead of pictures')
    .option('--question <text>', 'what is asked about the pictures, of a run of the task vqa')
    .option('--top <n>', 'classes to list', '5')
    .option('--json', 'print the predictions as JSON')
    .action(async (path: string, pictures: string[], options: Options & { top: string; question?: string }) => {
      const issues: Issue[] = [];
      const top = Number(options.top);
      if (!Number.isInteger(top) || top < 1) {
        issues.push({ path: '--top', message: `${options.top}: expected a whole number from 1 on` });
      }
      const reject = keepOf(options, issues);
      ignored(options, issues);
      const device = deviceOf(options.device, issues);
      const { features, question } = options;
      if (features === undefined && question === undefined && pictures.length === 0) {
        issues.push({ path: '--features', message: 'missing: name pictures, or the file with the features to predict' });
        throw new ScionError('usage', issues);
      }
      const task = await taskOf(path);
      if (isLanguageTask(task)) {
        forClasses(['--features', '--reject'], [features, options.reject], issues);
        if (task === 'caption') {
          issues.push({ path, message: 'is a run that describes pictures; use scion caption' });
        } else if (question === undefined) {
          issues.push({ path: '--question', message: 'missing: the run answers questions, ask one' });
        }
        if (pictures.length === 0) issues.push({ path: 'pictures', message: 'missing: name a picture to ask about' });
        if (issues.length > 0) throw new ScionError('usage', issues);
        return answerQuestion(path, pictures, question!, { ...options }, top);
      }
      ofWriting({ ...options }, path, issues);
      if (question !== undefined) {
        issues.push({ path: '--question', message: `is for runs of the task vqa; ${path} tells classes apart, leave it out` });
      }
      if (features === undefined && pictures.length === 0) {
        issues.push({
          path: '--features',
          message: 'missing: name pictures, or the file with the features to predict',
        });
      }
      if (features !== undefined && pictures.length > 0) {
        issues.push({ path: '--features', message: 'is given beside pictures; choose one' });
      }
      if (issues.length > 0) throw new ScionError('usage', issues);
      const left: string[] = [];
      await withRun(path, { ...options, device }, left, async (run) => {
        const predictions: (Prediction | ImagePrediction)[] =
          features === undefined
            ? await run.predictImages(pictures, { top, reject })
            : await run.predictFile(features, { top, reject });
        const source = features === undefined ? { left_out: left } : { features };
        print(options.json === true, { run: path, ...source, predictions }, () =>
          predictions.map((prediction, row) => predictionLine(prediction, row)).join('\n'),
        );
      });
    });
  for (const command of [evaluate, predict]) addFlags(command, generationFlags);
}

/** What says how texts are written is refused for runs that tell classes apart. */
function ofWriting(options: Record<string, unknown>, path: string, issues: Issue[]): void {
  for (const flag of givenFlags(options, generationFlags)) {
    issues.push({ path: flag, message: `is for runs that write texts; ${path} tells classes apart, leave it out` });
  }
}

/** What a run of a task with words has no use for is refused. */
function forClasses(flags: readonly string[], values: readonly unknown[], issues: Issue[]): void {
  flags.forEach((path, i) => {
    if (values[i] !== undefined) issues.push({ path, message: 'is for runs that tell classes apart; leave it out' });
  });
}

function shared(command: Command): Command {
  return command
    .option('--model <name|path|org/name>', 'the backbone, where it is not where it was in training')
    .option('--revision <name>', 'branch, tag or commit of a model of the hub')
    .option('--skip-bad', 'leave out pictures that cannot be read, instead of stopping')
    .option('--reject [share]', rejectHelp)
    .option(deviceFlag.flag, 'what the model is computed on: cpu (the default), webgpu or cuda');
}

/** What means something for pictures only is refused where features are given. */
function ignored({ features, model, revision, skipBad }: Options, issues: Issue[]): void {
  if (revision !== undefined && model === undefined) {
    issues.push({ path: '--revision', message: 'is of a model of the hub; name it with --model, or leave it out' });
  }
  if (features === undefined) return;
  for (const [path, value] of [
    ['--model', model],
    ['--skip-bad', skipBad],
  ] as const) {
    if (value !== undefined) issues.push({ path, message: 'is for pictures, not for a feature file; leave it out' });
  }
}

/** The share of known pictures to keep. */
function keepOf({ reject }: Options, issues: Issue[]): number | undefined {
  if (reject === undefined || reject === false) return undefined;
  const keep = reject === true ? defaultKeep : Number(reject);
  if (keep > 0 && keep <= 1) return keep;
  issues.push({
    path: '--reject',
    message:
      `${String(reject)}: expected the share of known pictures to keep, above 0 and up to 1; ` +
      'name pictures before it',
  });
  return undefined;
}

async function withRun(
  path: string,
  options: Omit<Options, 'device'> & { device: Device | undefined },
  left: string[],
  use: (run: Run) => Promise<void>,
): Promise<void> {
  const progress = new Progress(options.json !== true);
  const watch = watchSource(progress);
  const more: RunOptions = {
    ...watch,
    model: options.model,
    revision: options.revision,
    skipBad: options.skipBad,
    cache: options.cache,
    device: options.device,
    signal: interruptible(),
    onBad: (error) => {
      left.push(error.issues[0]!.path);
      watch.onBad(error);
    },
  };
  const run = await withFlagNames({ ...options }, [deviceFlag], () => loadRun(path, more));
  try {
    await use(run);
    if (left.length > 0) note(`pictures left out: ${left.length}`);
  } finally {
    progress.end();
    await run.close();
  }
}

type Evaluated = Evaluation & { path: string };

function evaluationJson(run: Run, { path, perClass, raw, kept, groups, ...found }: Evaluated, left: string[]): unknown {
  const { accuracy, loss, ece, rows, confusion } = found;
  return {
    run: run.path,
    features: path,
    accuracy,
    loss,
    ece,
    raw_loss: raw.loss,
    raw_ece: raw.ece,
    temperature: run.info.result?.calibration?.temperature ?? 1,
    rows,
    ...(groups ? { groups } : {}),
    ...(kept ? { kept } : {}),
    left_out: left,
    per_class: perClass.map((c, k) => ({ class: run.classNames[k]!, ...c })),
    class_names: run.classNames,
    confusion,
  };
}

function evaluationText(run: Run, found: Evaluated): string {
  const { accuracy, loss, ece, rows, raw, kept, groups, perClass, confusion } = found;
  return [
    `accuracy ${percent(accuracy)} of ${rows} rows, loss ${loss.toFixed(4)}, ${calibrationErrors(ece, raw.ece)}`,
    ...Object.entries(groups ?? {}).map(([name, group]) =>
      `${printable(name)}: accuracy ${percent(group.accuracy)} of ${group.rows} rows`),
    ...(kept
      ? [
          `kept ${percent(kept.coverage)} of the rows (probability from ${kept.threshold.toFixed(4)} on)` +
            (kept.accuracy === undefined ? '' : `, accuracy of these ${percent(kept.accuracy)}`),
        ]
      : []),
    '',
    table(
      ['class', 'rows', 'accuracy', 'most often taken for'],
      perClass.map((c, k) => [
        printable(run.classNames[k]!),
        String(c.rows),
        c.accuracy === undefined ? '–' : percent(c.accuracy),
        takenFor(confusion[k]!, k, run.classNames),
      ]),
    ),
  ].join('\n');
}

function predictionLine(prediction: Prediction | ImagePrediction, row: number): string {
  const name = 'path' in prediction ? printable(prediction.path) : String(row);
  const listed = prediction.classes.map((c) => `${printable(c.label)} ${percent(c.probability)}`);
  return [name, ...(prediction.label === null ? ['none of these'] : []), ...listed].join('\t');
}

/** The class that most of a class's misses went to. */
function takenFor(line: readonly number[], label: number, names: readonly string[]): string {
  const misses = line.map((n, k) => (k === label ? 0 : n));
  const most = Math.max(...misses);
  return most === 0 ? '' : `${printable(names[misses.indexOf(most)]!)} (${most})`;
}
