/** What all methods have in common: how they are called, configured and trained. */
import type { z } from 'zod';

/** The published training of a method; every value can be set in the recipe. */
export interface TrainingDefaults {
  optimizer: 'adam' | 'adamw' | 'sgd' | 'lbfgs';
  lr: number;
  eps?: number;
  weight_decay?: number;
  momentum?: number;
  epochs: number;
  /** Steps for each training row of a class; then `epochs` counts only where it is set in the recipe. */
  steps_per_shot?: number;
  batch_size: number;
  schedule: 'constant' | 'linear' | 'cosine';
  warmup_epochs?: number;
  /** Whether every epoch sees another random view of each picture. */
  augment?: boolean;
}

/** Hyper-parameters that are chosen on validation data. */
export interface Search {
  /** `evaluate`: values of settings, tried without training again. `train`: one training for each combination. */
  when: 'evaluate' | 'train';
  /** Whether the published protocol searches; otherwise only on request. */
  published: boolean;
  grid: Readonly<Record<string, readonly number[]>>;
}

/** How classes come and go in a trained run without touching the others. */
export interface ClassChanges {
  /** What the rows of each trained value stand for; one that is not named belongs to no class. */
  rows?: Readonly<Record<string, 'classes' | 'support'>>;
  /** Why a class cannot be added to what was trained; absent where it can. */
  add?: string;
  /** Why a class cannot be removed. */
  remove?: string;
  /** What is to be known of an added class: values of its own begin where training would have begun. */
  note?: string;
}

export interface MethodInfo<S extends z.ZodObject = z.ZodObject> {
  name: string;
  title: string;
  paper?: string;
  /** One sentence: what is trained and how it enters the logits. */
  summary: string;
  /** Whether text features are needed. */
  needsText: boolean;
  /** Hyper-parameters with their published defaults. */
  config: S;
  /** Absent for methods that train nothing. */
  training?: TrainingDefaults;
  search?: Search;
  /** Absent where classes stay as they are. */
  classes?: ClassChanges;
}
