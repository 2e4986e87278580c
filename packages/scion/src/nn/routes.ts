/**
 * What adapters may read beside the rows that they adapt: the visual feature of each example, and the states of the
 * encoder that a decoder listens to. A model sets it before its layers are built; routing functions read it. Blocks set
 * the size of the batch themselves.
 */
import type { Graph, Value } from '../ir/graph.js';

export interface Routes {
  /** [n, B, d]: n = 1 where the picture is one pooled feature, else its patches. */
  readonly visual?: Value | undefined;
  /** [T, B, d]: the last states of the encoder, within a decoder. */
  readonly encoder?: Value | undefined;
  /** Of the tokens that an encoder reads, [B, T]: 1 for a token that counts and 0 for padding. */
  readonly mask?: Value | undefined;
  /** Examples in the rows of the layer that is being built. */
  readonly batch?: number | undefined;
}

const all = new WeakMap<Graph, Routes>();

/** Sets what is given; what is not stays as it is. */
export function setRoutes(graph: Graph, routes: Routes): void {
  all.set(graph, { ...all.get(graph), ...routes });
}

export function routesOf(graph: Graph): Routes {
  return all.get(graph) ?? {};
}
