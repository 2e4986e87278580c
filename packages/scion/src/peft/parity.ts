/** Reference files of a method: how their inputs lead to their outputs. */
import type { Value } from '../ir/graph.js';

export interface ParityInputs {
  /** A tensor of the file as input of the graph. */
  input: (name: string) => Value;
  /** Whether the file has this tensor. */
  has: (name: string) => boolean;
  /** A number or a word of the file's metadata; an error names what is missing. */
  number: (key: string) => number;
  text: (key: string) => string;
}

export interface ParityCheck {
  /** Files `<prefix>-*.safetensors` belong to this check. */
  prefix: string;
  /**
   * `outputs` by tensor name, and the scalar whose derivative with respect to `X` the tensor `grad_X` holds.
   */
  build(inputs: ParityInputs): { outputs: Readonly<Record<string, Value>>; objective: Value };
}
