/** Classes that come and go in a finished run, into a new folder: what was trained for the others stays as it is. */
import { join } from 'node:path';
import { listPictures } from '../data/picture-list.js';
import { type FeatureMethod, type FeatureModule, getMethod } from '../peft/index.js';
import { withRuntime } from '../runtime/node.js';
import type { Tensors } from '../runtime/session.js';
import { inputError, unknownName, usageError } from '../util/errors.js';
import { Random } from '../util/random.js';
import { type Tensor, float32, numel, toFloat32 } from '../util/tensor.js';
import { type EncodeOptions, encodeTexts, openImageEncoder } from './encode.js';
import { hashPictures, promptsOf } from './pictures.js';
import { type StoredRun, readRun, storedInputs, storedModule } from './run.js';
import { checkFree, files, writeFinishedRun } from './run-folder.js';
import type { RunInfo } from './run-info.js';
import { type RunOptions, cacheOf, checkDim, openRunBackbone } from './run-pictures.js';
import { countValues, supportTensors } from './train.js';

export interface AddedClass {
  name: string;
  /** Files, or folders that stand for all pictures in and below them. */
  pictures: readonly string[];
  /** Texts about the class. Default: its name in the templates of the training. */
  texts?: readonly string[] | undefined;
}

export interface ChangedRun {
  path: string;
  info: RunInfo;
  /** What is to be known of the changed run. */
  notes: string[];
}

/** What a run is built on, by class and by row. */
interface Ground {
  readonly classNames: readonly string[];
  /** [K, templates, d] */
  readonly text: Tensor<'float32'> | undefined;
  /** [N, d] */
  readonly features: Tensor<'float32'>;
  readonly labels: readonly number[];
}

/**
 * A run with one class more, in the new folder `out`.
 * @throws ScionError: a method that cannot take a class, a name that is taken, pictures or a backbone that are missing
 */
export async function addClass(
  path: string, { name, pictures, texts }: AddedClass, out: string, options: RunOptions = {},
): Promise<ChangedRun> {
  const stored = await readChecked(path);
  const { info } = stored;
  const changes = changesOf(path, info, 'add');
  if (name.trim() === '') throw usageError('--name', 'is empty, expected the name of the class');
  if (info.class_names.includes(name)) {
    throw usageError('--name', `${JSON.stringify(name)} is a class of the run already; choose another name`);
  }
  await checkFree(out);
  const old = groundOf(stored);
  const prompts = await textsOf(info, name, texts);
  const paths = await listPictures(pictures);
  if (paths.length === 0) throw usageError('images', 'missing: name a few pictures of the class');
  const { features, text } = await encode(path, info, paths, prompts, options);
  const ground: Ground = {
    classNames: [...info.class_names, name],
    text: old.text && stack(old.text, text),
    features: joined(old.features, features),
    labels: [...old.labels, ...Array<number>(paths.length).fill(info.class_names.length)],
  };
  const kept = { classes: old.classNames.map((_, k) => k), support: old.labels.map((_, row) => row) };
  const change = { change: 'added', class: name, pictures: paths.length, at: new Date().toISOString() } as const;
  const notes = [
    ...(changes.note ? [`${name}: ${changes.note}`] : []),
    ...(info.result.calibration ? [`probabilities were calibrated without ${name}; train again to calibrate`] : []),
  ];
  const all = info.pictures && [...info.pictures.prompts, prompts];
  return write(stored, out, { ground, kept, changes: [change], prompts: all, notes });
}

/**
 * A run without some of its classes, in the new folder `out`. At least two stay.
 * @throws ScionError: a method that cannot let a class go, or a class that the run has not
 */
export async function removeClasses(path: string, names: readonly string[], out: string): Promise<ChangedRun> {
  const stored = await readChecked(path);
  const { info } = stored;
  changesOf(path, info, 'remove');
  for (const name of names) {
    if (!info.class_names.includes(name)) throw unknownName('class', 'class', name, info.class_names);
  }
  const classes = info.class_names.flatMap((name, k) => (names.includes(name) ? [] : [k]));
  if (classes.length < 2) {
    const stay = `${classes.length} of ${info.class_names.length} classes would stay`;
    throw usageError('class', `${stay}, expected two or more`);
  }
  await checkFree(out);
  const old = groundOf(stored);
  const support = old.labels.flatMap((label, row) => (classes.includes(label) ? [row] : []));
  const ground: Ground = {
    classNames: classes.map((k) => info.class_names[k]!),
    text: old.text && rowsOf(old.text, classes),
    features: rowsOf(old.features, support),
    labels: support.map((row) => classes.indexOf(old.labels[row]!)),
  };
  const at = new Date().toISOString();
  const changes = [...new Set(names)].map((name) => {
    const label = info.class_names.indexOf(name);
    return { change: 'removed', class: name, pictures: old.labels.filter((l) => l === label).length, at } as const;
  });
  const notes = info.result.calibration
    ? ['probabilities were calibrated with the classes that went; train again to calibrate'] : [];
  const prompts = info.pictures && classes.map((k) => info.pictures!.prompts[k]!);
  return write(stored, out, { ground, kept: { classes, support }, changes, prompts, notes });
}

/** @throws ScionError where the folder is damaged, so that nothing is made of it */
async function readChecked(path: string): Promise<StoredRun> {
  const stored = await readRun(path);
  storedModule(path, stored.info, stored.support, stored.values);
  return stored;
}

/** How the method of a run takes it. @throws ScionError where it does not */
function changesOf(path: string, info: RunInfo, what: 'add' | 'remove'): { note?: string } {
  const { classes } = getMethod(info.method, join(path, files.info));
  const reason = classes ? classes[what] : 'its classes stay as they are; train again';
  if (reason === undefined) return classes!;
  const verb = what === 'add' ? 'take a class more' : 'let a class go';
  throw inputError(path, `${info.method} cannot ${verb} without touching the others: ${reason}`);
}

function groundOf({ info, support }: StoredRun): Ground {
  const text = support['text.features'];
  return {
    classNames: info.class_names,
    text: text && toFloat32(text),
    features: toFloat32(support['support.features']!),
    labels: Array.from(support['support.labels']!.data as BigInt64Array, Number),
  };
}

async function textsOf(info: RunInfo, name: string, texts: readonly string[] | undefined): Promise<string[]> {
  if (texts && texts.length > 0) return [...texts];
  if (!info.pictures) {
    throw usageError('--text', 'missing: the run was trained on a feature file, which does not say how its texts are '
      + `worded; write them like "a photo of a ${name}."`);
  }
  return (await promptsOf(info.recipe, [name]))[0]!;
}

async function encode(
  path: string, info: RunInfo, paths: readonly string[], texts: readonly string[], options: RunOptions,
): Promise<{ features: Tensor<'float32'>; text: Tensor<'float32'> }> {
  const cache = options.cache === false ? undefined : cacheOf(info);
  const backbone = await openRunBackbone(path, info, options, cache);
  const hashes = await hashPictures([...new Set(paths)], (_, error) => { throw error; });
  return withRuntime({}, async (runtime) => {
    const shared: EncodeOptions = {
      runtime, backbone, cache, signal: options.signal, onProgress: options.onEncode, onWarning: options.onWarning,
      threads: info.recipe['threads'] as number | undefined,
    };
    const encoder = openImageEncoder(shared);
    checkDim(path, info, encoder.dim);
    const list = paths.map((file) => ({ path: file, sha256: hashes.get(file)!, view: 0 }));
    const { features } = await encoder.encode(list);
    await encoder.release();
    const { text } = await encodeTexts(shared, [texts]);
    return { features, text };
  });
}

interface Change {
  ground: Ground;
  /** Which of the old classes and rows stay, in the order of the new ones; further ones are new. */
  kept: Record<'classes' | 'support', readonly number[]>;
  changes: NonNullable<RunInfo['class_changes']>;
  prompts: string[][] | undefined;
  notes: string[];
}

async function write(
  stored: StoredRun, out: string, { ground, kept, changes, prompts, notes }: Change,
): Promise<ChangedRun> {
  const { info: old, values } = stored;
  // scores of other classes say nothing of these
  const { test: _, validation: __, ...result } = old.result;
  const info: StoredRun['info'] = {
    ...old,
    created: new Date().toISOString(),
    class_names: [...ground.classNames],
    ...(old.pictures && prompts ? { pictures: { ...old.pictures, prompts } } : {}),
    class_changes: [...old.class_changes ?? [], ...changes],
    warnings: [...old.warnings, ...notes],
    result,
  };
  const { text, features, labels } = ground;
  const support = supportTensors(text, { features, labels: Int32Array.from(labels) });
  const method = getMethod(old.method) as FeatureMethod; // `changesOf` has refused the others
  const empty = method.create(storedInputs(info, support, out), method.config.parse(old.result.config));
  const carried = carry(empty, values, method.classes!.rows ?? {}, kept);
  result.trainable_parameters = countValues(carried);
  await writeFinishedRun(out, info, support, carried);
  return { path: out, info, notes };
}

/** Trained values with the rows that stay, and after them what training would have begun with. */
function carry(
  module: FeatureModule, values: Tensors, rows: Readonly<Record<string, 'classes' | 'support'>>, kept: Change['kept'],
): Tensors {
  return Object.fromEntries([...module.parameters()].flatMap(([name, p]): [string, Tensor][] => {
    if (p.origin.kind !== 'trained') return [];
    const [old, kind] = [toFloat32(values[name]!), rows[name]];
    if (!kind) return [[name, old]];
    const first = p.origin.init(p.shape, Random.seeded(0).child('init', name));
    const fresh = Array.from({ length: p.shape[0]! - kept[kind].length }, (_, i) => kept[kind].length + i);
    return [[name, joined(rowsOf(old, kept[kind]), rowsOf(first, fresh))]];
  }));
}

/** Rows of the first axis. */
function rowsOf({ shape: [, ...rest], data }: Tensor<'float32'>, rows: readonly number[]): Tensor<'float32'> {
  const size = numel(rest);
  const out = new Float32Array(rows.length * size);
  rows.forEach((row, i) => out.set(data.subarray(row * size, (row + 1) * size), i * size));
  return float32([rows.length, ...rest], out);
}

function joined(a: Tensor<'float32'>, c: Tensor<'float32'>): Tensor<'float32'> {
  const [[n, ...rest], [m]] = [a.shape, c.shape];
  const data = new Float32Array(a.data.length + c.data.length);
  data.set(a.data);
  data.set(c.data, a.data.length);
  return float32([n! + m!, ...rest], data);
}

/**
 * [K, templates, d] and [1, templates, d]; unequal numbers of templates are each repeated up to a common one, which
 * changes no mean, of the features or of their directions.
 */
function stack(a: Tensor<'float32'>, c: Tensor<'float32'>): Tensor<'float32'> {
  const [m, n] = [a.shape[1]!, c.shape[1]!];
  let common = m;
  while (common % n !== 0) common += m;
  return joined(repeated(a, common / m), repeated(c, common / n));
}

/** [K, templates, d] → [K, times · templates, d] */
function repeated(t: Tensor<'float32'>, times: number): Tensor<'float32'> {
  if (times === 1) return t;
  const [classes, templates, dim] = t.shape as [number, number, number];
  const size = templates * dim;
  const data = new Float32Array(classes * times * size);
  for (let k = 0; k < classes; k++) {
    for (let i = 0; i < times; i++) data.set(t.data.subarray(k * size, (k + 1) * size), (k * times + i) * size);
  }
  return float32([classes, times * templates, dim], data);
}
