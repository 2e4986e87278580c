/**
 * Feature files: image and text features computed elsewhere, with labels and class names, as `--features FILE` takes
 * them. Either one .safetensors file with tensors `train.features` [N, d], `train.labels` [N], the same for `val` and
 * `test`, where there are views of pictures `train.pictures` [N], and `text.features` [K, d] or [K, templates, d], and
 * with metadata `class_names` (a JSON list), `logit_scale` and `model`. Test rows may belong to named groups:
 * `test.groups` int32 [N] with places in the metadata `group_names`, -1 for none. Or a .json file that names .npy files
 * beside it (see feature-source.ts).
 */
import { brief } from '../formats/json.js';
import { writeSafetensors } from '../formats/safetensors-node.js';
import { ScionError, usageError } from '../util/errors.js';
import type { Issue } from '../util/errors.js';
import { fromFloat64, int64, tensor, toFloat64 } from '../util/tensor.js';
import type { Tensor } from '../util/tensor.js';
import { readFeatureSource } from './feature-source.js';
import type { FeatureSource } from './feature-source.js';
import type { ImageRef } from './image-ref.js';
import {
  checkClassNames, checkFeatures, checkGroupNames, checkGroups, checkLabels, checkLogitScale, checkPictures, checkSpread,
  countedClasses,
  statedClasses,
} from './feature-checks.js';

export const splitNames = ['train', 'val', 'test'] as const;
export type SplitName = (typeof splitNames)[number];

/** Named groups of rows, such as concepts that the backbone has seen and others: results are given for each. */
export interface RowGroups {
  readonly names: readonly string[];
  /** For each of N rows its place in `names`, or -1 for a row of no group. */
  readonly of: Int32Array;
}

/** Images of known class. */
export interface Split {
  /** [N, d], as the backbone gives them. */
  readonly features: Tensor<'float32'>;
  /** N class numbers, 0 … K - 1. */
  readonly labels: Int32Array;
  /** Of the test split alone. */
  readonly groups?: RowGroups;
  /**
   * N picture numbers, where `train` holds several views of a picture: the first row of a number is its plain view.
   * Absent where each row is a picture of its own.
   */
  readonly pictures?: Int32Array;
  /** The picture of each row, where the features were computed from pictures. */
  readonly images?: readonly Picture[];
}

/** A picture, or a view of it. */
export interface Picture extends ImageRef {
  /** Of its content, in hexadecimal. */
  readonly sha256: string;
  /** 0 is the plain one. */
  readonly view: number;
}

export interface FeatureContent {
  /** The backbone that computed the features, if the file says. */
  readonly model: string | undefined;
  /** What cosines are multiplied with before the softmax. */
  readonly logitScale: number;
  /** K names, at least two, all different. */
  readonly classNames: readonly string[];
  readonly train?: Split;
  readonly val?: Split;
  readonly test?: Split;
  /** [K, templates, d], as the backbone gives them. */
  readonly text?: Tensor<'float32'>;
}

export interface FeatureFile extends FeatureContent {
  readonly path: string;
  /** SHA-256 of the content in hexadecimal. */
  readonly digest: string;
  /** Width of all features. */
  readonly dim: number;
  /** What was assumed or left out, in words for the user. */
  readonly notes: readonly string[];
}

/** Parts that the caller cannot do without; for text features, the methods that need them. */
export type Need = Partial<Record<SplitName, boolean>> & { text?: readonly string[] };

/** Features to predict on; labels are optional and their range is unknown unless the file names its classes. */
export interface PredictionFeatures {
  readonly path: string;
  readonly digest: string;
  readonly model: string | undefined;
  readonly dim: number;
  /** `test.features` or `features`: where the rows were found. */
  readonly name: string;
  /** [N, d], as the backbone gives them. */
  readonly features: Tensor<'float32'>;
  readonly labels?: Int32Array;
}

/**
 * Reads and checks a feature file.
 * @throws ScionError with an issue for everything that is wrong or, of what `need` asks for, missing
 */
export async function readFeatureFile(path: string, need: Need = {}): Promise<FeatureFile> {
  return interpret(await readFeatureSource(path), need);
}

function interpret(source: FeatureSource, need: Need): FeatureFile {
  const { path, digest, tensors } = source;
  const issues: Issue[] = [];
  const notes: string[] = [];
  checkNeeds(source, need, issues);

  const present = splitNames.filter((split) => {
    const parts = [`${split}.features`, `${split}.labels`];
    const missing = parts.filter((name) => !tensors.has(name));
    // where it is needed the missing half is an issue already
    if (missing.length === 1 && !need[split]) notes.push(`${missing[0]} is missing, so ${split} is not used`);
    return missing.length === 0;
  });
  for (const name of source.others) notes.push(`tensor ${brief(name)} is not used`);

  const dims = new Map<string, number>();
  const named = checkClassNames(source.classNames, issues);
  const text = tensors.get('text.features');
  const textFeatures = text && checkFeatures('text.features', text, [2, 3], dims, issues);
  const stated = statedClasses(named, text, issues);
  const splits: Partial<Record<SplitName, Split>> = {};
  for (const split of present) {
    const features = checkFeatures(`${split}.features`, tensors.get(`${split}.features`)!, [2], dims, issues);
    const rows = features?.shape[0];
    const numbers = checkLabels(`${split}.labels`, tensors.get(`${split}.labels`)!, rows, stated, issues);
    if (split === 'train' && numbers && stated !== 1) checkSpread(numbers, issues);
    const groups = split === 'test' ? groupsOf(source, rows, issues) : undefined;
    const views = tensors.get(`${split}.pictures`);
    const pictures = views && checkLabels(`${split}.pictures`, views, rows, undefined, issues);
    if (numbers && pictures) checkPictures(numbers, pictures, issues);
    if (features && numbers) {
      splits[split] = { features, labels: numbers, ...(groups && { groups }), ...(pictures && { pictures }) };
    }
  }
  const classes = stated ?? countedClasses(Object.values(splits).map((s) => s.labels), issues);
  if (present.length === 0 && !text && issues.length === 0) {
    const expected = 'expected train, val or test features with labels, or text.features';
    issues.push({ path, message: `holds nothing to use: ${expected}; ${heldNames(source)}` });
  }
  const logitScale = checkLogitScale(source.logitScale, issues, notes);
  if (issues.length > 0) throw new ScionError('input', inFile(path, issues));
  if (!named) notes.push(`class_names is missing, so the classes are called "class 0" to "class ${classes - 1}"`);

  return {
    path,
    digest,
    model: source.model,
    logitScale,
    classNames: named ?? Array.from({ length: classes }, (_, k) => `class ${k}`),
    dim: [...dims.values()][0]!,
    notes,
    ...splits,
    ...(textFeatures && { text: withTemplates(textFeatures) }),
  };
}

/** The tensor `test.groups` with the names in the metadata `group_names`: both or neither. */
function groupsOf({ tensors, groupNames }: FeatureSource, rows: number | undefined, issues: Issue[]): RowGroups | undefined {
  const numbers = tensors.get('test.groups');
  if (!numbers && groupNames === undefined) return undefined;
  const names = checkGroupNames(groupNames, issues);
  if (!numbers) {
    issues.push({ path: 'test.groups', message: 'missing, but group_names names groups; add the tensor [N] or drop the names' });
    return undefined;
  }
  const of = checkGroups('test.groups', numbers, rows, names?.length, issues);
  return names && of && { names, of };
}

function checkNeeds(source: FeatureSource, need: Need, issues: Issue[]): void {
  const wanted = splitNames.filter((s) => need[s]).flatMap((s) => [`${s}.features`, `${s}.labels`]);
  if (need.text?.length) wanted.push('text.features');
  for (const name of wanted) {
    if (source.tensors.has(name)) continue;
    const by = name === 'text.features' ? `by ${need.text!.join(', ')}` : 'here';
    issues.push({ path: name, message: `missing but needed ${by}; add it to the file (${heldNames(source)})` });
  }
}

function heldNames({ tensors, others }: FeatureSource): string {
  const names = [...tensors.keys(), ...others.map(brief)];
  return `it has: ${names.slice(0, 12).join(', ') || 'no tensors'}${names.length > 12 ? ', …' : ''}`;
}

/**
 * Features that were just computed, checked as those of a file are.
 * @param path what they were computed from
 * @param digest of all that decides over them
 * @throws ScionError with an issue for everything that is wrong
 */
export function asFeatureFile(path: string, digest: string, content: FeatureContent): FeatureFile {
  const { classNames, logitScale, model, test } = content;
  const groupNames = test?.groups?.names;
  const file = interpret(
    { path, digest, tensors: tensorsOf(content), others: [], classNames, groupNames, logitScale, model }, {});
  const withImages = (name: SplitName): Split | undefined => {
    const images = content[name]?.images;
    return images && file[name] && { ...file[name], images };
  };
  return { ...file, ...Object.fromEntries(splitNames.flatMap((name) => {
    const split = withImages(name);
    return split ? [[name, split]] : [];
  })) };
}

/** The issues about parts of a file, with the file's name in front. */
function inFile(path: string, issues: readonly Issue[]): Issue[] {
  return issues.map((issue) => (issue.path === path ? issue : { ...issue, path: `${path}: ${issue.path}` }));
}

/** [K, d] as [K, 1, d]. */
function withTemplates(text: Tensor<'float32'>): Tensor<'float32'> {
  const [k, d] = text.shape;
  return text.shape.length === 3 ? text : tensor('float32', [k!, 1, d!], text.data);
}

/**
 * Reads features to predict on: `test.features`, or else `features` [N, d]; labels are read where they are given.
 * @throws ScionError with an issue for everything that is wrong
 */
export async function readPredictionFeatures(path: string): Promise<PredictionFeatures> {
  const source = await readFeatureSource(path);
  const name = ['test.features', 'features'].find((n) => source.tensors.has(n));
  if (name === undefined) {
    const message = `missing, and so is features; one of them [N, d] is needed to predict (${heldNames(source)})`;
    throw new ScionError('input', inFile(path, [{ path: 'test.features', message }]));
  }
  const issues: Issue[] = [];
  const features = checkFeatures(name, source.tensors.get(name)!, [2], new Map(), issues);
  const labels = name === 'test.features' ? source.tensors.get('test.labels') : undefined;
  const named = checkClassNames(source.classNames, issues);
  const numbers = labels && checkLabels('test.labels', labels, features?.shape[0], named?.length, issues);
  if (!features || issues.length > 0) throw new ScionError('input', inFile(path, issues));
  const { digest, model } = source;
  return { path, digest, model, dim: features.shape[1]!, name, features, ...(numbers && { labels: numbers }) };
}

/**
 * Writes a .safetensors feature file, all or nothing. Refuses whatever `readFeatureFile` would refuse, such as values
 * that become infinite in float16.
 * @throws ScionError with an issue for everything that is wrong
 */
export async function writeFeatureFile(
  path: string,
  content: FeatureContent,
  dtype: 'float16' | 'float32' = 'float32',
): Promise<void> {
  if (!path.toLowerCase().endsWith('.safetensors')) {
    throw usageError(path, 'feature files are written as .safetensors; end the name in .safetensors');
  }
  const tensors = tensorsOf(content, (t) =>
    (dtype === 'float32' ? t : fromFloat64(dtype, t.shape, toFloat64(t))));
  const { classNames, logitScale, model, test } = content;
  const groupNames = test?.groups?.names;
  const digest = ''; // of a file that is not there yet
  interpret({ path, digest, tensors, others: [], classNames, groupNames, logitScale, model }, {});
  await writeSafetensors(path, Object.fromEntries(tensors), {
    class_names: JSON.stringify(classNames),
    ...(groupNames && { group_names: JSON.stringify(groupNames) }),
    logit_scale: String(logitScale),
    ...(model !== undefined && { model }),
  });
}

/** By the names that they have in a file. */
function tensorsOf(
  content: FeatureContent, convert: (features: Tensor<'float32'>) => Tensor = (t) => t,
): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  for (const split of splitNames) {
    const { features, labels, pictures, groups } = content[split] ?? {};
    if (features) tensors.set(`${split}.features`, convert(features));
    if (labels) tensors.set(`${split}.labels`, int64([labels.length], labels));
    if (pictures) tensors.set(`${split}.pictures`, int64([pictures.length], pictures));
    if (groups) tensors.set(`${split}.groups`, tensor('int32', [groups.of.length], groups.of));
  }
  if (content.text) {
    const [k, templates, d] = content.text.shape as [number, number, number];
    const text = templates === 1 ? tensor('float32', [k, d], content.text.data) : content.text;
    tensors.set('text.features', convert(text));
  }
  return tensors;
}
