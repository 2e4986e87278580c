/**
 * Keys and values of a decoder's earlier tokens. Shapes are static, so that a cache has a fixed number of slots: a mask
 * hides those that are not written yet.
 */
import type { Value } from '../ir/graph.js';
import { assert } from '../util/errors.js';
import * as f from './functional.js';
import type { KeyValueCache } from './places.js';

export interface KeysAndValues {
  keys: Value;
  values: Value;
}

/** Of the first pass: nothing comes before, and what is new can be read afterwards. */
export class FirstPassCache implements KeyValueCache {
  private own: KeysAndValues | undefined;

  extend(keys: Value, values: Value): KeysAndValues {
    this.own = { keys, values };
    return this.own;
  }

  /** Keys and values [slots, batch · copies, width] of all tokens: each example's repeated, later slots zero. */
  slots(slots: number, batch: number, copies: number): KeysAndValues {
    assert(this.own, 'the layer of this cache was not built');
    const fill = (rows: Value): Value => {
      const tokens = repeat(f.reshape(rows, [-1, batch, rows.shape[1]!]), copies);
      return f.pad(tokens, [0, 0, 0, slots - tokens.shape[0]!, 0, 0]);
    };
    return { keys: fill(this.own.keys), values: fill(this.own.values) };
  }
}

/** Of one more token: it is written into its slot. */
export class SlotCache implements KeyValueCache {
  private written: KeysAndValues | undefined;

  /**
   * @param before keys and values [slots, batch, width]
   * @param slot int64 [1, 1]
   * @param order int64 [batch]: which row's tokens each row goes on from, where they are to be rearranged
   */
  constructor(private readonly before: KeysAndValues, private readonly slot: Value, private readonly order?: Value) {}

  extend(keys: Value, values: Value): KeysAndValues {
    const write = (slots: Value, row: Value): Value =>
      f.scatterND(this.order ? f.gather(slots, this.order, 1) : slots, this.slot, f.reshape(row, [1, ...row.shape]));
    this.written = { keys: write(this.before.keys, keys), values: write(this.before.values, values) };
    const rows = (slots: Value): Value => f.reshape(slots, [-1, slots.shape[2]!]);
    return { keys: rows(this.written.keys), values: rows(this.written.values) };
  }

  /** Keys and values [slots, batch, width], the new token's among them. */
  get after(): KeysAndValues {
    assert(this.written, 'the layer of this cache was not built');
    return this.written;
  }
}

/** [T, B, d] → [T, B · copies, d], row = example · copies + copy */
export function repeat(x: Value, copies: number): Value {
  const [tokens, batch, width] = x.shape as [number, number, number];
  if (copies === 1) return x;
  const copied = f.expand(f.reshape(x, [tokens, batch, 1, width]), [tokens, batch, copies, width]);
  return f.reshape(copied, [tokens, batch * copies, width]);
}
