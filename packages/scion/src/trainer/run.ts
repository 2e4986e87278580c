/** A finished run: predicts and evaluates, from features without the backbone and from pictures with it. */
import { join } from 'node:path';
import { readFeatureFile, readPredictionFeatures } from '../data/feature-file.js';
import type { Split } from '../data/feature-file.js';
import { listPictures } from '../data/picture-list.js';
import { readSafetensors } from '../formats/safetensors-node.js';
import { type FeatureInputs, type FeatureModule, getMethod, isBackboneMethod } from '../peft/index.js';
import { nodeRuntime } from '../runtime/node.js';
import type { Runtime, SessionOptions, Tensors } from '../runtime/session.js';
import { type Calibration, confidenceOf, rejectionThreshold, scaled } from '../tasks/calibration.js';
import { type ClassificationReport, argMax, classificationReport, probabilities } from '../tasks/classification.js';
import { inputError, usageError } from '../util/errors.js';
import { type Tensor, float32, toFloat32 } from '../util/tensor.js';
import { type Classifying, FixedClasses, OpenClasses, type Rows } from './adapted.js';
import { checkDevice } from './check-runtime.js';
import { type FeatureClassifier, openClassifier } from './classifier.js';
import { files, readRunInfo, storedConfig } from './run-folder.js';
import type { RunInfo } from './run-info.js';
import { type RunOptions, openRunPictures } from './run-pictures.js';

export interface Prediction {
  /** Most probable class; null for "none of these". */
  label: string | null;
  /** Why it is none of them. */
  reason?: string;
  /** The `top` most probable classes, best first, with calibrated probabilities. */
  classes: { label: string; index: number; probability: number }[];
}
export interface ImagePrediction extends Prediction {
  path: string;
}

export interface PredictOptions {
  /** Classes to list. Default 5. */
  top?: number;
  /**
   * Says "none of these" where the largest probability is below what this share of validation rows reaches; 0.95 keeps
   * 95 of 100 rows like those of training.
   */
  reject?: number | undefined;
}

/** A report on calibrated probabilities, and what they were before. */
export interface Evaluation extends ClassificationReport {
  raw: { loss: number; ece: number };
  /** Where it was asked for: the share of rows that are not rejected, and how many of these are right. */
  kept?: { coverage: number; accuracy?: number; threshold: number };
}

export interface Run {
  readonly path: string;
  readonly info: RunInfo;
  readonly classNames: readonly string[];
  /**
   * Features [N, d] of the backbone that the run was trained on (not normalised by the caller) → N predictions.
   * Calls may overlap; they are answered in turn.
   */
  predict(features: Tensor<'float32'> | readonly ArrayLike<number>[], options?: PredictOptions): Promise<Prediction[]>;
  /** The same from a file with `test.features` or `features`. */
  predictFile(path: string, options?: PredictOptions): Promise<Prediction[]>;
  /**
   * The same from pictures: files, or folders that stand for all pictures in and below them. The backbone is loaded by
   * the first call and stays until `close`.
   */
  predictImages(paths: readonly string[], options?: PredictOptions): Promise<ImagePrediction[]>;
  /** On the test split of a feature file or of pictures; of what it was trained on where neither is given. */
  evaluate(
    source?: string | { features?: string | undefined; data?: string | undefined },
    options?: Pick<PredictOptions, 'reject'>,
  ): Promise<Evaluation & { path: string }>;
  /** Frees the model and ends its thread. */
  close(): Promise<void>;
}

/** Loads a run folder. @throws ScionError where it is missing, unfinished, damaged or too new */
export async function loadRun(path: string, options: RunOptions = {}): Promise<Run> {
  await checkDevice(options.device);
  const { info, support, values } = await readRun(path);
  return runFromParts(path, info, support, values, options);
}

/** What the folder of a finished run holds. */
export interface StoredRun {
  info: RunInfo & { result: NonNullable<RunInfo['result']> };
  /** The frozen features that the method is built on. */
  support: Tensors;
  /** The trained values, by parameter name. */
  values: Tensors;
}

/** Reads a run folder. @throws ScionError where it is missing, unfinished, damaged or too new */
export async function readRun(path: string): Promise<StoredRun> {
  const { result, ...info } = await readRunInfo(path);
  if (info.state !== 'finished' || !result) {
    throw inputError(path, `the run is not finished; go on with \`scion resume ${path}\``);
  }
  const read = async (name: string): Promise<Tensors> =>
    Object.fromEntries((await readSafetensors(join(path, name))).tensors);
  return { info: { ...info, result }, support: await read(files.support), values: await read(files.adapter) };
}

/** The inputs of a run's method, from what its folder stores. */
export function storedInputs(info: RunInfo, support: Tensors, path: string): FeatureInputs {
  const need = (name: string): Tensor => support[name] ?? missing(path, files.support, name);
  const [features, labels] = [need('support.features'), need('support.labels')];
  const text = support['text.features'];
  return {
    ...(text ? { text: toFloat32(text) } : {}),
    support: { features: toFloat32(features), labels: Int32Array.from(labels.data as BigInt64Array, Number) },
    classes: info.class_names.length,
    dim: info.dim,
    logitScale: info.logit_scale,
  };
}

function missing(path: string, file: string, name: string): never {
  throw inputError(join(path, file), `has no tensor ${name}; the run folder is damaged, train again`);
}

/** The name of the directions of classes [K, d] of an adapted backbone, in the run's support file. */
export const classDirections = 'class.features';

/** The module of a run with its values checked against it. */
export function storedModule(path: string, info: RunInfo, support: Tensors, values: Tensors): FeatureModule {
  const method = getMethod(info.method, join(path, files.info));
  const config = storedConfig(path, info, method);
  const inputs = storedInputs(info, support, path);
  if (isBackboneMethod(method)) {
    const directions = toFloat32(support[classDirections] ?? missing(path, files.support, classDirections));
    if (directions.shape.join() !== [inputs.classes, inputs.dim].join()) missing(path, files.support, `${classDirections} of the right shape`);
    return new (method.learnsPrompts?.(config) ? FixedClasses : OpenClasses)(inputs, directions).named();
  }
  const module = method.create(inputs, config);
  for (const [name, p] of module.parameters()) {
    if (p.origin.kind !== 'trained') continue;
    const stored = values[name] ?? missing(path, files.adapter, name);
    if (stored.shape.join() !== p.shape.join()) {
      throw inputError(
        join(path, files.adapter),
        `${name} is [${stored.shape.join(', ')}], expected [${p.shape.join(', ')}]; ` +
          'the run folder is damaged, train again',
      );
    }
  }
  return module;
}

/** @param runtime one that is there already and now belongs to the run; otherwise the first prediction starts one */
export function runFromParts(
  path: string,
  info: RunInfo,
  support: Tensors,
  values: Tensors,
  options: RunOptions = {},
  runtime?: Runtime,
): Run {
  const { class_names: classNames, dim } = info;
  const module = storedModule(path, info, support, values);
  let classifier: Promise<FeatureClassifier> | undefined;
  let closed = false;
  const started = (): Runtime => (runtime ??= nodeRuntime({ device: options.device }));
  const open = (): Promise<FeatureClassifier> => {
    if (closed) throw usageError(path, 'this run has been closed; load it again');
    return (classifier ??= openClassifier(started(), module, values, { rows: options.rows }));
  };
  const pictures = openRunPictures(path, info, started, options);
  const calibration = info.result?.calibration;

  const refuseFeatures = (): void => {
    if (!isBackboneMethod(getMethod(info.method))) return;
    throw usageError('--features', `${path} has adapted its model, and a feature file holds features of the model as it `
      + 'was; name pictures');
  };
  const checked = (features: Tensor<'float32'>, where: string): Tensor<'float32'> => {
    if (features.shape.length !== 2 || features.shape[1] !== dim) {
      throw inputError(
        where,
        `features are [${features.shape.join(', ')}], the run takes [N, ${dim}]; use the backbone it was trained on` +
          (info.features.model ? ` (${info.features.model})` : ''),
      );
    }
    const bad = features.data.findIndex((v) => !Number.isFinite(v));
    if (bad >= 0)
      throw inputError(
        where,
        `row ${Math.floor(bad / dim)} holds ${features.data[bad]} at column ${bad % dim}, expected finite numbers`,
      );
    return features;
  };
  const compareModels = (file: string, model: string | undefined): void => {
    if (model === undefined || info.features.model === undefined || model === info.features.model) return;
    options.onWarning?.(
      `${file}: its features are of the model ${model}, the run was trained on those of ` +
        `${info.features.model}; results mean nothing unless these are the same`,
    );
  };
  const testOf = async (file: string): Promise<{ path: string; split: Split }> => {
    const { test, classNames: names, model } = await readFeatureFile(file, { test: true });
    if (names.join('\0') !== classNames.join('\0')) {
      throw inputError(
        file,
        `its classes (${names.length}: ${names.slice(0, 3).join(', ')}, …) are not those of the run ` +
          `(${classNames.length}: ${classNames.slice(0, 3).join(', ')}, …); use a file with the same class_names`,
      );
    }
    checked(test!.features, `${file}: test.features`);
    compareModels(file, model);
    return { path: file, split: test! };
  };
  const run: Run = {
    path,
    info,
    classNames,
    async predict(features, chosen) {
      const given = 'data' in features ? features : fromRows(features, dim);
      const threshold = thresholdOf(path, calibration, chosen?.reject);
      const logits = scaled(await (await open()).logits({ features: checked(given, 'features') }), calibration?.temperature ?? 1);
      return predictions(logits, classNames, chosen?.top ?? 5, threshold);
    },
    async predictFile(file, chosen) {
      refuseFeatures();
      const { features, name, model } = await readPredictionFeatures(file);
      compareModels(file, model);
      return run.predict(checked(features, `${file}: ${name}`), chosen);
    },
    async predictImages(paths, chosen) {
      thresholdOf(path, calibration, chosen?.reject); // said before the work
      const files = await listPictures(paths);
      const { features, paths: read } = await pictures.encode(files);
      if (read.length === 0 && files.length > 0) {
        throw inputError(files[0]!, `none of the ${files.length} pictures can be read; replace them`);
      }
      const found = await run.predict(features, chosen);
      return found.map((prediction, i) => ({ path: read[i]!, ...prediction }));
    },
    async evaluate(source = {}, chosen) {
      const { features: file, data } = typeof source === 'string' ? { features: source, data: undefined } : source;
      const threshold = thresholdOf(path, calibration, chosen?.reject);
      if (file !== undefined) refuseFeatures();
      const fromPictures = data !== undefined || (file === undefined && info.pictures !== undefined);
      const found = fromPictures ? await pictures.test(data) : await testOf(file ?? info.features.path);
      const logits = await (await open()).logits(found.split);
      return { path: found.path, ...evaluation(logits, found.split, calibration?.temperature, threshold) };
    },
    async close() {
      closed = true;
      await pictures.release().finally(() => runtime?.close());
    },
  };
  return run;
}

function fromRows(rows: readonly ArrayLike<number>[], dim: number): Tensor<'float32'> {
  rows.forEach((row, i) => {
    const list = typeof row === 'object' && row !== null;
    if (list && row.length === dim) return;
    const what = list ? `has ${row.length} numbers` : 'is no list of numbers';
    throw inputError('features', `row ${i} ${what}, expected ${dim}`);
  });
  const data = new Float32Array(rows.length * dim);
  rows.forEach((row, i) => data.set(row, i * dim));
  return float32([rows.length, dim], data);
}

function predictions(
  logits: Float64Array,
  classNames: readonly string[],
  top: number,
  threshold: number | undefined,
): Prediction[] {
  const classes = classNames.length;
  return Array.from({ length: logits.length / classes }, (_, row) => {
    const p = probabilities(logits.subarray(row * classes, (row + 1) * classes));
    const best = Array.from(p, (probability, index) => ({ label: classNames[index]!, index, probability }))
      .sort((a, b) => b.probability - a.probability || a.index - b.index)
      .slice(0, Math.max(1, top));
    const confidence = confidenceOf(p);
    if (threshold === undefined || confidence >= threshold) return { label: best[0]!.label, classes: best };
    const reason = `none of these: the largest probability is ${confidence.toFixed(4)}, below ${threshold.toFixed(4)}`;
    return { label: null, reason, classes: best };
  });
}

/** The least probability that is not rejected; undefined where nothing is. */
function thresholdOf(path: string, calibration: Calibration | undefined, keep: number | undefined): number | undefined {
  if (keep === undefined) return undefined;
  if (!(keep > 0 && keep <= 1)) {
    throw usageError('--reject', `${keep}: expected the share of known pictures to keep, above 0 and up to 1`);
  }
  if (calibration) return rejectionThreshold(calibration, keep);
  throw usageError('--reject', `${path} has no validation rows to tell a threshold by; train with more --shots`);
}

function evaluation(logits: Float32Array, { labels, groups }: Pick<Split, 'labels' | 'groups'>, temperature = 1, threshold?: number): Evaluation {
  const classes = logits.length / labels.length;
  const { loss, ece } = classificationReport(logits, labels, classes);
  const calibrated = scaled(logits, temperature);
  const report = { ...classificationReport(calibrated, labels, classes, groups), raw: { loss, ece } };
  if (threshold === undefined) return report;
  let [kept, right] = [0, 0];
  labels.forEach((label, row) => {
    const p = probabilities(calibrated.subarray(row * classes, (row + 1) * classes));
    if (confidenceOf(p) < threshold) return;
    kept++;
    right += Number(argMax(p) === label);
  });
  const coverage = kept / labels.length;
  return { ...report, kept: { coverage, threshold, ...(kept > 0 ? { accuracy: right / kept } : {}) } };
}

/** Opens, evaluates one split and releases. */
export async function evaluateSplit(
  runtime: Runtime,
  module: Classifying,
  values: Tensors,
  split: Rows & Pick<Split, 'labels' | 'groups'>,
  { temperature, ...options }: SessionOptions & { temperature?: number } = {},
): Promise<Evaluation> {
  const classifier = await openClassifier(runtime, module, values, options);
  try {
    return evaluation(await classifier.logits(split), split, temperature);
  } finally {
    await classifier.release();
  }
}
