/** Which module a node of an exported graph was part of, as its path in the exported model. */
import type { OnnxNode } from './decode.js';

/**
 * `vision_model.encoder.layers.0.self_attn.q_proj` of a node that PyTorch exported: its newer exporter writes the
 * modules beside the node, the older one has them in the name, `/vision_model/…/layers.0/self_attn/q_proj/MatMul`.
 * Empty where the graph says nothing (other exporters, and nodes of the model itself).
 */
export function modulePath({ name, scopes }: OnnxNode): string {
  if (scopes) {
    // each scope is a full path, the last one the node
    return scopes.slice(0, -1).at(-1) ?? '';
  }
  const parts = name.split('/');
  return parts.length > 2 && parts[0] === '' ? parts.slice(1, -1).join('.') : '';
}

/** The module of a weight by its name, `…q_proj` of `…q_proj.weight`; undefined for names that exporters make up. */
export function weightPath(name: string): string | undefined {
  return /^([A-Za-z_][\w.]*)\.weight(_quantized|_Q\d+)?$/.exec(name)?.[1];
}
