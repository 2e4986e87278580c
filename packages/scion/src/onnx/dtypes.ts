/** ONNX's numbers of element types, and the types that Scion computes in. */
import type { DType } from '../util/tensor.js';

/** TensorProto.DataType of each dtype. */
export const onnxTypes = {
  float32: 1, uint8: 2, int8: 3, uint16: 4, int16: 5, int32: 6, int64: 7, bool: 9, float16: 10, float64: 11,
  uint32: 12, uint64: 13, bfloat16: 16,
} as const satisfies Record<DType, number>;

/** The endings of file names, before `.onnx`, by the `dtype` that transformers.js calls a model's precision. */
export const fileSuffixes = {
  fp32: '', fp16: '_fp16', q8: '_quantized', int8: '_int8', uint8: '_uint8', q4: '_q4', q4f16: '_q4f16', bnb4: '_bnb4',
  q2: '_q2', q2f16: '_q2f16', q1: '_q1', q1f16: '_q1f16',
} as const;
export type ModelDtype = keyof typeof fileSuffixes;

const dtypes = new Map(Object.entries(onnxTypes).map(([name, code]) => [code as number, name as DType]));

export const dtypeOf = (code: number): DType | undefined => dtypes.get(code);

/** Half precision is a way to store: imported graphs compute in float32, which processors do faster and better. */
export const computed = (dtype: DType): DType => (dtype === 'float16' || dtype === 'bfloat16' ? 'float32' : dtype);
