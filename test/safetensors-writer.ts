// Safetensors files for tests: read, changed, and written in any layout, impossible ones among them.
import { readFileSync, writeFileSync } from 'node:fs';

import { type DType, Tensor } from '../lib/index.js';

/** A tensor as it lies in a file. */
export interface StoredArray {
  /** The format's name for it: `F32`, `F16`, `BF16`, `I64`, … */
  dtype: string;
  shape: number[];
  data: Uint8Array;
}

export type StoredArrays = Map<string, StoredArray>;

/** A header before anybody checked it. */
export type Header = Record<string, HeaderEntry>;
export interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

const dtypes: Record<string, DType> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' };

function split(file: string): { header: Header; data: Uint8Array } {
  const bytes = new Uint8Array(readFileSync(file));
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const text = new TextDecoder().decode(bytes.subarray(8, 8 + length));
  return { header: JSON.parse(text) as Header, data: bytes.slice(8 + length) };
}

/** A file of a header's text and data; `length` may lie about the header. */
export function writeParts(
  file: string,
  header: string,
  data: Uint8Array,
  length: number | bigint = Buffer.byteLength(header),
): void {
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt.asUintN(64, BigInt(length)));
  writeFileSync(file, Buffer.concat([prefix, Buffer.from(header), data]));
}

/** All tensors of a file, in the file's order. */
export function readArrays(file: string): StoredArrays {
  const { header, data } = split(file);
  const arrays: StoredArrays = new Map();
  for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    arrays.set(name, { dtype, shape, data: data.slice(...offsets) });
  }
  return arrays;
}

/**
 * Writes tensors in the order of the map. The data starts at a multiple of 8 bytes, as files are
 * written today, or at an odd byte, as files from before safetensors 0.3 may do.
 */
export function writeArrays(
  file: string,
  arrays: StoredArrays,
  { start = 'aligned' }: { start?: 'aligned' | 'odd' } = {},
): void {
  let offset = 0;
  const entries = [...arrays].map(([name, { dtype, shape, data }]) => {
    const begin = offset;
    offset += data.length;
    return [name, { dtype, shape, data_offsets: [begin, offset] }] as const;
  });
  // Not by assignment, which a tensor called __proto__ would defeat.
  const header: Header = Object.fromEntries(entries) as Header;
  let text = JSON.stringify({ __metadata__: { format: 'pt' }, ...header });
  const fits = () => (start === 'odd' ? text.length % 2 === 1 : text.length % 8 === 0);
  while (!fits()) text += ' ';
  writeParts(file, text, Buffer.concat([...arrays.values()].map(({ data }) => data)));
}

/** Changes the header of a file and leaves its data where it is. */
export function editHeader(file: string, edit: (header: Header) => void): void {
  const { header, data } = split(file);
  edit(header);
  writeParts(file, JSON.stringify(header), data);
}

/** Changes the tensors of a file. */
export function editArrays(file: string, edit: (arrays: StoredArrays) => void): void {
  const arrays = readArrays(file);
  edit(arrays);
  writeArrays(file, arrays);
}

/** The same numbers in another floating-point format, rounded as torch rounds. */
export function converted(array: StoredArray, dtype: 'F32' | 'F16' | 'BF16'): StoredArray {
  const from = dtypes[array.dtype];
  if (from === undefined || array.dtype === dtype) return array;
  const bytes = array.data.slice();
  const numbers =
    from === 'float32' ? new Float32Array(bytes.buffer) : new Uint16Array(bytes.buffer);
  using tensor = Tensor.fromArray(numbers, array.shape, { dtype: from });
  using target = tensor.to({ dtype: dtypes[dtype] });
  const { data } = target;
  const copy = new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
  return { ...array, dtype, data: copy };
}
