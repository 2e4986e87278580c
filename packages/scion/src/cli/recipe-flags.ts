/** The flags that stand for values of a recipe, in one table; a recipe file comes first, flags on top. */
import { readFile } from 'node:fs/promises';
import { dirname, extname, resolve } from 'node:path';
import type { Command } from 'commander';
import { parse as parseYaml } from 'yaml';
import {
  type Device, type Issue, ScionError, describeField, describeLanguageField, devices, inputError, isBuiltInData, modelFrom,
} from '../index.js';

interface Flag {
  /** As commander writes it. */
  flag: string;
  /** Where the value goes in the recipe. */
  path: string;
  kind?: 'number' | 'numbers' | 'list' | 'texts' | 'switch' | 'off';
  /** Instead of the recipe's own description. */
  help?: string;
}

/** What `scion features` has in common with a recipe on pictures. */
export const pictureFlags: Flag[] = [
  { flag: '--data <path>', path: 'data' },
  { flag: '--model <name|path|org/name>', path: 'model' },
  { flag: '--revision <name>', path: 'revision' },
  { flag: '--model-dtype <name>', path: 'model_dtype' },
  { flag: '--adapter <folder>', path: 'adapter' },
  {
    flag: '--template <text>',
    path: 'templates',
    kind: 'texts',
    help: 'prompt with {} for the class name; may be given several times',
  },
  { flag: '--templates <set>', path: 'templates' },
  { flag: '--descriptions <file>', path: 'descriptions' },
  { flag: '--views <n>', path: 'views', kind: 'number' },
  { flag: '--view-seed <n>', path: 'view_seed', kind: 'number' },
  { flag: '--no-flip', path: 'flip', kind: 'off', help: 'never mirror a view, as for pictures with writing' },
  { flag: '--skip-bad', path: 'skip_bad', kind: 'switch' },
  { flag: '--no-cache', path: 'cache', kind: 'off', help: 'neither take features from the cache nor keep them there' },
];

export const deviceFlag: Flag = { flag: '--device <name>', path: 'device' };

const shared: Flag[] = [
  { flag: '--features <file>', path: 'features' },
  ...pictureFlags,
  { flag: '--validation <how>', path: 'validation' },
  { flag: '--search <when>', path: 'search' },
  { flag: '--strict-shots', path: 'strict_shots', kind: 'switch' },
  { flag: '--threads <n>', path: 'threads', kind: 'number' },
  deviceFlag,
  { flag: '--epochs <n>', path: 'training.epochs', kind: 'number' },
  { flag: '--lr <x>', path: 'training.lr', kind: 'number' },
  { flag: '--batch-size <n>', path: 'training.batch_size', kind: 'number' },
  { flag: '--optimizer <name>', path: 'training.optimizer' },
  { flag: '--schedule <name>', path: 'training.schedule' },
  { flag: '--warmup-epochs <n>', path: 'training.warmup_epochs', kind: 'number' },
  { flag: '--weight-decay <x>', path: 'training.weight_decay', kind: 'number' },
  { flag: '--max-grad-norm <x>', path: 'training.max_grad_norm', kind: 'number' },
  { flag: '--label-smoothing <x>', path: 'training.label_smoothing', kind: 'number' },
  { flag: '--class-weights <how>', path: 'training.class_weights' },
  { flag: '--recompute', path: 'training.recompute', kind: 'switch' },
  { flag: '--patience <epochs>', path: 'training.patience', kind: 'number' },
  { flag: '--checkpoint <which>', path: 'training.checkpoint' },
];

export const trainFlags: Flag[] = [
  { flag: '--method <name>', path: 'method' },
  { flag: '--shots <n>', path: 'shots', kind: 'number' },
  { flag: '--seed <n>', path: 'seed', kind: 'number' },
  ...shared,
];

/** Values of a generation, which can be set when texts are written too. */
export const generationFlags: Flag[] = [
  { flag: '--max-new-tokens <n>', path: 'generation.max_new_tokens', kind: 'number' },
  { flag: '--num-beams <n>', path: 'generation.num_beams', kind: 'number' },
  { flag: '--length-penalty <x>', path: 'generation.length_penalty', kind: 'number' },
  { flag: '--no-repeat-ngram-size <n>', path: 'generation.no_repeat_ngram_size', kind: 'number' },
  { flag: '--do-sample', path: 'generation.do_sample', kind: 'switch' },
  { flag: '--temperature <x>', path: 'generation.temperature', kind: 'number' },
  { flag: '--top-k <n>', path: 'generation.top_k', kind: 'number' },
  { flag: '--top-p <x>', path: 'generation.top_p', kind: 'number' },
].map((flag) => ({ ...flag, help: describeLanguageField(flag.path) }) as Flag);

const languageOnly: Flag[] = [
  ...[
    { flag: '--task <name>', path: 'task' },
    { flag: '--text-model <name|path|org/name>', path: 'text_model' },
    { flag: '--text-revision <name>', path: 'text_revision' },
    { flag: '--visual <what>', path: 'visual' },
    { flag: '--no-prefix', path: 'prefix', kind: 'off' },
    { flag: '--head <how>', path: 'head' },
    { flag: '--answers <n>', path: 'answers', kind: 'number' },
    { flag: '--examples <n>', path: 'examples', kind: 'number' },
    { flag: '--val-examples <n>', path: 'val_examples', kind: 'number' },
    { flag: '--test-examples <n>', path: 'test_examples', kind: 'number' },
    { flag: '--max-length <n>', path: 'max_length', kind: 'number' },
  ].map((flag) => ({ ...flag, help: describeLanguageField(flag.path) }) as Flag),
  ...generationFlags,
];

/** Of `scion train`: classes of pictures, or a task with words. What is of the other kind is refused by the recipe. */
export const allTrainFlags: Flag[] = [...trainFlags, ...languageOnly];

export const compareFlags: Flag[] = [
  { flag: '--features <file...>', path: 'features', help: 'feature files, one for each data set' },
  { flag: '--data <path...>', path: 'data', help: 'pictures: folders, manifests or the built-in picto-11, a data set each' },
  {
    flag: '--methods <a,b>',
    path: 'methods',
    kind: 'list',
    help: 'methods, with commas between them; a variant is graph-adapter:beta=0.7:training.lr=0.01:search=off',
  },
  { flag: '--shots <n,…>', path: 'shots', kind: 'numbers', help: 'training rows per class (default 1,2,4,8,16)' },
  { flag: '--seeds <n,…>', path: 'seeds', kind: 'numbers', help: 'of everything random (default 1,2,3)' },
  {
    flag: '--threads <n>',
    path: 'threads',
    kind: 'number',
    help: 'threads of each training; up to four go side by side and share the cores',
  },
  ...shared.filter(({ path }) => !['features', 'data', 'threads'].includes(path)),
];

/** Of `scion compare`: classes of pictures, or a task with words. */
export const allCompareFlags: Flag[] = [...compareFlags, ...languageOnly];

export function addRecipeFlags(command: Command, flags: readonly Flag[]): Command {
  command.option('--recipe <file>', 'YAML or JSON with all of this; flags come on top');
  addFlags(command, flags);
  return command.option(
    '--set <key=value>',
    'a hyper-parameter of the method, e.g. --set beta=0.7 (in compare: graph-adapter.beta=0.7)',
    several,
  );
}

export function addFlags(command: Command, flags: readonly Flag[]): void {
  for (const { flag, path, help, kind } of flags) {
    const text = help ?? describeField(path);
    if (kind === 'texts') command.option(flag, text, several);
    else command.option(flag, text);
  }
}

const several = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value];

/** What `--device` names, where it stands for no value of a recipe. */
export function deviceOf(value: string | undefined, issues: Issue[]): Device | undefined {
  const found = devices.find((device) => device === value);
  if (value !== undefined && !found) {
    issues.push({ path: '--device', message: `${value}: expected one of ${devices.join(', ')}; see scion doctor` });
  }
  return found;
}

/** `--warmup-epochs <n>` → `warmupEpochs`, as commander names it. */
const optionKey = (flag: string): string =>
  flag
    .split(' ')[0]!
    .slice(2)
    .replace(/^no-/, '')
    .replace(/-([a-z])/g, (_, c: string) => c.toUpperCase());

/**
 * The recipe of a command line, checked by `check`. What is wrong with the flags, with the recipe and in `more` is
 * reported at once.
 */
export async function readRecipe<T>(
  options: Record<string, unknown>,
  flags: readonly Flag[],
  check: (recipe: Record<string, unknown>) => unknown,
  more: readonly Issue[] = [],
): Promise<T> {
  const recipe = typeof options.recipe === 'string' ? await readRecipeFile(options.recipe) : {};
  const issues: Issue[] = [...more];
  putFlags(recipe, options, flags, issues);
  for (const entry of (options.set ?? []) as string[]) {
    const [, key, value] = /^([^=]+)=(.*)$/.exec(entry) ?? [];
    if (key === undefined)
      issues.push({ path: '--set', message: `${JSON.stringify(entry)}: expected key=value, e.g. --set beta=0.7` });
    else put(recipe, ['config', ...key.split('.')], scalarOf(value!), '--set', issues);
  }
  try {
    check(recipe);
  } catch (error) {
    if (!(error instanceof ScionError)) throw error;
    issues.push(...error.issues);
  }
  if (issues.length > 0) throw new ScionError('usage', issues);
  return recipe as T;
}

/** Whether a task with words is asked for, by flag or in the recipe. */
export async function givesTask(options: Record<string, unknown>): Promise<boolean> {
  return options.task !== undefined || (typeof options.recipe === 'string' && 'task' in await readRecipeFile(options.recipe));
}

/** The names of the flags that were given. */
export const givenFlags = (options: Record<string, unknown>, flags: readonly Flag[]): string[] =>
  flags.filter((flag) => isGiven(options, flag)).map(({ flag }) => flag.split(' ')[0]!);

/** Of a flag that begins with --no-, commander says true where it is not given, whether it takes a value or not. */
const isGiven = (options: Record<string, unknown>, { flag }: Flag): boolean => {
  const value = options[optionKey(flag)];
  return value !== undefined && !(flag.startsWith('--no-') && value === true);
};

/** Puts what was given by flags into a recipe. */
export function putFlags(
  recipe: Record<string, unknown>,
  options: Record<string, unknown>,
  flags: readonly Flag[],
  issues: Issue[],
): void {
  const by = new Map<string, string>();
  for (const flag of flags) {
    if (!isGiven(options, flag)) continue;
    const { path, kind } = flag;
    const value = options[optionKey(flag.flag)];
    const name = flag.flag.split(' ')[0]!;
    const other = by.get(path);
    if (other !== undefined) issues.push({ path: name, message: `is given beside ${other}; choose one` });
    by.set(path, name);
    put(recipe, path.split('.'), convert(value, kind), path, issues);
  }
}

/** Names the flag where a value came from one: users do not know `training.lr` when they typed `--lr`. */
export async function withFlagNames<T>(
  options: Record<string, unknown>,
  flags: readonly Flag[],
  body: () => Promise<T>,
): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if (!(error instanceof ScionError)) throw error;
    throw new ScionError(
      error.kind,
      error.issues.map((issue) => {
        const own = flags.filter((f) => f.path === issue.path);
        const flag = own.find((f) => isGiven(options, f)) ?? (options.recipe === undefined ? own[0] : undefined);
        return flag ? { ...issue, path: flag.flag.split(' ')[0]! } : issue;
      }),
      { cause: error },
    );
  }
}

/** Numbers where a number is meant; anything else stays as it is, for the recipe's own check to name. */
function convert(value: unknown, kind: Flag['kind']): unknown {
  if (typeof value !== 'string') return value;
  if (kind === 'list')
    return value
      .split(',')
      .map((v) => v.trim())
      .filter(Boolean);
  if (kind === 'numbers') return value.split(',').map((v) => scalarOf(v.trim()));
  return kind === 'number' ? scalarOf(value) : value;
}

function scalarOf(value: string): unknown {
  if (value === 'true' || value === 'false') return value === 'true';
  return value.trim() !== '' && Number.isFinite(Number(value)) ? Number(value) : value;
}

function put(target: Record<string, unknown>, path: string[], value: unknown, where: string, issues: Issue[]): void {
  if (path.includes('__proto__')) {
    issues.push({ path: where, message: `${path.join('.')}: __proto__ is no name of a value` });
    return;
  }
  let at = target;
  for (const key of path.slice(0, -1)) {
    const next = (at[key] ??= {});
    if (typeof next !== 'object' || next === null || Array.isArray(next)) {
      issues.push({ path: where, message: `${path.join('.')}: ${key} is not a group of values in the recipe` });
      return;
    }
    at = next as Record<string, unknown>;
  }
  Object.defineProperty(at, path.at(-1)!, { value, enumerable: true, configurable: true, writable: true });
}

/** Reads YAML or JSON; paths in it are relative to its folder. */
async function readRecipeFile(file: string): Promise<Record<string, unknown>> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw inputError(file, 'cannot be read; check the path of the recipe', { cause });
  });
  let value: unknown;
  try {
    value = extname(file) === '.json' ? JSON.parse(text) : parseYaml(text, { maxAliasCount: 0 });
  } catch (cause) {
    throw inputError(
      file,
      `is no ${extname(file) === '.json' ? 'JSON' : 'YAML'}: ${(cause as Error).message.split('\n')[0]}`,
      { cause },
    );
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw inputError(file, 'is no recipe, expected keys and values such as "method: graph-adapter"');
  }
  const recipe = value as Record<string, unknown>;
  const inFolder = (path: unknown): unknown =>
    (typeof path === 'string' && !isBuiltInData(path) ? resolve(dirname(file), path) : path);
  for (const key of ['features', 'data', 'descriptions', 'adapter']) {
    const value = recipe[key];
    if (value !== undefined) recipe[key] = Array.isArray(value) ? value.map(inFolder) : inFolder(value);
  }
  for (const key of ['model', 'text_model']) {
    const model = recipe[key];
    if (typeof model === 'string') recipe[key] = modelFrom(dirname(file), model);
  }
  return recipe;
}
