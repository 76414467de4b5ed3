// Files as torch.save writes them, for tests that must do without Python.
import { writeFileSync } from 'node:fs';

import type { StoredArrays } from './safetensors-writer.js';

/** The numbers behind one tensor or several. */
export interface SavedStorage {
  key: string;
  /** `FloatStorage`, … */
  type: string;
  /** Number of elements. */
  elements: number;
  data: Uint8Array;
}

/** A view of a storage. */
export class SavedTensor {
  constructor(
    readonly storage: SavedStorage,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
    readonly start = 0,
    readonly isParameter = false,
  ) {}
}

/** What a pickle may hold here: maps are dictionaries, arrays lists. */
export type Saved =
  | null
  | boolean
  | number
  | string
  | SavedTensor
  | Saved[]
  | Map<string | number, Saved>;

const storageTypes: Record<string, [string, number]> = {
  F64: ['DoubleStorage', 8],
  F32: ['FloatStorage', 4],
  F16: ['HalfStorage', 2],
  BF16: ['BFloat16Storage', 2],
  I64: ['LongStorage', 8],
  I32: ['IntStorage', 4],
  I8: ['CharStorage', 1],
  U8: ['ByteStorage', 1],
  BOOL: ['BoolStorage', 1],
};

const u8 = (...values: number[]) => Buffer.from(values);
const u16 = (value: number) => u8(value & 0xff, value >>> 8);
const u32 = (value: number) => Buffer.concat([u16(value & 0xffff), u16(value >>> 16)]);
const u64 = (value: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};

/** Pieces of a pickle of protocol 2. */
export const pickle = {
  protocol: u8(0x80, 2),
  stop: Buffer.from('.'),
  mark: Buffer.from('('),
  reduce: Buffer.from('R'),
  build: Buffer.from('b'),
  none: Buffer.from('N'),
  emptyTuple: Buffer.from(')'),
  emptyDictionary: Buffer.from('}'),
  setItems: Buffer.from('u'),
  tuple: Buffer.from('t'),
  persistent: Buffer.from('Q'),
  global: (module: string, name: string) => Buffer.from(`c${module}\n${name}\n`),
  text: (value: string) =>
    Buffer.concat([Buffer.from('X'), u32(Buffer.byteLength(value)), Buffer.from(value)]),
  integer: (value: number) =>
    value === (value | 0)
      ? Buffer.concat([Buffer.from('J'), u32(value >>> 0)])
      : Buffer.concat([u8(0x8a, 8), u64(value)]),
};

const orderedDict = Buffer.concat([
  pickle.global('collections', 'OrderedDict'),
  pickle.emptyTuple,
  pickle.reduce,
]);
const no = u8(0x89);
const yes = u8(0x88);

function integers(values: readonly number[]): Buffer {
  return Buffer.concat([pickle.mark, ...values.map(pickle.integer), pickle.tuple]);
}

/** ('storage', type, key, 'cpu', elements), which torch.load looks up in the archive. */
export function pickledStorage({ key, type, elements }: SavedStorage): Buffer {
  return Buffer.concat([
    ...[pickle.mark, pickle.text('storage'), pickle.global('torch', type), pickle.text(key)],
    ...[pickle.text('cpu'), pickle.integer(elements), pickle.tuple, pickle.persistent],
  ]);
}

function pickledTensor({ storage, shape, strides, start, isParameter }: SavedTensor): Buffer {
  const tensor = Buffer.concat([
    ...[pickle.global('torch._utils', '_rebuild_tensor_v2'), pickle.mark, pickledStorage(storage)],
    ...[pickle.integer(start), integers(shape), integers(strides), no, orderedDict],
    ...[pickle.tuple, pickle.reduce],
  ]);
  if (!isParameter) return tensor;
  return Buffer.concat([
    ...[pickle.global('torch._utils', '_rebuild_parameter'), pickle.mark, tensor, yes, orderedDict],
    ...[pickle.tuple, pickle.reduce],
  ]);
}

function pickled(value: Saved): Buffer {
  if (value === null) return pickle.none;
  if (typeof value === 'boolean') return value ? yes : no;
  if (typeof value === 'number') return pickle.integer(value);
  if (typeof value === 'string') return pickle.text(value);
  if (value instanceof SavedTensor) return pickledTensor(value);
  if (Array.isArray(value)) {
    return Buffer.concat([u8(0x5d, 0x28), ...value.map(pickled), Buffer.from('e')]);
  }
  const items = [...value].flatMap(([key, item]) => [pickled(key), pickled(item)]);
  return Buffer.concat([pickle.emptyDictionary, pickle.mark, ...items, pickle.setItems]);
}

/** A dictionary as `state_dict()` gives it: ordered, with `_metadata` as an attribute. */
function pickledStateDict(tensors: ReadonlyMap<string, SavedTensor>): Buffer {
  const items = [...tensors].flatMap(([name, tensor]) => [pickle.text(name), pickled(tensor)]);
  const metadata = pickled(new Map([['_metadata', new Map([['', new Map([['version', 1]])]])]]));
  return Buffer.concat([
    orderedDict,
    ...[pickle.mark, ...items, pickle.setItems, metadata, pickle.build],
  ]);
}

export interface ZipOptions {
  /** Sizes and places in zip64 fields, as in files beyond 4 GiB. */
  zip64?: boolean;
  /** Follows the archive. */
  comment?: string;
  /** 0 for stored; anything else lies, for the entries are never compressed. */
  method?: number;
  flags?: number;
}

/** A zip archive of stored entries, each starting at a multiple of 64 bytes as torch.save has them. */
export function zip(
  entries: readonly (readonly [string, Uint8Array])[],
  { zip64 = false, comment = '', method = 0, flags = 0 }: ZipOptions = {},
): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  const add = (...buffers: Buffer[]) => {
    for (const buffer of buffers) at += buffer.length;
    parts.push(...buffers);
  };
  const sizes = (size: number) => (zip64 ? u32(0xffffffff) : u32(size));
  for (const [text, data] of entries) {
    const name = Buffer.from(text);
    const offset = at;
    const padding = (64 - ((at + 30 + name.length + 4) % 64)) % 64;
    const head = [u16(20), u16(flags), u16(method), u32(0), u32(0), sizes(data.length)];
    add(u32(0x04034b50), ...head, sizes(data.length), u16(name.length), u16(4 + padding), name);
    add(Buffer.from('FB'), u16(padding), Buffer.alloc(padding, 'Z'), Buffer.from(data));
    const wide = Buffer.concat([u16(1), u16(24), ...[data.length, data.length, offset].map(u64)]);
    const extra = zip64 ? wide : Buffer.alloc(0);
    directory.push(u32(0x02014b50), u16(20), ...head, sizes(data.length), u16(name.length));
    directory.push(u16(extra.length), u16(0), u16(0), u16(0), u32(0), sizes(offset), name, extra);
  }
  const listed = Buffer.concat(directory);
  const start = at;
  add(listed);
  if (zip64) {
    const end = at;
    const counts = [u64(entries.length), u64(entries.length), u64(listed.length), u64(start)];
    add(u32(0x06064b50), u64(44), u16(45), u16(45), u32(0), u32(0), ...counts);
    add(u32(0x07064b50), u32(0), u64(end), u32(1));
  }
  const count = zip64 ? u16(0xffff) : u16(entries.length);
  add(u32(0x06054b50), u16(0), u16(0), count, count, sizes(listed.length), sizes(start));
  add(u16(comment.length), Buffer.from(comment));
  return Buffer.concat(parts);
}

/** An archive of a pickle and storages, in the order of torch.save. */
export function archive(
  program: Uint8Array,
  storages: readonly SavedStorage[],
  options: ZipOptions = {},
): Buffer {
  const data = new Map(storages.map((storage) => [storage.key, storage.data]));
  return zip(
    [
      ['archive/data.pkl', program],
      ['archive/byteorder', Buffer.from('little')],
      ...[...data].map(([key, bytes]) => [`archive/data/${key}`, bytes] as const),
      ['archive/version', Buffer.from('3\n')],
    ],
    options,
  );
}

function storagesOf(value: Saved): SavedStorage[] {
  if (value instanceof SavedTensor) return [value.storage];
  if (value instanceof Map) return [...value.values()].flatMap(storagesOf);
  return Array.isArray(value) ? value.flatMap(storagesOf) : [];
}

/** Writes a dictionary as `torch.save({…}, file)` does. */
export function writeSaved(
  file: string,
  value: Map<string | number, Saved>,
  options: ZipOptions = {},
): void {
  const program = Buffer.concat([pickle.protocol, pickled(value), pickle.stop]);
  writeFileSync(file, archive(program, storagesOf(value), options));
}

/** A storage of its own for each array, and a tensor that fills it. */
export function savedTensors(arrays: StoredArrays): Map<string, SavedTensor> {
  const entries = [...arrays].map(([name, { dtype, shape, data }], i) => {
    const [type, bytes] = storageTypes[dtype] as [string, number];
    const storage = { key: String(i), type, elements: data.length / bytes, data };
    const strides = shape.map((_, d) => shape.slice(d + 1).reduce((a, b) => a * b, 1));
    return [name, new SavedTensor(storage, shape, strides)] as const;
  });
  return new Map(entries);
}

/** The pickle of `module.state_dict()`. */
export function stateDictPickle(tensors: ReadonlyMap<string, SavedTensor>): Buffer {
  return Buffer.concat([pickle.protocol, pickledStateDict(tensors), pickle.stop]);
}

/** Writes tensors as `torch.save(module.state_dict(), file)` does. */
export function writeStateDict(
  file: string,
  tensors: ReadonlyMap<string, SavedTensor>,
  options: ZipOptions = {},
): void {
  const storages = [...tensors.values()].flatMap(storagesOf);
  writeFileSync(file, archive(stateDictPickle(tensors), storages, options));
}
