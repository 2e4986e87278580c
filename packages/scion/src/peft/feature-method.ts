/** Methods that adapt a classifier on frozen image and text features; images and backbone are not touched. */
import type { z } from 'zod';
import type { Value } from '../ir/graph.js';
import { Module } from '../nn/module.js';
import { type Tensor, float32 } from '../util/tensor.js';
import type { MethodInfo } from './method.js';

/** What a method may build on. All of it is stored in the run folder, so that a run can be rebuilt anywhere. */
export interface FeatureInputs {
  /** [K, templates, d], as the backbone gives them; absent where the features come without words. */
  text?: Tensor<'float32'>;
  /** Features [N, d] and labels [N] of the few-shot training images, N ≥ 1 per class. */
  support: { features: Tensor<'float32'>; labels: Int32Array };
  classes: number;
  dim: number;
  /** exp(logit_scale) of the backbone. */
  logitScale: number;
}

/** A classifier over features with the method's trained values. */
export abstract class FeatureModule extends Module {
  constructor(readonly inputs: FeatureInputs) {
    super();
  }

  /** features [B, d] as the backbone gives them → logits [B, K]. */
  abstract logits(features: Value): Value;

  /**
   * The image feature [B, d] that is compared with class texts by cosine, for methods that leave the texts as the
   * backbone gives them: such a method can classify by other words than those it was trained with.
   */
  comparedWithTexts?(features: Value): Value;
  /** A scalar added to the loss, for methods whose objective has one. */
  penalty?(features: Value): Value;
}

export interface FeatureMethod<S extends z.ZodObject = z.ZodObject> extends MethodInfo<S> {
  create(inputs: FeatureInputs, config: z.output<S>): FeatureModule;
}

/**
 * Mean over the templates: [K, templates, d] → [K, d], of the features as they are, as the code of TaskRes
 * takes them. Computed in double precision.
 */
export function classTexts(text: Tensor<'float32'>): Tensor<'float32'> {
  const [classes, templates, dim] = text.shape as [number, number, number];
  const out = new Float64Array(classes * dim);
  text.data.forEach((v, i) => { out[Math.floor(i / (templates * dim)) * dim + (i % dim)]! += v / templates; });
  return float32([classes, dim], out);
}

/**
 * Mean direction over the templates: each is normalised first, as in OpenAI's prompt ensembling and the code of
 * Tip-Adapter.
 */
export function classDirections(text: Tensor<'float32'>): Tensor<'float32'> {
  return classTexts(normaliseRows(text));
}

/** Mean of the support rows of each class: [N, d] → [K, d]. */
export function classMeans({ support, classes, dim }: FeatureInputs): Tensor<'float32'> {
  const sums = new Float64Array(classes * dim);
  const counts = new Float64Array(classes);
  support.labels.forEach((label, row) => {
    counts[label]!++;
    for (let i = 0; i < dim; i++) sums[label * dim + i]! += support.features.data[row * dim + i]!;
  });
  return float32([classes, dim], sums.map((v, i) => v / Math.max(1, counts[Math.floor(i / dim)]!)));
}

/** Rows divided by their L2 norm, on the host. */
export function normaliseRows(t: Tensor<'float32'>): Tensor<'float32'> {
  const dim = t.shape.at(-1)!;
  const out = Float32Array.from(t.data);
  for (let row = 0; row < out.length; row += dim) {
    let sum = 0;
    for (let i = row; i < row + dim; i++) sum += out[i]! * out[i]!;
    const norm = Math.sqrt(sum) || 1;
    for (let i = row; i < row + dim; i++) out[i]! /= norm;
  }
  return float32(t.shape, out);
}
