/** A finished run: predicts and evaluates, without the backbone and without the training data. */
import { join } from 'node:path';
import { readFeatureFile, readPredictionFeatures } from '../data/feature-file.js';
import type { Split } from '../data/feature-file.js';
import { readSafetensors } from '../formats/safetensors-node.js';
import { type FeatureInputs, type FeatureModule, getMethod } from '../peft/index.js';
import { nodeRuntime } from '../runtime/node.js';
import type { Runtime, SessionOptions, Tensors } from '../runtime/session.js';
import { type ClassificationReport, classificationReport, probabilities } from '../tasks/classification.js';
import { inputError, usageError } from '../util/errors.js';
import { type Tensor, float32, toFloat32 } from '../util/tensor.js';
import { type FeatureClassifier, openClassifier } from './classifier.js';
import { files, readRunInfo } from './run-folder.js';
import type { RunInfo } from './run-info.js';

export interface Prediction {
  /** Most probable class. */
  label: string;
  /** The `top` most probable classes, best first. */
  classes: { label: string; index: number; probability: number }[];
}

export interface Run {
  readonly path: string;
  readonly info: RunInfo;
  readonly classNames: readonly string[];
  /**
   * Features [N, d] of the backbone that the run was trained on (not normalised by the caller) → N predictions.
   * Calls may overlap; they are answered in turn.
   */
  predict(
    features: Tensor<'float32'> | readonly ArrayLike<number>[],
    options?: { top?: number },
  ): Promise<Prediction[]>;
  /** The same from a file with `test.features` or `features`. */
  predictFile(path: string, options?: { top?: number }): Promise<Prediction[]>;
  /** On the test split of a feature file; of the one it was trained on where none is given. */
  evaluate(path?: string): Promise<ClassificationReport & { path: string }>;
  /** Frees the model and ends its thread. */
  close(): Promise<void>;
}

/** Loads a run folder. @throws ScionError where it is missing, unfinished, damaged or too new */
export async function loadRun(path: string): Promise<Run> {
  const info = await readRunInfo(path);
  if (info.state !== 'finished' || !info.result) {
    throw inputError(path, `the run is not finished; go on with \`scion resume ${path}\``);
  }
  const read = async (name: string): Promise<Tensors> =>
    Object.fromEntries((await readSafetensors(join(path, name))).tensors);
  const [support, values] = [await read(files.support), await read(files.adapter)];
  return runFromParts(path, info, support, values);
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

/** The module of a run with its values checked against it. */
export function storedModule(path: string, info: RunInfo, support: Tensors, values: Tensors): FeatureModule {
  const method = getMethod(info.method, join(path, files.info));
  const config = method.config.safeParse(info.result!.config);
  if (!config.success) {
    throw inputError(
      join(path, files.info),
      `result.config.${config.error.issues[0]!.path.join('.')}: ${config.error.issues[0]!.message}; ` +
        'the run folder is damaged, train again',
    );
  }
  const module = method.create(storedInputs(info, support, path), config.data);
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
export function runFromParts(path: string, info: RunInfo, support: Tensors, values: Tensors, runtime?: Runtime): Run {
  const { class_names: classNames, dim } = info;
  const module = storedModule(path, info, support, values);
  let classifier: Promise<FeatureClassifier> | undefined;
  let closed = false;
  const open = (): Promise<FeatureClassifier> => {
    if (closed) throw usageError(path, 'this run has been closed; load it again');
    return (classifier ??= openClassifier((runtime ??= nodeRuntime()), module, values));
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
  const run: Run = {
    path,
    info,
    classNames,
    async predict(features, options) {
      const given = 'data' in features ? features : fromRows(features, dim);
      const logits = await (await open()).logits(checked(given, 'features'));
      return predictions(logits, classNames, options?.top ?? 5);
    },
    async predictFile(file, options) {
      const { features, name } = await readPredictionFeatures(file);
      return run.predict(checked(features, `${file}: ${name}`), options);
    },
    async evaluate(file = info.features.path) {
      const { test, classNames: names } = await readFeatureFile(file, { test: true });
      if (names.join('\0') !== classNames.join('\0')) {
        throw inputError(
          file,
          `its classes (${names.length}: ${names.slice(0, 3).join(', ')}, …) are not those of the run ` +
            `(${classNames.length}: ${classNames.slice(0, 3).join(', ')}, …); use a file with the same class_names`,
        );
      }
      const logits = await (await open()).logits(checked(test!.features, `${file}: test.features`));
      return { path: file, ...classificationReport(logits, test!.labels, classNames.length, test!.groups) };
    },
    async close() {
      closed = true;
      await runtime?.close();
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

function predictions(logits: Float32Array, classNames: readonly string[], top: number): Prediction[] {
  const classes = classNames.length;
  return Array.from({ length: logits.length / classes }, (_, row) => {
    const p = probabilities(logits.subarray(row * classes, (row + 1) * classes));
    const best = Array.from(p, (probability, index) => ({ label: classNames[index]!, index, probability }))
      .sort((a, b) => b.probability - a.probability || a.index - b.index)
      .slice(0, Math.max(1, top));
    return { label: best[0]!.label, classes: best };
  });
}

/** Opens, evaluates one split and releases. */
export async function evaluateSplit(
  runtime: Runtime,
  module: FeatureModule,
  values: Tensors,
  split: Split,
  options?: SessionOptions,
): Promise<ClassificationReport> {
  const classifier = await openClassifier(runtime, module, values, options);
  try {
    const logits = await classifier.logits(split.features);
    return classificationReport(logits, split.labels, classifier.classes, split.groups);
  } finally {
    await classifier.release();
  }
}
