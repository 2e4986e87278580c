/**
 * Dropout whose masks come from a counter-based generator inside the graph: a function of seed, step, name and element
 * alone. ONNX's own random ops restart their sequence with every session, which a resumed run could not follow.
 */
import type { Graph, Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { assert } from '../util/errors.js';
import { Random } from '../util/random.js';
import { numel, tensor } from '../util/tensor.js';

/**
 * Sets each element of x to 0 with probability p and scales the others by `1 / (1 - p)`. Gradients pass kept elements
 * only. `seed` and `step` are scalar uint32 inputs; `name` tells the places in a model apart.
 */
export function dropout(x: Value, p: number, seed: Value, step: Value, name: string): Value {
  assert(p >= 0 && p < 1, `dropout with probability ${p}, expected 0 ≤ p < 1`);
  if (p === 0) return x;
  // 24 of the 32 bits: as many as float32 holds, in which alone ONNX Runtime compares
  const bits = b.cast(shiftRight(randomWords(x, seed, step, name), 8), 'float32');
  const kept = b.greaterOrEqual(bits, Math.round(p * 2 ** 24));
  return b.where(kept, b.mul(x, 1 / (1 - p)), 0);
}

/** The graphs of training steps, with the inputs that their masks come from once there is a mask. */
const training = new WeakMap<Graph, { seed?: Value; step?: Value }>();
export const dropoutInputs = { seed: 'dropout.seed', step: 'dropout.step' } as const;

/** From here on `dropoutInTraining` drops in this graph; a step is then fed the scalars named in `dropoutInputs`. */
export function enableDropout(graph: Graph): void {
  training.set(graph, {});
}

/** `dropout` in a graph that trains, nothing in one that predicts. */
export function dropoutInTraining(x: Value, p: number, name: string): Value {
  const inputs = training.get(x.graph);
  if (!inputs || p === 0) return x;
  inputs.seed ??= x.graph.input(dropoutInputs.seed, 'uint32', []);
  inputs.step ??= x.graph.input(dropoutInputs.step, 'uint32', []);
  return dropout(x, p, inputs.seed, inputs.step, name);
}

/** A uint32 for every element of x. Elements of one mask differ in their counter, masks in their two keys. */
function randomWords(x: Value, seed: Value, step: Value, name: string): Value {
  const { graph } = x;
  const words = Random.seeded(0).child('dropout', name);
  const key = (first: Value, second: Value): Value =>
    avalanche(b.bitwiseXor(avalanche(b.bitwiseXor(first, word(graph, words.uint32()))), second));
  const [entry, middle] = [key(seed, step), key(step, seed)];
  const columns = x.shape.at(-1) ?? 1;
  const rows = numel(x.shape) / columns;
  const bits = Math.ceil(Math.log2(columns));
  assert(rows * 2 ** bits <= 2 ** 32, `dropout of [${x.shape.join(', ')}] has too many elements`);
  // the counter of an element, row · 2^bits + column, as two short vectors
  const column = counters(graph, columns, 0);
  const row = b.reshape(counters(graph, rows, bits), [rows, 1]);
  const counter = b.bitwiseXor(b.bitwiseXor(row, entry), column); // [rows, columns]
  return b.reshape(avalanche(counter, middle), x.shape);
}

/**
 * Lets every bit of the result depend on every bit of x (the hash "lowbias32" of C. Wellons, "Prospecting for hash
 * functions", 2018). A second key in the middle keeps two masks from being the same one with its elements exchanged.
 */
function avalanche(x: Value, key?: Value): Value {
  const { graph } = x;
  let h = b.mul(foldRight(x, 16), word(graph, 0x7feb352d));
  h = foldRight(h, 15);
  h = b.mul(key ? b.bitwiseXor(h, key) : h, word(graph, 0x846ca68b));
  return foldRight(h, 16);
}

const shiftRight = (x: Value, by: number): Value => b.bitShift(x, word(x.graph, by), 'RIGHT');
const foldRight = (x: Value, by: number): Value => b.bitwiseXor(x, shiftRight(x, by));

const word = (graph: Graph, value: number): Value => graph.constant(tensor('uint32', [], Uint32Array.of(value)));

/** 0, 1, … n - 1, shifted to the left; one constant per size in a graph. */
function counters(graph: Graph, n: number, bits: number): Value {
  const name = `dropout.counters.${n}.${bits}`;
  const known = graph.constants.find((v) => v.source.kind === 'constant' && v.source.name === name);
  return known ?? graph.constant(tensor('uint32', [n], Uint32Array.from({ length: n }, (_, i) => i * 2 ** bits)), name);
}
