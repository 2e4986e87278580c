/** ONNX's numbers of element types, and the types that Scion computes in. */
import type { DType } from '../util/tensor.js';

/** TensorProto.DataType of each dtype. */
export const onnxTypes = {
  float32: 1, uint8: 2, int8: 3, uint16: 4, int16: 5, int32: 6, int64: 7, bool: 9, float16: 10, float64: 11,
  uint32: 12, uint64: 13, bfloat16: 16,
} as const satisfies Record<DType, number>;

const dtypes = new Map(Object.entries(onnxTypes).map(([name, code]) => [code as number, name as DType]));

export const dtypeOf = (code: number): DType | undefined => dtypes.get(code);

/** Half precision is a way to store: imported graphs compute in float32, which processors do faster and better. */
export const computed = (dtype: DType): DType => (dtype === 'float16' || dtype === 'bfloat16' ? 'float32' : dtype);
