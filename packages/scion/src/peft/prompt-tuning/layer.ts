/** Learned tokens among the states of a tower (visual prompt tuning, Jia et al., ECCV 2022, section 3.2). */
import type { Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { Module } from '../../nn/module.js';
import { type Init, type Parameter, bind, trained } from '../../nn/parameter.js';
import type { TokenPlug } from '../../nn/places.js';

export interface PromptPlace {
  /** The number of tokens before the learned ones; where absent, the learned ones come last. */
  start?: number;
  /** Whether they take the place of as many tokens that an earlier layer has let through, or are more. */
  replaces: boolean;
}

/** `prompt_embeddings` [count, width], the same for all inputs, put among the tokens. */
export class PromptTokens extends Module implements TokenPlug {
  private readonly prompts: Parameter;

  constructor(
    private readonly count: number, private readonly width: number, initial: Init, private readonly place: PromptPlace,
  ) {
    super();
    this.prompts = this.parameter('prompt_embeddings', trained([count, width], initial));
  }

  /** x [tokens · batch, width], row = token · batch + input */
  forward(x: Value, batch: number): Value {
    const { count, width, place: { start, replaces } } = this;
    const rows = x.shape[0]!;
    const replaced = replaces ? count * batch : 0;
    const before = start === undefined ? rows - replaced : start * batch;
    const prompts = f.expand(f.reshape(bind(x.graph, this.prompts), [count, 1, width]), [count, batch, width]);
    const part = (from: number, to: number): Value[] =>
      (from === to ? [] : [from === 0 && to === rows ? x : f.slice(x, 0, from, to)]);
    return f.concat([
      ...part(0, before), f.reshape(prompts, [count * batch, width]), ...part(before + replaced, rows),
    ], 0);
  }
}
