// The files that adapters come in: a few tensors with names, and what the file says about itself.
import { existsSync } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { resolveCheckpoint, resolveFile } from '../checkpoints/hub.js';
import { type HubAccess, hubAccessNames } from '../checkpoints/hub-settings.js';
import { readSafetensorsHeader, readSafetensorsMetadata } from '../checkpoints/safetensors.js';
import { type StoredTensor, stridesOf } from '../checkpoints/stored-tensor.js';
import { readSavedDictionary } from '../checkpoints/torch-save.js';
import { CheckpointError, expected } from '../errors.js';
import { arrayClasses, Tensor, type TensorData } from '../tensor.js';

export interface TensorFile {
  path: string;
  tensors: ReadonlyMap<string, StoredTensor>;
  metadata: Readonly<Record<string, string>>;
}

/** More tensors in one adapter than any network has places for. */
const mostTensors = 100_000;

/** Files with these words in their names belong to a training run. */
const noWeights = /scheduler|optimizer|checkpoint/;

const kinds = /\.(safetensors|bin|pt)$/;

/** Which file to load, and how it is come by. */
export interface AdapterFileOptions extends HubAccess {
  /** Name of the file, where the path is a folder or a repository on the hub. */
  weightName?: string;
}

export const adapterFileOptionNames = ['weightName', ...hubAccessNames];

/**
 * The file that a path means: the path itself, or in a folder the file `weightName`, else the one
 * called `usualName`, else the only one there is. On the hub `'org/name'` is like a folder, and
 * `'org/name/file'` or an address is like a file.
 *
 * @throws CheckpointError that lists what there is to choose from
 * @throws HubError
 */
export async function findTensorFile(
  path: string,
  usualName: string,
  { weightName, ...access }: AdapterFileOptions = {},
): Promise<string> {
  if (typeof path !== 'string') throw expected('the path of a file or folder', 'path', path);
  const isName = typeof weightName === 'string' && basename(weightName) === weightName;
  if (weightName !== undefined && !isName) {
    throw expected('the name of a file in the folder', 'weightName', weightName);
  }
  const { folder, snapshot } = await resolveCheckpoint(path, access);
  if (snapshot !== undefined) {
    const name = weightName ?? chooseName(path, snapshot.names, usualName);
    await snapshot.fetch([name]);
    return join(folder, name);
  }
  const file = existsSync(path) ? path : await resolveFile(path, access);
  const status = await stat(file).catch((cause: unknown) => {
    throw new CheckpointError(`${path} is missing.`, { cause });
  });
  if (!status.isDirectory()) {
    if (weightName === undefined) return file;
    throw new CheckpointError(`${path} is no folder, so it holds no ${weightName}.`);
  }
  return join(path, weightName ?? chooseName(path, await readdir(path), usualName));
}

function chooseName(path: string, names: readonly string[], usualName: string): string {
  const usual = [usualName, usualName.replace('.safetensors', '.bin')];
  const found = usual.find((name) => names.includes(name));
  if (found !== undefined) return found;
  const candidates = names.filter((name) => kinds.test(name) && !noWeights.test(name));
  const safetensors = candidates.filter((name) => name.endsWith('.safetensors'));
  const [only, ...others] = safetensors.length > 0 ? safetensors : candidates;
  if (only !== undefined && others.length === 0) return only;
  const none = 'no .safetensors, .bin or .pt file';
  const choice = only === undefined ? none : [only, ...others].sort().join(', ');
  throw new CheckpointError(`${path} holds ${choice}. Name the file with weightName.`);
}

/**
 * Reads `.safetensors`, or what torch.save wrote under any other name; there the metadata are the
 * texts beside the tensors.
 *
 * @throws CheckpointError when the file is truncated or malformed, or of another kind
 * @throws UntrustedFileError when it could run code in Python
 */
export async function readTensorFile(path: string): Promise<TensorFile> {
  const file = path.endsWith('.safetensors') ? await readSafetensors(path) : await readSaved(path);
  if (file.tensors.size > mostTensors) {
    throw new CheckpointError(
      `${path} holds ${file.tensors.size} tensors, too many for an adapter.`,
    );
  }
  return file;
}

async function readSafetensors(path: string): Promise<TensorFile> {
  const tensors = await readSafetensorsHeader(path);
  return { path, tensors, metadata: await readSafetensorsMetadata(path) };
}

async function readSaved(path: string): Promise<TensorFile> {
  // The second one is what A1111 and the first implementation of textual inversion write.
  const { tensors, texts } = await readSavedDictionary(path, ['state_dict', 'string_to_param']);
  return { path, tensors, metadata: Object.fromEntries(texts) };
}

/** The values of tensors as float32, [N,D] or whatever their shape is. The caller disposes them. */
export async function readTensors(stored: readonly StoredTensor[]): Promise<Tensor[]> {
  const tensors: Tensor[] = [];
  try {
    for (const one of stored) {
      const { dtype, shape } = one;
      using raw = Tensor.fromArray(await readValues(one), shape, { dtype });
      tensors.push(raw.to({ dtype: 'float32' }));
    }
    return tensors;
  } catch (error) {
    for (const tensor of tensors) tensor.dispose();
    throw error;
  }
}

/** Single numbers, such as each layer's alpha. @throws CheckpointError for more than one */
export async function readNumbers(
  stored: ReadonlyMap<string, StoredTensor>,
): Promise<Map<string, number>> {
  for (const [name, { shape, file }] of stored) {
    if (shape.every((size) => size === 1)) continue;
    throw new CheckpointError(`Tensor ${name} of ${file} should be a single number.`);
  }
  const tensors = await readTensors([...stored.values()]);
  const names = [...stored.keys()];
  const numbers = new Map(names.map((name, i) => [name, Number(tensors[i]?.data[0])]));
  for (const tensor of tensors) tensor.dispose();
  return numbers;
}

/** The values in a row, however they lie in the file. */
export async function readValues(tensor: StoredTensor): Promise<TensorData> {
  const { file, offset, dtype, shape } = tensor;
  const count = shape.reduce((product, size) => product * size, 1);
  const data: TensorData = new arrayClasses[dtype](count);
  if (tensor.strides === undefined || count === 0) {
    await readBytes(file, offset, new Uint8Array(data.buffer));
    return data;
  }
  const strides = stridesOf(tensor);
  const last = shape.reduce((sum, size, i) => sum + (size - 1) * (strides[i] as number), 0);
  const all: TensorData = new arrayClasses[dtype](last + 1);
  await readBytes(file, offset, new Uint8Array(all.buffer));
  for (let index = 0; index < count; index += 1) {
    let rest = index;
    let place = 0;
    for (let i = shape.length - 1; i >= 0; i -= 1) {
      const size = shape[i] as number;
      place += (rest % size) * (strides[i] as number);
      rest = Math.floor(rest / size);
    }
    data[index] = all[place] as number & bigint;
  }
  return data;
}

async function readBytes(file: string, offset: number, into: Uint8Array): Promise<void> {
  const handle = await open(file, 'r');
  try {
    const { bytesRead } = await handle.read(into, 0, into.length, offset);
    if (bytesRead !== into.length) throw new CheckpointError(`${file} is truncated.`);
  } finally {
    await handle.close();
  }
}
