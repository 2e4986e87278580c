/** Optimizers as graph: each emits the update of one parameter; what depends on the step alone is fed as a scalar. */
import type { Value } from '../ir/graph.js';

export interface UpdateContext {
  parameter: Value;
  gradient: Value;
  /** The optimizer's state of this parameter, by slot. */
  slots: Readonly<Record<string, Value>>;
  /** The learning rate of the parameter's group in this step, a scalar. */
  lr: Value;
  /** The scalars of `scalars(step)`. */
  scalars: Readonly<Record<string, Value>>;
  weightDecay: number;
}

export interface Optimizer {
  /** Names of the state that each parameter has; all start at 0 and have the parameter's shape. */
  readonly slots: readonly string[];
  /** Weight decay where a group names none. */
  readonly weightDecay: number;
  /** Scalars that depend on the step (from 1 on), computed in double precision outside of the graph. */
  scalars(step: number): Record<string, number>;
  update(context: UpdateContext): { parameter: Value; slots: Record<string, Value> };
}
