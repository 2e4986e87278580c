/** From the tensors of a checkpoint to the parameters of a module tree, without reading a byte of them. */
import type { ExternalData, TypeInfo } from '../ir/graph.js';
import type { Weights } from '../nn/layers.js';
import type { OnnxTowers } from './onnx/layers.js';
import type { Module } from '../nn/module.js';
import { Parameter } from '../nn/parameter.js';
import { type Issue, ScionError } from '../util/errors.js';
import { type DType, type Shape, sameShape } from '../util/tensor.js';

/** A tensor in a file. Where `transposed`, the file holds the columns of the matrix `shape` one after the other. */
export interface StoredTensor extends TypeInfo, ExternalData {
  readonly transposed?: true;
}

/** What a checkpoint holds, by name: whatever kind of file that may be. */
export type TensorSource = ReadonlyMap<string, StoredTensor>;

/** What a folder or file holds: the content of its config.json, where there is one, and the places of its tensors. */
export interface Checkpoint {
  /** The folder or file, for messages. */
  readonly path: string;
  readonly config?: unknown;
  readonly tensors: TensorSource;
  /** Its towers, where it is given as graphs. */
  readonly onnx?: OnnxTowers;
}

/** The types that a parameter may be stored as. */
export const readable: readonly DType[] = ['float32', 'float16', 'bfloat16'];
/** Indices, counters and what serves other tasks, which checkpoints carry but no feature needs. */
const idle = /(^|\.)(position_ids|num_batches_tracked|mask_token|pooler\.dense\.\w+)$/;

/**
 * Builds a module tree whose parameters stay in the checkpoint's files.
 * @param where the checkpoint, for messages
 * @param build makes the tree with the weights it is handed
 * @throws ScionError of kind `input` that lists every tensor that is missing, of another shape or dtype than the model
 *   has, or under one of the model's modules though the model has no such parameter
 */
export function fromCheckpoint<M extends Module>(
  tensors: TensorSource, where: string, build: (weights: Weights) => M,
): M {
  const issues: Issue[] = [];
  const asked = new Set<string>();
  const model = build((name, shape) => {
    asked.add(name);
    const stored = tensors.get(name);
    const fault = complaint(stored, shape);
    if (fault) issues.push({ path: `${where}: ${name}`, message: fault });
    const { dtype, path, offset, byteLength, transposed = false } = stored ?? absent;
    return new Parameter(shape, { kind: 'external', dtype, data: { path, offset, byteLength }, transposed });
  });
  const modules = new Set([...asked].map(top));
  for (const [name, { shape }] of tensors) {
    if (asked.has(name) || !name.includes('.') || !modules.has(top(name)) || idle.test(name)) continue;
    const message = `the file has it, shape ${list(shape)}, and the model has not; ${mend}`;
    issues.push({ path: `${where}: ${name}`, message });
  }
  if (issues.length > 0) throw new ScionError('input', issues);
  return model.named();
}

const absent: StoredTensor = { dtype: 'float32', shape: [], path: '', offset: 0, byteLength: 0 };
const mend = 'take the config.json and the weights of one and the same model';
const top = (name: string): string => name.split('.')[0]!;
const list = (shape: Shape): string => `[${shape.join(', ')}]`;

function complaint(stored: StoredTensor | undefined, shape: Shape): string | undefined {
  if (!stored) return `is missing, expected shape ${list(shape)}; ${mend}`;
  if (!sameShape(stored.shape, shape)) return `has shape ${list(stored.shape)}, expected ${list(shape)}; ${mend}`;
  if (!readable.includes(stored.dtype)) {
    return `has dtype ${stored.dtype}, expected ${readable.join(', ')}; convert the checkpoint to one of these`;
  }
  return undefined;
}
