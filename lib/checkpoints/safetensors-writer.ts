// Writes safetensors files: tensors that lie in other weight files, in a row, as they are or in
// another dtype.
import { type FileHandle, open } from 'node:fs/promises';

import { readValues } from '../adapters/tensor-file.js';
import { type DType, Tensor, type TensorData } from '../tensor.js';
import { bytesPerElement, type StoredTensor } from './stored-tensor.js';

const formatNames: Readonly<Record<DType, string>> = {
  float64: 'F64',
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
  int64: 'I64',
  int32: 'I32',
  int8: 'I8',
  uint8: 'U8',
  bool: 'BOOL',
};

export interface WriteOptions {
  /** What floating-point numbers become; as they are unless given. */
  dtype?: DType | undefined;
  signal?: AbortSignal | undefined;
  /** Told how many bytes have been written since the last call. */
  onBytes?: ((bytes: number) => void) | undefined;
}

interface Placed {
  name: string;
  tensor: StoredTensor;
  dtype: DType;
  bytes: number;
}

/** Bytes that are copied at once. */
const chunk = 1 << 24;

/** Size of the tensors in the file that `writeSafetensors` writes. */
export function writtenBytes(tensors: ReadonlyMap<string, StoredTensor>, dtype?: DType): number {
  return place(tensors, dtype).reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Writes a new file. @throws the signal's reason, and leaves an unfinished file then */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, StoredTensor>,
  { dtype, signal, onBytes }: WriteOptions = {},
): Promise<void> {
  const placed = place(tensors, dtype);
  const file = await open(path, 'wx');
  try {
    await file.write(headerOf(placed));
    for (const one of placed) {
      signal?.throwIfAborted();
      const isCopy = one.dtype === one.tensor.dtype && one.tensor.strides === undefined;
      if (isCopy) await copy(one, file, { signal, onBytes });
      else {
        await file.write(await converted(one));
        onBytes?.(one.bytes);
      }
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

/** The widest numbers first, so that all are aligned, then by name. */
function place(tensors: ReadonlyMap<string, StoredTensor>, wanted?: DType): Placed[] {
  const placed = [...tensors].map(([name, tensor]) => {
    const dtype = wanted !== undefined && /float/.test(tensor.dtype) ? wanted : tensor.dtype;
    const count = tensor.shape.reduce((product, size) => product * size, 1);
    return { name, tensor, dtype, bytes: count * bytesPerElement[dtype] };
  });
  return placed.sort(
    (a, b) =>
      bytesPerElement[b.dtype] - bytesPerElement[a.dtype] ||
      (a.name < b.name ? -1 : Number(a.name > b.name)),
  );
}

function headerOf(placed: readonly Placed[]): Buffer {
  let end = 0;
  const entries = placed.map(({ name, tensor, dtype, bytes }) => {
    const begin = end;
    end += bytes;
    const entry = { dtype: formatNames[dtype], shape: tensor.shape, data_offsets: [begin, end] };
    return [name, entry] as const;
  });
  // diffusers wants to know which library's tensors they are.
  const metadata = ['__metadata__', { format: 'pt' }] as const;
  let text = JSON.stringify(Object.fromEntries([metadata, ...entries]));
  text += ' '.repeat((8 - (Buffer.byteLength(text) % 8)) % 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
  return Buffer.concat([length, Buffer.from(text)]);
}

async function copy(
  { tensor, bytes }: Placed,
  target: FileHandle,
  { signal, onBytes }: WriteOptions,
): Promise<void> {
  const source = await open(tensor.file, 'r');
  try {
    const buffer = Buffer.allocUnsafe(Math.min(chunk, bytes));
    for (let done = 0; done < bytes; ) {
      signal?.throwIfAborted();
      const length = Math.min(buffer.length, bytes - done);
      const { bytesRead } = await source.read(buffer, 0, length, tensor.offset + done);
      if (bytesRead === 0) throw new Error(`${tensor.file} shrank while it was read.`);
      await target.write(buffer, 0, bytesRead);
      onBytes?.(bytesRead);
      done += bytesRead;
    }
  } finally {
    await source.close();
  }
}

/** The bytes of the values in a row, in the wanted dtype. */
async function converted({ tensor, dtype }: Placed): Promise<Buffer> {
  const values = await readValues(tensor);
  if (dtype === tensor.dtype) return bytesOf(values);
  using raw = Tensor.fromArray(values, tensor.shape, { dtype: tensor.dtype });
  using other = raw.to({ dtype });
  // A copy: the view ends with the tensor.
  return Buffer.from(bytesOf(other.data));
}

function bytesOf({ buffer, byteOffset, byteLength }: TensorData): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);
}
