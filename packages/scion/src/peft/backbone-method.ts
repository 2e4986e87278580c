/** Methods that adapt the backbone itself: they put trained parts into its module tree, or train some of its own. */
import type { z } from 'zod';
import type { Module } from '../nn/module.js';
import type { Parameter } from '../nn/parameter.js';
import { type Issue, ScionError } from '../util/errors.js';
import type { Tensor } from '../util/tensor.js';
import type { MethodInfo } from './method.js';

/** The words of a classification, for methods that learn prompts. */
export interface PromptWords {
  classNames: readonly string[];
  /** The texts of each class, one or more. */
  prompts: readonly (readonly string[])[];
  /** Tokens of a text, padding included. */
  length: number;
  /** Texts → ids int64 [texts, length], with the marks of begin and end where the tokenizer sets them. */
  tokenize(texts: readonly string[]): Tensor<'int64'>;
}

export interface AttachContext {
  /** The value of a parameter as the checkpoint has it. */
  read(parameter: Parameter): Promise<Tensor<'float32'>>;
  /** Absent where nothing is classified by words. */
  words?: PromptWords;
}

export interface Attached {
  /** Ids [texts of it, length] of each class, which take the place of the recipe's prompts. */
  promptIds?: readonly Tensor<'int64'>[];
}

export interface BackboneMethod<S extends z.ZodObject = z.ZodObject> extends MethodInfo<S> {
  /** Whether it learns the prompts of its classes: then what was trained says nothing of other words. */
  learnsPrompts?(config: z.output<S>): boolean;
  /**
   * Changes the tree: afterwards its trained parameters are those of the method and have their full names, and its
   * outputs are what they were, unless the method starts from random values. The tree is freshly loaded: a tower's
   * modules are told apart by the blocks' `kind`, others by the tower that the path begins with.
   * @throws ScionError of kind `usage`: a target that matches nothing, or a model without the places that it needs
   */
  attach(model: Module, config: z.output<S>, context: AttachContext): Promise<Attached | void> | Attached | void;
}

/** Whether a method adapts the backbone itself. */
export function isBackboneMethod(method: MethodInfo): method is BackboneMethod {
  return 'attach' in method;
}

/** What an adapter puts where a module was: knows how to become that module again. */
export interface Mergeable {
  /** Why it cannot be merged as it is set, if so. */
  readonly obstacle?: string | undefined;
  /**
   * The parameters of the module below that change, with the adapter added to them.
   */
  merge(context: Pick<AttachContext, 'read'>, value: Values): Promise<Map<Parameter, Tensor<'float32'>>>;
}

/** A trained value by the full name of its parameter. */
export type Values = (name: string) => Tensor<'float32'>;

export function isMergeable(module: object): module is Mergeable {
  return 'merge' in module && obstacleOf(module) === undefined;
}

export const obstacleOf = (module: object): string | undefined =>
  ('merge' in module ? (module as Mergeable).obstacle : undefined);

/** Makes parameters of the model trained ones, from where they stand. Statistics stay as they are. */
export async function unfreeze(parameters: readonly Parameter[], { read }: Pick<AttachContext, 'read'>): Promise<void> {
  for (const p of parameters) if (p.origin.kind !== 'trained' && !p.isStatistic) p.unfreeze(await read(p));
}

/** @throws ScionError with a usage error at `config.<key>` */
export function refuse(...issues: [key: string, message: string][]): never {
  throw new ScionError('usage', issues.map(([key, message]): Issue => ({ path: `config.${key}`, message })));
}
