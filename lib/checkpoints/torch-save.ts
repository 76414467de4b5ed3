// Files that torch.save wrote since PyTorch 1.6: a zip archive with a pickle, which describes the
// tensors, and an entry of plain numbers for each storage. The pickle is interpreted, not executed:
// it may name tensors, parameters, storages and ordered dictionaries, and nothing else.
import { CheckpointError, UntrustedFileError } from '../errors.js';
import type { DType } from '../tensor.js';
import { type PickleFunction, type PickleHandlers, readPickle } from './pickle.js';
import { bytesPerElement, type StoredTensor } from './stored-tensor.js';
import { type ByteSource, WeightFile } from './weight-file.js';
import { readZipDirectory, type ZipEntry } from './zip.js';

/** The pickle of a checkpoint has some hundred kilobytes. */
const largestPickle = 32 * 1024 * 1024;
const mostDimensions = 64;
/** `{"state_dict": {"state_dict": …}}`: how deep the tensors may lie. */
const deepestWrapping = 8;

const storageTypes: ReadonlyMap<string, DType> = new Map([
  ['DoubleStorage', 'float64'],
  ['FloatStorage', 'float32'],
  ['HalfStorage', 'float16'],
  ['BFloat16Storage', 'bfloat16'],
  ['LongStorage', 'int64'],
  ['IntStorage', 'int32'],
  ['CharStorage', 'int8'],
  ['ByteStorage', 'uint8'],
  ['BoolStorage', 'bool'],
]);

/** A class of storages, as the pickle names it. */
class StorageType {
  constructor(readonly dtype: DType) {}
}

class Storage {
  constructor(
    readonly dtype: DType,
    readonly offset: number,
    readonly elements: number,
  ) {}
}

class PickledTensor {
  constructor(
    readonly storage: Storage,
    readonly start: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {}
}

/**
 * The tensors of a file, by name: those of its dictionary, or of the dictionary `state_dict` in it.
 * Whatever else it holds is passed over.
 *
 * @throws CheckpointError when the file is damaged or of the form before PyTorch 1.6
 * @throws UntrustedFileError when its pickle names anything that could run code
 */
export function readTorchSave(path: string): Promise<Map<string, StoredTensor>> {
  return WeightFile.use(path, readArchive);
}

/** The same for a file that is open already. */
export async function readArchive(file: ByteSource): Promise<Map<string, StoredTensor>> {
  return (await readDictionary(file, ['state_dict'])).tensors;
}

export interface SavedDictionary {
  /** By name; a file that is one tensor has it under the empty name. */
  tensors: Map<string, StoredTensor>;
  /** The texts of the outermost dictionary. */
  texts: Map<string, string>;
}

/**
 * As `readTorchSave`, for files that may have their tensors in a dictionary of another name: the
 * first of `wrappers` that occurs.
 */
export function readSavedDictionary(
  path: string,
  wrappers: readonly string[],
): Promise<SavedDictionary> {
  return WeightFile.use(path, (file) => readDictionary(file, wrappers));
}

async function readDictionary(
  file: ByteSource,
  wrappers: readonly string[],
): Promise<SavedDictionary> {
  await requireArchive(file);
  const { path } = file;
  const entries = await readZipDirectory(file);
  const [name, ...others] = [...entries.keys()].filter((key) => /^[^/]+\/data\.pkl$/.test(key));
  const entry = entries.get(name ?? '');
  if (name === undefined || entry === undefined || others.length > 0) {
    throw new CheckpointError(
      `${path} is no archive that torch.save wrote: expected one data.pkl.`,
    );
  }
  const prefix = name.slice(0, -'data.pkl'.length);
  await requireLittleEndian(file, entries.get(`${prefix}byteorder`));
  if (entry.size > largestPickle) {
    throw new CheckpointError(`The pickle in ${path} is too large (${entry.size} bytes).`);
  }
  const bytes = await file.read(entry.offset, entry.size);
  const value = readPickle(path, bytes, new Handlers(path, entries, `${prefix}data/`));
  const texts = (value instanceof Map ? [...value] : []).filter(
    (entry): entry is [string, string] => entry.every((part) => typeof part === 'string'),
  );
  return { tensors: tensorsOf(path, value, wrappers), texts: new Map(texts) };
}

async function requireArchive(file: ByteSource): Promise<void> {
  const start = await file.read(0, Math.min(file.size, 512));
  if (start.subarray(0, 2).toString('latin1') === 'PK') return;
  const isTar = start.subarray(257, 262).toString('latin1') === 'ustar';
  const isPickle = start[0] === 0x80 && (start[1] ?? 0) <= 5;
  if (isTar || isPickle) {
    throw new CheckpointError(
      `${file.path} has the form that torch.save wrote before PyTorch 1.6, which torchbrush does not read. ${conversion('True')}`,
    );
  }
  throw new CheckpointError(
    `${file.path} is no file that torch.save wrote (${file.size} bytes). Is the download complete?`,
  );
}

async function requireLittleEndian(file: ByteSource, entry: ZipEntry | undefined): Promise<void> {
  // Absent in files from before PyTorch 2.1.
  if (entry === undefined) return;
  const order = (await file.read(entry.offset, Math.min(entry.size, 16))).toString('latin1');
  if (order === 'little') return;
  throw new CheckpointError(
    `${file.path} has its bytes in the order ${JSON.stringify(order)}, expected "little".`,
  );
}

/** How to bring a file into a form that can be read. */
function conversion(weightsOnly: 'True' | 'False'): string {
  const load = `torch.load(sys.argv[1], map_location='cpu', weights_only=${weightsOnly})`;
  return `Convert it with a Python that has torch: python -c "import sys, torch; c = ${load}; torch.save(c.get('state_dict', c), sys.argv[2])" FILE NEW_FILE`;
}

class Handlers implements PickleHandlers {
  readonly #path: string;
  readonly #entries: ReadonlyMap<string, ZipEntry>;
  readonly #prefix: string;
  readonly #functions = new Map<string, PickleFunction>([
    ['collections.OrderedDict', (values) => this.#dictionary(values)],
    ['torch._utils._rebuild_tensor_v2', (values) => this.#tensor(values)],
    ['torch._utils._rebuild_parameter', (values) => this.#parameter(values)],
  ]);

  constructor(path: string, entries: ReadonlyMap<string, ZipEntry>, prefix: string) {
    this.#path = path;
    this.#entries = entries;
    this.#prefix = prefix;
  }

  findGlobal(module: string, name: string): unknown {
    const known = this.#functions.get(`${module}.${name}`);
    if (known !== undefined) return known;
    if (module === 'torch' && name.endsWith('Storage')) {
      const dtype = storageTypes.get(name);
      if (dtype !== undefined) return new StorageType(dtype);
      throw new CheckpointError(
        `${this.#path} has a torch.${name}, whose numbers torchbrush does not read.`,
      );
    }
    throw new UntrustedFileError(
      `${this.#path} names ${JSON.stringify(`${module}.${name}`.slice(0, 200))} and could run code when Python loads it; torchbrush reads tensors and dictionaries only. If you trust where it comes from: ${conversion('False')}`,
    );
  }

  /** ('storage', type, key, device, number of elements) */
  loadPersistent(id: unknown): Storage {
    const [tag, type, key, , elements, ...rest] = Array.isArray(id) ? (id as unknown[]) : [];
    const isStorage = tag === 'storage' && type instanceof StorageType && typeof key === 'string';
    if (!isStorage || !isSize(elements) || rest.length > 0) {
      throw this.#bad('a storage is described in an unknown way');
    }
    const entry = this.#entries.get(`${this.#prefix}${key}`);
    if (entry === undefined) throw this.#bad(`the storage ${JSON.stringify(key)} is missing`);
    const bytes = elements * bytesPerElement[type.dtype];
    if (bytes !== entry.size) {
      throw this.#bad(`the storage ${key} should have ${bytes} bytes but has ${entry.size}`);
    }
    return new Storage(type.dtype, entry.offset, elements);
  }

  #dictionary(values: readonly unknown[]): Map<unknown, unknown> {
    if (values.length > 0) throw this.#bad('an OrderedDict is made in an unknown way');
    return new Map();
  }

  /** (storage, start, shape, strides, requires_grad, hooks, metadata) */
  #tensor(values: readonly unknown[]): PickledTensor {
    const [storage, start, shape, strides] = values;
    const isTensor = storage instanceof Storage && isSize(start);
    if (!isTensor || !isSizes(shape) || !isSizes(strides) || shape.length !== strides.length) {
      throw this.#bad('a tensor is described in an unknown way');
    }
    const last = shape.reduce((sum, size, i) => sum + (size - 1) * (strides[i] as number), start);
    const end = shape.includes(0) ? start : last + 1;
    if (end > storage.elements) {
      throw this.#bad(
        `a tensor of shape [${shape.join(', ')}] ends at element ${end} of a storage of ${storage.elements}`,
      );
    }
    return new PickledTensor(storage, start, [...shape], [...strides]);
  }

  /** (tensor, requires_grad, hooks) */
  #parameter([tensor]: readonly unknown[]): PickledTensor {
    if (!(tensor instanceof PickledTensor)) throw this.#bad('a parameter is no tensor');
    return tensor;
  }

  #bad(reason: string): CheckpointError {
    return new CheckpointError(`${this.#path} is damaged: ${reason}. Copy it again.`);
  }
}

function tensorsOf(
  path: string,
  value: unknown,
  wrappers: readonly string[],
): Map<string, StoredTensor> {
  if (value instanceof PickledTensor) return new Map([['', storedTensor(path, value)]]);
  let dictionary = value;
  for (let depth = 0; depth < deepestWrapping; depth += 1) {
    if (!(dictionary instanceof Map)) break;
    const outer: Map<unknown, unknown> = dictionary;
    const wrapper = wrappers.find((name) => outer.has(name));
    if (wrapper === undefined) break;
    dictionary = outer.get(wrapper);
  }
  const tensors = new Map<string, StoredTensor>();
  for (const [name, entry] of dictionary instanceof Map ? dictionary : []) {
    if (typeof name !== 'string' || !(entry instanceof PickledTensor)) continue;
    tensors.set(name, storedTensor(path, entry));
  }
  if (tensors.size === 0) throw new CheckpointError(`${path} holds no tensors.`);
  return tensors;
}

function storedTensor(file: string, tensor: PickledTensor): StoredTensor {
  const { storage, start, shape, strides } = tensor;
  const { dtype } = storage;
  const dense = { file, offset: storage.offset + start * bytesPerElement[dtype], dtype, shape };
  return isDense(shape, strides) ? dense : { ...dense, strides };
}

/** Whether the values lie in a row. The stride of a dimension of size 1 is never taken. */
function isDense(shape: readonly number[], strides: readonly number[]): boolean {
  if (shape.includes(0)) return true;
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i -= 1) {
    const size = shape[i] as number;
    if (size !== 1 && strides[i] !== expected) return false;
    expected *= size;
  }
  return true;
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.length <= mostDimensions && value.every(isSize);
}
