/** What feature files must satisfy. Every check adds to `issues` and goes on, so that one reading reports them all. */
import { brief } from '../formats/json.js';
import type { Issue } from '../util/errors.js';
import { toFloat32, toFloat64 } from '../util/tensor.js';
import type { DType, Tensor } from '../util/tensor.js';

const floatTypes = new Set<DType>(['float16', 'bfloat16', 'float32', 'float64']);
const maxClasses = 1_000_000;
/** CLIP's, for features without a scale of their own. */
export const defaultLogitScale = 100;

/**
 * Features as float32 if they are usable: a float tensor of one of `ranks`, as wide as those seen before (in `dims`, by
 * name), with finite numbers and no row of zeros.
 */
export function checkFeatures(
  name: string,
  t: Tensor,
  ranks: readonly number[],
  dims: Map<string, number>,
  issues: Issue[],
): Tensor<'float32'> | undefined {
  const found = issues.length;
  const report = (message: string): unknown => issues.push({ path: name, message });
  const expected = ranks.map((r) => (name === 'text.features' ? textShapes : imageShapes)[r]).join(' or ');
  if (!floatTypes.has(t.dtype)) report(`is ${t.dtype}, expected float16, bfloat16, float32 or float64; convert it`);
  if (!ranks.includes(t.shape.length)) report(`has shape ${brief(t.shape)}, expected ${expected}; reshape it`);
  if (issues.length > found) return undefined;
  const dim = t.shape.at(-1)!;
  const [other] = dims;
  if (other && other[1] !== dim) {
    report(`has ${dim} columns, expected ${other[1]} as ${other[0]} has; compute both with the same model`);
  }
  dims.set(name, dim);
  if (t.data.length === 0) {
    report(`is empty (shape ${brief(t.shape)}), expected at least one row and column; leave it out or fill it`);
    return undefined;
  }
  const features = toFloat32(t);
  checkRows(features, t.dtype, report);
  return issues.length > found ? undefined : features;
}

const imageShapes: Record<number, string> = { 2: '[N, d]' };
const textShapes: Record<number, string> = { 2: '[K, d]', 3: '[K, templates, d]' };

/** Reports the first number that is not finite and the first row of zeros; `dtype` is that of the file. */
function checkRows({ shape, data }: Tensor<'float32'>, dtype: DType, report: (message: string) => unknown): void {
  const dim = shape.at(-1)!;
  const place = (row: number): string => {
    const templates = shape.length === 3 ? shape[1]! : 0;
    return templates ? `class ${Math.floor(row / templates)}, template ${row % templates}` : `row ${row}`;
  };
  const bad = new Finds();
  const zero = new Finds();
  for (let row = 0; row * dim < data.length; row++) {
    let any = false;
    for (let i = row * dim; i < (row + 1) * dim; i++) {
      const x = data[i]!;
      if (x !== 0) any = true;
      if (!Number.isFinite(x)) bad.add(i);
    }
    if (!any) zero.add(row);
  }
  if (bad.count > 0) {
    const at = `${place(Math.floor(bad.first / dim))}, column ${bad.first % dim}`;
    const limit = dtype === 'float16' ? ' (float16 ends at 65504)' : '';
    report(`${at} is ${data[bad.first]}${bad.more}, expected finite numbers${limit}; compute these features again`);
  }
  if (zero.count > 0) {
    report(`${place(zero.first)} is all zeros${zero.more} and cannot be normalised; drop it or compute it again`);
  }
}

/** The first of what was found, and how many there are: a list could be as long as the data. */
class Finds {
  first = 0;
  count = 0;

  add(at: number): void {
    if (this.count++ === 0) this.first = at;
  }

  get more(): string {
    return this.count > 1 ? ` (and ${this.count - 1} more)` : '';
  }
}

/**
 * Labels as int32 if they are N integers from 0 to `classes` - 1.
 * @param rows N, if the features are usable
 * @param classes K, if it is known
 */
export function checkLabels(
  name: string,
  t: Tensor,
  rows: number | undefined,
  classes: number | undefined,
  issues: Issue[],
): Int32Array | undefined {
  const found = issues.length;
  const report = (message: string): unknown => issues.push({ path: name, message });
  const shape = brief(t.shape);
  if (!isInteger(t)) report(`is ${t.dtype}, expected integers; convert it with astype("int64")`);
  if (t.shape.length !== 1) report(`has shape ${shape}, expected [N]; reshape it`);
  if (issues.length > found) return undefined;
  if (rows !== undefined && t.data.length !== rows) {
    report(`has ${t.data.length} labels for ${rows} rows of features, expected one each; drop or add the difference`);
  }
  const limit = classes ?? maxClasses;
  const row = (t.data as ArrayLike<number | bigint> & { findIndex: Float64Array['findIndex'] })
    .findIndex((x) => x < 0 || x >= limit);
  if (row >= 0) {
    const range = `expected 0 to ${limit - 1}${classes === undefined ? '' : ` for K = ${classes} classes`}`;
    report(`row ${row} is ${t.data[row]}, ${range}; mend the label or add the class`);
  }
  return issues.length > found ? undefined : Int32Array.from(toFloat64(t));
}

/** Rows of one picture are views of it, so that they have one label. */
export function checkPictures(labels: Int32Array, pictures: Int32Array, issues: Issue[]): void {
  const seen = new Map<number, number>();
  const row = pictures.findIndex((picture, i) => {
    const first = seen.get(picture) ?? i;
    seen.set(picture, first);
    return labels[first] !== labels[i];
  });
  if (row < 0) return;
  const message = `row ${row} is of picture ${pictures[row]}, as row ${seen.get(pictures[row]!)!} of another class is`;
  issues.push({ path: 'train.pictures', message: `${message}, expected one class for all views; mend the number` });
}

function isInteger(t: Tensor): boolean {
  return !floatTypes.has(t.dtype) && t.dtype !== 'bool';
}

/**
 * Groups of rows as int32 if they are N integers from -1 (no group) to `count` - 1.
 * @param rows N, if the features are usable
 * @param count how many names there are, if they are usable
 */
export function checkGroups(
  name: string, t: Tensor, rows: number | undefined, count: number | undefined, issues: Issue[],
): Int32Array | undefined {
  const found = issues.length;
  const report = (message: string): unknown => issues.push({ path: name, message });
  if (!isInteger(t)) report(`is ${t.dtype}, expected integers; convert it with astype("int32")`);
  if (t.shape.length !== 1) report(`has shape ${brief(t.shape)}, expected [N]; reshape it`);
  if (issues.length > found) return undefined;
  const numbers = toFloat64(t);
  if (rows !== undefined && numbers.length !== rows) {
    report(`has ${numbers.length} numbers for ${rows} test rows, expected one each; add -1 for rows of no group`);
  }
  const row = numbers.findIndex((x) => x < -1 || x >= (count ?? Infinity));
  if (row >= 0) {
    report(`row ${row} is ${numbers[row]}, expected -1 to ${(count ?? 1) - 1} for ${count} group_names; mend the number`);
  }
  return issues.length > found ? undefined : Int32Array.from(numbers);
}

/** The names of groups, a list or the JSON of one. */
export function checkGroupNames(value: unknown, issues: Issue[]): readonly string[] | undefined {
  return checkNames('group_names', 'group', '["seen", "unseen"]', value, issues);
}

/** Training needs more than one class among its images. */
export function checkSpread(labels: Int32Array, issues: Issue[]): void {
  if (labels.some((x) => x !== labels[0])) return;
  const message = `all ${labels.length} images are of class ${labels[0]}, expected at least 2 classes`;
  issues.push({ path: 'train.labels', message: `${message}; add images of others` });
}

/** K as the file states it: by its class names, else by its text features. */
export function statedClasses(
  names: readonly string[] | undefined,
  text: Tensor | undefined,
  issues: Issue[],
): number | undefined {
  // an empty or misshapen tensor states nothing and is reported elsewhere
  const ofText = (text && text.shape.length > 1 && text.shape[0]) || undefined;
  if (names && ofText !== undefined && ofText !== names.length) {
    const message = `has ${ofText} classes but class_names has ${names.length}`;
    issues.push({ path: 'text.features', message: `${message}; give one row per name, in the same order` });
  }
  const count = names?.length ?? ofText;
  if (count === 1) {
    const path = names ? 'class_names' : 'text.features';
    issues.push({ path, message: 'has only one class, expected at least 2; add another class' });
  }
  return count;
}

/** One more than the largest label: the least K that fits. */
export function countedClasses(labels: readonly Int32Array[], issues: Issue[]): number {
  const count = labels.reduce((most, split) => split.reduce((m, x) => Math.max(m, x + 1), most), 0);
  // train images of one class are reported already
  if (count === 1 && issues.length === 0) {
    const message = 'are all 0, which makes only one class, expected at least 2; add another class';
    issues.push({ path: 'labels', message });
  }
  return count;
}

/** The class names, given as a list or as the JSON of one; undefined if there are none or they are unusable. */
export function checkClassNames(value: unknown, issues: Issue[]): readonly string[] | undefined {
  return value === undefined ? undefined : checkNames('class_names', 'class', '["cat", "dog"]', value, issues);
}

function checkNames(
  path: string, what: string, example: string, value: unknown, issues: Issue[],
): readonly string[] | undefined {
  const report = (message: string): unknown => issues.push({ path, message });
  const names = typeof value === 'string' ? parsed(value) : value;
  if (!Array.isArray(names) || names.length === 0 || names.length > maxClasses) {
    report(`is ${brief(value)}, expected a JSON list of names such as ${example}; write it as one`);
    return undefined;
  }
  const wrong = names.findIndex((n) => typeof n !== 'string' || n.trim() === '');
  if (wrong >= 0) {
    report(`entry ${wrong} is ${brief(names[wrong])}, expected a name; name the ${what}`);
    return undefined;
  }
  const first = new Map<unknown, number>();
  for (const [k, name] of names.entries()) {
    const before = first.get(name);
    if (before !== undefined) {
      report(`${brief(name)} names both ${what} ${before} and ${what} ${k}, expected different names; rename one`);
      return undefined;
    }
    first.set(name, k);
  }
  return names as string[];
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

/** The logit scale, given as a number or (in safetensors metadata) as text; CLIP's 100 if it is missing. */
export function checkLogitScale(value: unknown, issues: Issue[], notes: string[]): number {
  if (value === undefined) {
    notes.push(`logit_scale is missing, so ${defaultLogitScale} is used, as CLIP has it`);
    return defaultLogitScale;
  }
  const scale = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
  if (typeof scale === 'number' && Number.isFinite(scale) && scale > 0) return scale;
  const message = `is ${brief(value)}, expected a positive finite number; use 100 for CLIP`;
  issues.push({ path: 'logit_scale', message });
  return defaultLogitScale;
}
