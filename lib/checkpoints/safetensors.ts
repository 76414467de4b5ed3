// The header of a safetensors file: a length, then JSON with each tensor's dtype, shape and place.
// Nothing in it is believed before it is checked; the bytes themselves are read by the native side.
import { CheckpointError } from '../errors.js';
import type { DType } from '../tensor.js';
import { bytesPerElement, type StoredTensor } from './stored-tensor.js';
import { WeightFile } from './weight-file.js';

const dtypes: Record<string, DType> = {
  F64: 'float64',
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I64: 'int64',
  I32: 'int32',
  I8: 'int8',
  U8: 'uint8',
  BOOL: 'bool',
};

/** The format's own limit. */
const largestHeader = 100 * 1024 * 1024;

/** The tensors of a file, by name. @throws CheckpointError when the file is truncated or malformed */
export async function readSafetensorsHeader(file: string): Promise<Map<string, StoredTensor>> {
  const { header, size, dataStart } = await readHeader(file);
  const tensors = new Map<string, StoredTensor>();
  const places: Place[] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const { tensor, end } = checkEntry(file, name, entry, dataStart, size);
    tensors.set(name, tensor);
    places.push({ name, begin: tensor.offset, end });
  }
  if (tensors.size === 0) throw new CheckpointError(`${file} holds no tensors.`);
  checkPlaces(file, places, dataStart, size);
  return tensors;
}

/** What a file says about itself: `__metadata__`, whose values are texts. */
export async function readSafetensorsMetadata(file: string): Promise<Record<string, string>> {
  const { header } = await readHeader(file);
  const metadata = Object.entries(header.__metadata__ ?? {});
  return Object.fromEntries(metadata.filter(([, value]) => typeof value === 'string'));
}

/** Bytes from the start of the file; `end` is the first one behind the tensor. */
interface Place {
  name: string;
  begin: number;
  end: number;
}

/** The format's rule that tensors lie side by side and fill the file: a slip in an offset shows. */
function checkPlaces(file: string, places: Place[], dataStart: number, fileSize: number): void {
  places.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let filled = dataStart;
  let last = '';
  for (const { name, begin, end } of places) {
    if (begin < filled) {
      throw new CheckpointError(
        `Tensors ${JSON.stringify(last)} and ${JSON.stringify(name)} of ${file} overlap: the file is damaged, copy it again.`,
      );
    }
    if (begin > filled) throw unclaimed(file, begin - filled, filled);
    filled = end;
    last = name;
  }
  if (filled < fileSize) throw unclaimed(file, fileSize - filled, filled);
}

function unclaimed(file: string, bytes: number, from: number): CheckpointError {
  return new CheckpointError(
    `${file} has ${bytes} bytes from byte ${from} on that no tensor claims: it is damaged, copy it again.`,
  );
}

function readHeader(path: string) {
  return WeightFile.use(path, async (file) => {
    const { size } = file;
    const length = size < 8 ? Infinity : Number((await file.read(0, 8)).readBigUInt64LE());
    if (length > Math.min(largestHeader, size - 8)) {
      throw new CheckpointError(
        `${path} is no safetensors file, or it is truncated (${size} bytes): copy it again.`,
      );
    }
    const header = parseHeader(path, await file.read(8, length));
    return { header, size, dataStart: 8 + length };
  });
}

function parseHeader(file: string, bytes: Buffer): Record<string, unknown> {
  try {
    const header: unknown = JSON.parse(bytes.toString('utf8'));
    if (typeof header === 'object' && header !== null && !Array.isArray(header)) {
      return header as Record<string, unknown>;
    }
  } catch (cause) {
    throw new CheckpointError(`The header of ${file} is no valid JSON.`, { cause });
  }
  throw new CheckpointError(`The header of ${file} is no JSON object.`);
}

function checkEntry(
  file: string,
  name: string,
  entry: unknown,
  dataStart: number,
  fileSize: number,
): { tensor: StoredTensor; end: number } {
  const bad = (reason: string): CheckpointError =>
    new CheckpointError(`Tensor ${JSON.stringify(name)} of ${file} ${reason}.`);
  if (typeof entry !== 'object' || entry === null) throw bad('is described by no object');
  const { dtype, shape, data_offsets: offsets } = entry as Record<string, unknown>;
  const known =
    typeof dtype === 'string' && Object.hasOwn(dtypes, dtype) ? dtypes[dtype] : undefined;
  if (known === undefined)
    throw bad(`has dtype ${JSON.stringify(dtype)}, which torchbrush does not read`);
  if (!isSizes(shape)) throw bad('has no proper shape');
  if (!isSizes(offsets) || offsets.length !== 2) throw bad('has no proper data_offsets');
  const [begin = 0, end = 0] = offsets;
  const bytes = shape.reduce((product, size) => product * size, bytesPerElement[known]);
  if (!Number.isSafeInteger(bytes) || end - begin !== bytes) {
    throw bad(`should have ${bytes} bytes but has ${end - begin}`);
  }
  if (dataStart + end > fileSize) {
    throw bad(
      `ends at byte ${dataStart + end}, but the file has ${fileSize}: it is truncated, copy it again`,
    );
  }
  const tensor = { file, offset: dataStart + begin, dtype: known, shape };
  return { tensor, end: dataStart + end };
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}
