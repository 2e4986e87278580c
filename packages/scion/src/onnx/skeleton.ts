/**
 * A model file without its weights: what is left is small, however large the file. Only the outlines of the protobuf
 * encoding are followed (https://protobuf.dev/programming-guides/encoding), down to the bytes of each tensor.
 */
import { inputError } from '../util/errors.js';

/** The bytes of a file from an offset on. */
export type ReadRange = (offset: number, length: number) => Promise<Uint8Array>;

/** Numbers of the fields that lead to tensors, and of the one that holds a tensor's bytes. */
interface Level { readonly [field: number]: Level | 'bytes' }
const tensor: Level = { 9: 'bytes' };
/** ModelProto: graph 7; GraphProto: node 1, initializer 5; NodeProto: attribute 5; AttributeProto: t 5. */
const model: Level = { 7: { 1: { 5: { 5: tensor } }, 5: tensor } };

/** Bytes that are read at once. */
const windowBytes = 2 ** 18;
const varint = 0;
const fixed64 = 1;
const delimited = 2;
const fixed32 = 5;

/**
 * The model with every tensor of more than `above` bytes given as external data, at its offset in this same file: the
 * location stays empty.
 * @throws ScionError of kind `input` for bytes that are no protobuf message
 */
export async function skeletonOf(read: ReadRange, size: number, path: string, above = 1024): Promise<Uint8Array> {
  let window = { start: 0, bytes: new Uint8Array(0) };
  const malformed = (): never => {
    throw inputError(path, 'is no ONNX model, expected its protobuf encoding; check the path, or get the file again');
  };
  const bytesAt = async (offset: number, length: number): Promise<Uint8Array> => {
    const from = offset - window.start;
    if (from < 0 || from + length > window.bytes.length) {
      const wanted = Math.min(Math.max(length, windowBytes), size - offset);
      if (wanted < length) malformed();
      window = { start: offset, bytes: new Uint8Array(await read(offset, wanted)) };
    }
    return window.bytes.subarray(offset - window.start, offset - window.start + length);
  };
  const numberAt = async (offset: number, end: number): Promise<{ value: number; next: number }> => {
    const bytes = await bytesAt(offset, Math.min(10, end - offset));
    let value = 0;
    for (const [i, byte] of bytes.entries()) {
      value += (byte & 127) * 2 ** (7 * i);
      if (byte < 128) return { value, next: offset + i + 1 };
    }
    return malformed();
  };

  const walk = async (start: number, end: number, level: Level): Promise<Uint8Array[]> => {
    const parts: Uint8Array[] = [];
    for (let at = start; at < end;) {
      const key = await numberAt(at, end);
      const [field, kind] = [Math.floor(key.value / 8), key.value % 8];
      let next = key.next + (kind === fixed64 ? 8 : 4);
      if (kind === varint) next = (await numberAt(key.next, end)).next;
      if (kind === delimited) {
        const length = await numberAt(key.next, end);
        next = length.next + length.value;
        const inner = next <= end ? level[field] : malformed();
        if (inner === 'bytes' && length.value > above) {
          parts.push(...external(length.next, length.value));
          at = next;
          continue;
        }
        if (typeof inner === 'object') {
          const body = await walk(length.next, next, inner);
          parts.push(...message(field, body));
          at = next;
          continue;
        }
      } else if (kind !== varint && kind !== fixed64 && kind !== fixed32) {
        malformed();
      }
      if (next > end) malformed();
      parts.push((await bytesAt(at, next - at)).slice());
      at = next;
    }
    return parts;
  };
  return joined(await walk(0, size, model));
}

function number(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...number(Math.floor(value / 128))];
}

const lengthOf = (parts: readonly Uint8Array[]): number => parts.reduce((sum, p) => sum + p.length, 0);

const message = (field: number, body: readonly Uint8Array[]): Uint8Array[] =>
  [Uint8Array.from([...number(field * 8 + delimited), ...number(lengthOf(body))]), ...body];

/** TensorProto: external_data 13 (StringStringEntryProto: key 1, value 2), data_location 14, EXTERNAL 1. */
function external(offset: number, length: number): Uint8Array[] {
  const text = (field: number, value: string): Uint8Array[] => message(field, [new TextEncoder().encode(value)]);
  const entry = (key: string, value: number): Uint8Array[] => message(13, [...text(1, key), ...text(2, String(value))]);
  return [...entry('offset', offset), ...entry('length', length), Uint8Array.from([14 * 8 + varint, 1])];
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(lengthOf(parts));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
