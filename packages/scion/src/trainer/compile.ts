/** From a loss to the program of one training step: gradients, clipping, optimizer, passes, prologue. */
import { gradients } from '../autodiff/grad.js';
import { Graph, type Value } from '../ir/graph.js';
import { type Parameter, boundParameters } from '../nn/parameter.js';
import { clipByGlobalNorm } from '../optim/clip.js';
import type { Optimizer } from '../optim/optimizer.js';
import { checkpoint } from '../passes/checkpoint.js';
import { attentionGrad } from '../passes/softmax-grad.js';
import { type Hoisted, hoistFrozen } from '../passes/hoist.js';
import { recomputeAttention } from '../passes/recompute.js';
import { shrink } from '../passes/shrink.js';
import { simplify } from '../passes/simplify.js';
import { assert } from '../util/errors.js';
import { type Random } from '../util/random.js';
import { type Tensor, zeros } from '../util/tensor.js';

/** Parameters that share a learning rate and a weight decay; the first group that matches a name is taken. */
export interface ParameterGroup {
  name: string;
  match: (parameter: string) => boolean;
  lr: number;
  weightDecay?: number;
}

/** A program: the step, and what is computed once before it. */
export interface Program extends Hoisted {
  /** Parameters that the program takes as inputs. */
  parameters: readonly Parameter[];
}

export interface TrainingProgram extends Program {
  optimizer: Optimizer;
  groups: readonly ParameterGroup[];
  /** Output → input, for everything that a step hands to the next one. */
  carry: Readonly<Record<string, string>>;
  /** Names of the inputs that a step updates, with their shapes: trained parameters and the optimizer's state. */
  state: ReadonlyMap<string, { shape: readonly number[]; parameter?: Parameter }>;
}

/** Runs all passes over a built graph. `recompute` keeps less of the forward pass, see `checkpoint`. */
export function optimise(graph: Graph, recompute = false): Hoisted {
  const { prologue, step } = hoistFrozen(simplify(attentionGrad(simplify(shrink(graph)))));
  return { prologue, step: recomputeAttention(recompute ? checkpoint(step) : step) };
}

/** A program without gradients; outputs by name. */
export function compileInference(build: (graph: Graph) => Readonly<Record<string, Value>>): Program {
  const graph = new Graph();
  for (const [name, v] of Object.entries(build(graph))) graph.output(name, v);
  return { ...optimise(graph), parameters: usedParameters(graph) };
}

function usedParameters(graph: Graph): Parameter[] {
  return [...boundParameters(graph).keys()].filter((p) => p.origin.kind !== 'external');
}

/** A loss and its gradients as outputs `loss` and `grad.<parameter>`, for solvers that run outside of the graph. */
export function compileObjective(build: (graph: Graph) => Value): Program & { trained: readonly Parameter[] } {
  const graph = new Graph();
  const loss = build(graph);
  const parameters = usedParameters(graph);
  const trained = parameters.filter((p) => p.origin.kind === 'trained');
  const bound = boundParameters(graph);
  graph.output('loss', loss);
  gradients(
    loss,
    trained.map((p) => bound.get(p)!),
  ).forEach((g, i) => graph.output(`grad.${trained[i]!.name}`, g));
  return { ...optimise(graph), parameters, trained };
}

/**
 * Compiles forward, backward and optimizer of one step. `build` gives the scalar `loss` and further outputs to report.
 * Inputs of the step beside the batch: `lr.<group>` and the optimizer's scalars, see `stepScalars`.
 */
export function compileTraining(options: {
  build: (graph: Graph) => { loss: Value } & Readonly<Record<string, Value>>;
  optimizer: Optimizer;
  groups: readonly ParameterGroup[];
  maxGradNorm?: number;
  /** Computes the activations of each layer again in the backward pass: less memory, more time. */
  recompute?: boolean | undefined;
}): TrainingProgram {
  const { optimizer, groups, maxGradNorm, recompute } = options;
  const graph = new Graph();
  const outputs = options.build(graph);
  const parameters = usedParameters(graph);
  const trained = parameters.filter((p) => p.origin.kind === 'trained');
  assert(trained.length > 0, 'nothing to train');
  const bound = boundParameters(graph);
  let grads = gradients(
    outputs.loss,
    trained.map((p) => bound.get(p)!),
  );
  for (const [name, v] of Object.entries(outputs)) graph.output(name, v);
  if (maxGradNorm !== undefined) {
    const clipped = graph.at('optimizer', () => clipByGlobalNorm(grads, maxGradNorm));
    grads = clipped.gradients;
    graph.output('grad_norm', clipped.norm);
  }
  const carry: Record<string, string> = {};
  const state = new Map<string, { shape: readonly number[]; parameter?: Parameter }>();
  const next = (name: string, value: Value): void => {
    graph.output(`next.${name}`, value);
    carry[`next.${name}`] = name;
  };
  const scalarInput = (name: string): Value => graph.input(name, 'float32', []);
  const rates = new Map(groups.map((g) => [g, scalarInput(`lr.${g.name}`)]));
  const scalars = Object.fromEntries(Object.keys(optimizer.scalars(1)).map((n) => [n, scalarInput(`optimizer.${n}`)]));
  graph.at('optimizer', () =>
    trained.forEach((p, i) => {
      const group = groups.find((g) => g.match(p.name));
      assert(group, `no parameter group matches ${p.name}`);
      const slots = Object.fromEntries(
        optimizer.slots.map((slot) => {
          const name = `${p.name}.${slot}`;
          state.set(name, { shape: p.shape });
          return [slot, graph.input(name, 'float32', p.shape, 'state')];
        }),
      );
      state.set(p.name, { shape: p.shape, parameter: p });
      const updated = optimizer.update({
        parameter: bound.get(p)!,
        gradient: grads[i]!,
        slots,
        lr: rates.get(group)!,
        scalars,
        weightDecay: group.weightDecay ?? optimizer.weightDecay,
      });
      next(p.name, updated.parameter);
      for (const slot of optimizer.slots) next(`${p.name}.${slot}`, updated.slots[slot]!);
    }),
  );
  return { ...optimise(graph, recompute), parameters, optimizer, groups, carry, state };
}

/** The scalars that step `step` (from 0) is fed: learning rates under a schedule factor, bias corrections. */
export function stepScalars(program: TrainingProgram, step: number, factor: number): Record<string, number> {
  return Object.fromEntries([
    ...program.groups.map((g) => [`lr.${g.name}`, g.lr * factor] as const),
    ...Object.entries(program.optimizer.scalars(step + 1)).map(([n, v]) => [`optimizer.${n}`, v] as const),
  ]);
}

/** Fresh state: parameters drawn each from a stream of its own name, optimizer state zero. */
export function initialState(program: TrainingProgram, random: Random): Record<string, Tensor> {
  return Object.fromEntries(
    [...program.state].map(([name, { shape, parameter }]) => [
      name,
      parameter?.origin.kind === 'trained'
        ? parameter.origin.init(shape, random.child('init', name))
        : zeros('float32', shape),
    ]),
  );
}
