// A tensor in a weight file: where it lies, and views of it that need no copy.
import type { DType } from '../tensor.js';

export interface StoredTensor {
  file: string;
  /** Bytes from the start of the file. */
  offset: number;
  dtype: DType;
  shape: readonly number[];
  /** Elements from one value to the next along each dimension; absent where they lie in a row. */
  strides?: readonly number[];
}

export const bytesPerElement: Readonly<Record<DType, number>> = {
  float64: 8,
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  int8: 1,
  uint8: 1,
  bool: 1,
};

/** The strides of values that lie in a row, the last dimension first. */
export function stridesOf({ shape, strides }: StoredTensor): readonly number[] {
  if (strides !== undefined) return strides;
  const dense: number[] = [];
  let stride = 1;
  for (const size of shape.toReversed()) {
    dense.unshift(stride);
    stride *= size;
  }
  return dense;
}

/** One of several parts of equal size that follow each other along the first dimension. */
export function partOf(tensor: StoredTensor, part: number, parts: number): StoredTensor {
  const [length = 0, ...rest] = tensor.shape;
  const rows = Math.floor(length / parts);
  const [stride = 0] = stridesOf(tensor);
  const skipped = part * rows * stride * bytesPerElement[tensor.dtype];
  return { ...tensor, offset: tensor.offset + skipped, shape: [rows, ...rest] };
}

/** The matrix with rows and columns exchanged. */
export function transposed(tensor: StoredTensor): StoredTensor {
  const strides = stridesOf(tensor).toReversed();
  return { ...tensor, shape: tensor.shape.toReversed(), strides };
}

/** Without sizes of 1 at the end: a 1×1 convolution as the linear layer that it is. */
export function withoutTrailingOnes(tensor: StoredTensor, dimensions: number): StoredTensor {
  const { shape, strides } = tensor;
  if (shape.slice(dimensions).some((size) => size !== 1)) return tensor;
  const fewer = { ...tensor, shape: shape.slice(0, dimensions) };
  return strides === undefined ? fewer : { ...fewer, strides: strides.slice(0, dimensions) };
}
