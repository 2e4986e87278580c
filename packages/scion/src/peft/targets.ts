/** Which modules of a tree an adapter goes to, by the rules of Python's PEFT. */
import { z } from 'zod';
import { Conv2d } from '../nn/conv.js';
import { Linear } from '../nn/layers.js';
import type { Module } from '../nn/module.js';
import { nearest } from '../util/errors.js';
import { refuse } from './backbone-method.js';
import { checkLayers } from './towers.js';

export type Adaptable = Linear | Conv2d;

/** Names as a list, which may be given as text with commas, as on a command line; other text stays what it is. */
export const nameList = z.union([z.string().min(1), z.array(z.string().min(1)).min(1)])
  .transform((given) => (typeof given === 'string' && /^[\w.-]+(,[\w.-]+)*$/.test(given) && !keywords.includes(given)
    ? given.split(',') : given));
const keywords = ['all', 'all-linear'];

/** What the projections of attention are called in BERT and ViT, and, fused, in GPT-2: as PEFT's defaults by type of model. */
const synonyms: Readonly<Record<string, readonly string[]>> = {
  q_proj: ['query', 'c_attn'], k_proj: ['key', 'c_attn'], v_proj: ['value', 'c_attn'],
};

/** The projections that `names` mean, under the names that this model has for them. */
export function namesIn(model: Module, names: readonly string[]): string[] {
  const paths = [...model.modules()].flatMap(([path, module]) => (adaptable(module) ? [path] : []));
  const there = (name: string): boolean => paths.some((path) => endsWith(path, name));
  return [...new Set(names.map((name) => [name, ...(synonyms[name] ?? [])].find(there) ?? name))];
}

/** Whether a path is the name or ends with it, by whole parts. */
export const endsWith = (path: string, name: string): boolean => path === name || path.endsWith(`.${name}`);

const adaptable = (module: Module): module is Adaptable => module instanceof Linear || module instanceof Conv2d;

export interface TargetOptions {
  /** A list of names or ends of paths, a regular expression on the whole path, or `all-linear`. */
  target_modules: string | readonly string[];
  /** Numbers of the layers, from 0 on; all where absent. */
  layers_to_transform?: readonly number[] | undefined;
  /** Modules that are left out: names or ends of paths, or a regular expression on the whole path. */
  exclude_modules?: string | readonly string[] | undefined;
}

/**
 * The frozen modules that the options name, with their paths.
 * @throws ScionError where a name, the expression or a layer matches nothing; it lists the nearest names
 */
export function findTargets(model: Module, options: TargetOptions): [path: string, module: Adaptable][] {
  const all = [...model.modules()].filter((entry): entry is [string, Adaptable] =>
    adaptable(entry[1]) && entry[1].weight.origin.kind !== 'trained' && !isLeftOut(entry[0], options));
  const { target_modules: targets, layers_to_transform: layers } = options;
  const hint = [...model.modules()].map(([, { limitation }]) => (limitation === undefined ? '' : `; ${limitation}`)).join('');
  const named = typeof targets === 'string' ? byExpression(all, targets, hint) : byList(all, targets, hint);
  if (layers === undefined) return named;
  const numberOf = (path: string): number => Number(/\.(\d+)\./.exec(path)?.[1] ?? -1);
  checkLayers('layers_to_transform', layers, named.map(([path]) => numberOf(path)), 'target module lies in such a layer');
  // as in PEFT, a module that is named by its whole path is taken whatever its layer
  const whole = typeof targets === 'string' ? [] : targets;
  const found = named.filter(([path]) => whole.includes(path) || layers.includes(numberOf(path)));
  const empty = whole.filter((name) => !found.some(([path]) => endsWith(path, name)));
  if (empty.length > 0) {
    refuse(['layers_to_transform', `${layers.join(', ')}: no module in these layers is one of the target_modules `
      + `${empty.join(', ')}; leave these out, or name other layers`]);
  }
  return found;
}

function isLeftOut(path: string, { exclude_modules: left = [] }: TargetOptions): boolean {
  return typeof left === 'string' ? wholePath('exclude_modules', left).test(path) : left.some((name) => endsWith(path, name));
}

function wholePath(option: string, text: string): RegExp {
  const unbounded = text.match(/[*+]|\{\d+,\}/g)?.length ?? 0;
  if (text.length > longest || unbounded > mostUnbounded || /\)[*+{]/.test(text)) {
    refuse([option, `${JSON.stringify(text.slice(0, 80))} could keep the matching busy without end: expected at most ${longest} `
      + `characters, ${mostUnbounded} of *, + and {n,}, and none of these behind a group; name modules in a list`]);
  }
  try {
    return new RegExp(`^(?:${text})$`);
  } catch (cause) {
    return refuse([option, `${JSON.stringify(text)} is no regular expression: ${(cause as Error).message}`]);
  }
}

/** Of an expression, which others may have written. */
const longest = 1000;
const mostUnbounded = 4;

/** An expression for the end of a path, from a dot on. */
function atEnd(option: string, text: string): RegExp {
  wholePath(option, text);
  return new RegExp(`^(?:.*\\.)?(?:${text})$`);
}

type Entries = readonly [string, Adaptable][];

/** @param hint why the model may have fewer layers than one expects, for messages */
function byExpression(all: Entries, text: string, hint: string): [string, Adaptable][] {
  if (text === 'all-linear') {
    const found = all.filter(([, module]) => module instanceof Linear);
    return found.length > 0 ? found : refuse(['target_modules', `all-linear: the model has no linear layer${hint}`]);
  }
  const expression = wholePath('target_modules', text);
  const found = all.filter(([path]) => expression.test(path));
  if (found.length > 0) return found;
  return refuse(['target_modules', `${JSON.stringify(text)} matches the whole path of no linear layer or convolution; `
    + `paths are like ${examples(all, text)}${hint}`]);
}

function byList(all: Entries, names: readonly string[], hint: string): [string, Adaptable][] {
  const unknown = names.filter((name) => !all.some(([path]) => endsWith(path, name)));
  if (unknown.length > 0) {
    refuse(...unknown.map((name): [string, string] => ['target_modules',
      `${JSON.stringify(name)} is the end of the path of no linear layer or convolution; there are ${examples(all, name)}${hint}`]));
  }
  return all.filter(([path]) => names.some((name) => endsWith(path, name)));
}

/** The nearest ends of paths. */
function examples(all: Entries, name: string): string {
  const parts = name.split('.').length > 1 ? -2 : -1;
  const ends = [...new Set(all.map(([path]) => path.split('.').slice(parts).join('.')))];
  return nearest(name, ends).join(', ') || 'none';
}

/**
 * Values by path, as PEFT's `rank_pattern`: of the first key that is an end of the path, or an expression for one.
 * @param paths those that have a value
 * @param strict whether a key that matches none of them is refused; PEFT ignores it
 * @throws ScionError where a key is no expression or matches none of the paths
 */
export function byPattern(
  option: string, patterns: Readonly<Record<string, number>>, otherwise: number, paths: readonly string[],
  strict: boolean,
): (path: string) => number {
  const keys = Object.entries(patterns).map(([key, value]) =>
    ({ key, value, expression: atEnd(option, key) }));
  for (const { key, expression } of keys) {
    if (!strict || paths.some((path) => expression.test(path))) continue;
    const ends = [...new Set(paths.map((path) => path.split('.').slice(-1).join('.')))];
    refuse([option, `${JSON.stringify(key)} matches no target module; there are ${nearest(key, ends).join(', ')}`]);
  }
  return (path) => keys.find(({ expression }) => expression.test(path))?.value ?? otherwise;
}
