/** What runs of tasks with words are for: `scion caption`, and the parts of `eval` and `predict` that are theirs. */
import type { Command } from 'commander';
import {
  type GenerationOptions, type Issue, type LanguageEvaluation, type LanguageRun, type LanguageRunOptions, ScionError, loadLanguageRun,
} from '../../index.js';
import { Progress, interruptible, note, percent, print, printable, table, watchSource } from '../output.js';
import { addFlags, deviceFlag, deviceOf, generationFlags, putFlags, withFlagNames } from '../recipe-flags.js';
import { metricsText } from '../report/metrics.js';

export interface AskOptions {
  model?: string;
  revision?: string;
  skipBad?: boolean;
  device?: string;
  cache?: boolean;
  json?: boolean;
}

export function addAsk(program: Command): void {
  const command = program
    .command('caption <run> <pictures...>')
    .summary('describe pictures with a run of the task caption')
    .description('Writes a caption for each picture: files, or folders that stand for all pictures in and below them.')
    .option('--model <name|path|org/name>', 'the encoder of pictures, where it is not where it was in training')
    .option('--revision <name>', 'branch, tag or commit of a model of the hub')
    .option('--skip-bad', 'leave out pictures that cannot be read, instead of stopping')
    .option(deviceFlag.flag, 'what the models are computed on: cpu (the default), webgpu or cuda')
    .option('--json', 'print the captions as JSON');
  addFlags(command, generationFlags);
  command.action((path: string, pictures: string[], options: AskOptions & Record<string, unknown>) =>
    withLanguageRun(path, options, async (run) => {
      const captions = await run.caption(pictures, generationOf(options));
      print(options.json === true, { run: path, captions }, () =>
        captions.map(({ path: file, caption }) => `${printable(file)}  ${printable(caption)}`).join('\n'));
    }));
}

/** `scion predict RUN IMAGE… --question "…"` */
export function answerQuestion(
  path: string, pictures: readonly string[], question: string, options: AskOptions & Record<string, unknown>, top: number,
): Promise<void> {
  return withLanguageRun(path, options, async (run) => {
    const answers = await run.answer(pictures, question, { top, ...generationOf(options) });
    print(options.json === true, { run: path, answers }, () => answers.map(({ path: file, answer, choices = [] }) =>
      [`${printable(file)}  ${printable(answer)}`,
        ...choices.map((choice) => `  ${choice.score.toFixed(4)}  ${printable(choice.answer)}`)].join('\n')).join('\n'));
  });
}

/** `scion eval RUN` of a task with words. */
export function evaluateLanguage(
  path: string, data: string | undefined, options: AskOptions & Record<string, unknown>,
): Promise<void> {
  return withLanguageRun(path, options, async (run) => {
    const found = await run.evaluate({ data }, generationOf(options));
    const { report, metrics, said, ...rest } = found;
    print(options.json === true, { run: path, task: run.info.task, ...rest, ...metrics, ...report, said }, () => evaluationText(found));
  });
}

function evaluationText({ metrics, examples, split, report }: LanguageEvaluation): string {
  const types = Object.entries(report?.perQuestionType ?? {});
  return [
    `${metricsText(metrics)}, ${examples} ${split} examples`,
    ...(types.length === 0 ? [] : ['', table(['type of question', 'questions', 'accuracy'],
      types.map(([type, { questions, accuracy }]) => [printable(type), String(questions), percent(accuracy)]))]),
  ].join('\n');
}

function generationOf(options: Record<string, unknown>): GenerationOptions {
  const recipe: { generation?: GenerationOptions } = {};
  const issues: Issue[] = [];
  putFlags(recipe, options, generationFlags, issues);
  if (issues.length > 0) throw new ScionError('usage', issues);
  return recipe.generation ?? {};
}

async function withLanguageRun(
  path: string, options: AskOptions & Record<string, unknown>, use: (run: LanguageRun) => Promise<void>,
): Promise<void> {
  const issues: Issue[] = [];
  const device = deviceOf(options.device, issues);
  if (options.revision !== undefined && options.model === undefined) {
    issues.push({ path: '--revision', message: 'is of a model of the hub; name it with --model, or leave it out' });
  }
  if (issues.length > 0) throw new ScionError('usage', issues);
  const progress = new Progress(options.json !== true);
  const watch = watchSource(progress);
  let left = 0;
  const more: LanguageRunOptions = {
    ...watch, device, model: options.model, revision: options.revision, skipBad: options.skipBad, cache: options.cache,
    signal: interruptible(),
    onBad: (error) => {
      left++;
      watch.onBad(error);
    },
  };
  const flags = [deviceFlag, ...generationFlags.map((flag) => ({ ...flag, path: flag.path.replace('generation.', '') }))];
  await withFlagNames({ ...options }, flags, async () => {
    const run = await loadLanguageRun(path, more);
    try {
      await use(run);
      if (left > 0) note(`pictures left out: ${left}`);
    } finally {
      progress.end();
      await run.close();
    }
  });
}
