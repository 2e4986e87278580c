/** Attention to a learned prefix, from nothing on (Zhang et al., "LLaMA-Adapter", ICLR 2024, section 3.2). */
import type { Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { attention } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { type Parameter, bind, init, trained } from '../../nn/parameter.js';
import type { AttentionPlug } from '../../nn/places.js';

/**
 * `tanh(gate) · softmax(q kᵀ / √d) v` for each head, k and v from `adaption_prompt` [count, width] by the layer's own
 * projections. The softmax is over the prefix alone, so that a gate of 0 leaves the layer as it was. Names are PEFT's.
 */
export class GatedPrefix extends Module implements AttentionPlug {
  private readonly prompt: Parameter;
  private readonly gate: Parameter;

  constructor(count: number, width: number, private readonly heads: number) {
    super();
    this.prompt = this.parameter('adaption_prompt', trained([count, width], init.normal(1)));
    this.gate = this.parameter('adaption_gate', trained([heads], init.zeros));
  }

  /** queries [tokens · batch, width] → what each reads from the prefix, of the same shape */
  forward(queries: Value, project: (name: 'k_proj' | 'v_proj', x: Value) => Value): Value {
    const { graph, shape } = queries;
    const { heads } = this;
    const [rows, width] = shape as [number, number];
    const prompt = bind(graph, this.prompt);
    // the prefix is the same for all inputs: their tokens are the queries of one
    const read = attention(queries, project('k_proj', prompt), project('v_proj', prompt), { tokens: rows, batch: 1, heads });
    const gate = f.reshape(f.tanh(bind(graph, this.gate)), [heads, 1]);
    return f.reshape(f.mul(f.reshape(read, [rows, heads, width / heads]), gate), [rows, width]);
  }
}
