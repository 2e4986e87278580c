/** Reverse-mode differentiation of a graph, by the vjp of each op. */
import { type Value, producer } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { isFloat } from '../ops/elementwise.js';
import { opDef } from '../ops/table.js';
import { assert, inputError } from '../util/errors.js';

/**
 * Adds the vector-Jacobian product to the graph: the derivative of `sum(output · cotangent)` with respect to each of
 * `wrt`, in their shapes. Backward nodes are built only where one of `wrt` is reachable, so that what is frozen below
 * the lowest adapter costs nothing. A value that the output does not depend on gets zeros.
 * Throws where the gradient would have to pass an op that has none, and says which.
 */
export function vjp(output: Value, cotangent: Value, wrt: readonly Value[]): Value[] {
  const { graph } = output;
  assert(cotangent.shape.join() === output.shape.join(), 'a cotangent has the shape of its output');
  const leads = new Set<Value>(wrt);
  for (const node of graph.nodes) {
    if (node.inputs.some((v) => leads.has(v) && isFloat(v))) node.outputs.forEach((v) => leads.add(v));
  }
  const cotangents = new Map<Value, Value>([[output, cotangent]]);
  const accumulate = (v: Value, g: Value): void => {
    const present = cotangents.get(v);
    cotangents.set(v, present ? b.add(present, g) : g);
  };
  const wanted = new Set(wrt);
  // nodes are in execution order; those added meanwhile are backward nodes and come after
  const forward = graph.nodes.slice(0);
  for (const node of forward.reverse()) {
    if (!node.outputs.some((v) => cotangents.has(v) && leads.has(v))) continue;
    const needed = node.inputs.map((v) => leads.has(v) && isFloat(v));
    if (!needed.some(Boolean) || b.isDetached(node.outputs[0]!)) continue;
    const rule = opDef(node.op).vjp;
    if (rule === 'nondifferentiable') {
      // an imported graph may hold such an op, so that this is the user's to mend
      throw inputError('', `no gradient passes ${node.op}${node.path ? ` at ${node.path}` : ''}; keep it off the path `
        + 'from a trainable value to the loss, or take a model without it');
    }
    graph.at(node.path === '' ? 'backward' : `${node.path}/backward`, () => {
      const cotangentOf = (i: number): Value => {
        const v = node.outputs[i]!;
        return cotangents.get(v) ?? b.full(graph, v.dtype, v.shape, 0);
      };
      const thunks = rule({
        inputs: node.inputs, outputs: node.outputs, attributes: node.attributes, dy: cotangentOf(0),
        cotangent: cotangentOf, reached: (i) => cotangents.has(node.outputs[i]!),
      });
      node.inputs.forEach((v, i) => {
        const thunk = thunks[i];
        if (needed[i] && thunk) accumulate(v, thunk());
      });
    });
    // free the cotangents of inner values, keep those that were asked for
    for (const v of node.outputs) if (!wanted.has(v)) cotangents.delete(v);
  }
  return wrt.map((v) => cotangents.get(v) ?? b.full(graph, v.dtype, v.shape, 0));
}

/** The gradients of a scalar loss. */
export function gradients(loss: Value, wrt: readonly Value[]): Value[] {
  assert(loss.shape.length === 0, `a loss is a scalar, not [${loss.shape.join(', ')}]`);
  assert(producer(loss) !== undefined, 'a loss is computed by the graph');
  return vjp(loss, b.full(loss.graph, loss.dtype, [], 1), wrt);
}
