/** Attention of the domain com.microsoft, as ONNX Runtime's optimizer fuses it, written out again. */
import type { Value } from '../../ir/graph.js';
import * as b from '../../ops/build.js';
import type { Call, Converter } from './call.js';

/** [B, S, heads · d] as [B, heads, S, d] */
function heads(x: Value, count: number): Value {
  const [batch, length, width] = x.shape as [number, number, number];
  return b.transpose(b.reshape(x, [batch, length, count, width / count]), [0, 2, 1, 3]);
}

/** Scaled dot products over heads; `mask` and the sixth operand are added to the scores [B, heads, S, L]. */
function attend(call: Call, q: Value, k: Value, v: Value, mask: Value | undefined): Value {
  const more = call.optional(5);
  const bias = mask && more ? b.add(mask, more) : mask ?? more;
  const scores = b.fusedMatMul(q, k, { alpha: call.number('scale', 1 / Math.sqrt(q.shape[3]!)), transB: 1 });
  const mixed = b.transpose(b.matmul(b.softmax(bias ? b.add(scores, bias) : scores), v), [0, 2, 1, 3]);
  const [batch, length] = mixed.shape as [number, number];
  return b.reshape(mixed, [batch, length, -1]);
}

/** What is added to the scores to hide some: keys that the mask leaves out, and with `unidirectional` later ones. */
function hidden(call: Call, mask: Value | undefined, batch: number, queries: number, keys: number): Value | undefined {
  const far = call.number('mask_filter_value', -10000);
  let bias: Value | undefined;
  if (mask) {
    if (mask.shape.join() !== [batch, keys].join()) {
      return call.refuse(`has a mask of shape [${mask.shape.join(', ')}]; supported is [${batch}, ${keys}]`);
    }
    bias = b.mul(b.sub(1, b.cast(b.reshape(mask, [batch, 1, 1, keys]), 'float32')), far);
  }
  if (call.number('unidirectional', 0) === 0) return bias;
  const later = call.filled('float32', [queries, keys], (i) => (i % keys > Math.floor(i / keys) ? far : 0));
  return bias ? b.add(bias, later) : later;
}

function refuseCache(call: Call, inputs: readonly number[]): void {
  if (inputs.some((i) => call.optional(i)) || call.node.outputs.slice(1).some((name) => name !== '')) {
    call.refuse('keeps keys and values from call to call, which is not supported');
  }
}

/** Queries, keys and values from one product with packed weights [width, 3 · width]. */
const attention: Converter = (call) => {
  const [x, weight] = [call.input(0), call.input(1)];
  refuseCache(call, [4, 6]);
  call.only('do_rotary', 0);
  const count = call.number('num_heads', 1);
  const sizes = call.ints('qkv_hidden_sizes') ?? [0, 1, 2].map(() => weight.shape[1]! / 3);
  const packed = b.matmul(x, weight);
  const bias = call.optional(2);
  const parts = b.split(bias ? b.add(packed, bias) : packed, sizes, 2);
  const [q, k, v] = parts.map((part) => heads(part, count)) as [Value, Value, Value];
  const [batch, length] = x.shape as [number, number];
  const mask = hidden(call, call.optional(3), batch, length, length);
  return attend(call, q, k, v, mask);
};

/** Queries, keys and values [B, S, width] that were projected before, with a common bias. */
const multiHeadAttention: Converter = (call) => {
  refuseCache(call, [6, 7]);
  const count = call.number('num_heads', 1);
  const parts = [0, 1, 2].map((i) => call.input(i));
  if (parts.some((p) => p.shape.length !== 3)) {
    return call.refuse('has packed or cached operands, which are not supported');
  }
  const bias = call.optional(3);
  const biases = bias && b.split(bias, parts.map((p) => p.shape[2]!), 0);
  const [q, k, v] = parts.map((p, i) => heads(biases ? b.add(p, biases[i]!) : p, count)) as [Value, Value, Value];
  const [batch, , queries] = q.shape as [number, number, number];
  const mask = hidden(call, call.optional(4), batch, queries, k.shape[2]!);
  return attend(call, q, k, v, mask);
};

export const contribAttention: Readonly<Record<string, Converter>> = {
  Attention: attention, MultiHeadAttention: multiHeadAttention,
};
