// The files that adapters come in: a few tensors with names, and what the file says about itself.
import { existsSync } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { resolveCheckpoint, resolveFile } from '../checkpoints/hub.js';
import { type HubAccess, hubAccessNames } from '../checkpoints/hub-settings.js';
import {
  readSafetensorsHeader,
  readSafetensorsMetadata,
  type StoredTensor,
} from '../checkpoints/safetensors.js';
import { CheckpointError, expected } from '../errors.js';
import { Tensor, type TensorData } from '../tensor.js';

export interface TensorFile {
  path: string;
  tensors: ReadonlyMap<string, StoredTensor>;
  metadata: Readonly<Record<string, string>>;
}

/** More tensors in one adapter than any network has places for. */
const mostTensors = 100_000;

/** Files with these words in their names belong to a training run. */
const noWeights = /scheduler|optimizer|checkpoint/;

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
  const [only, ...others] = names.filter(
    (name) => name.endsWith('.safetensors') && !noWeights.test(name),
  );
  if (names.includes(usualName)) return usualName;
  if (only !== undefined && others.length === 0) return only;
  const choice = only === undefined ? 'no .safetensors file' : [only, ...others].sort().join(', ');
  throw new CheckpointError(`${path} holds ${choice}. Name the file with weightName.`);
}

/** @throws CheckpointError when the file is truncated or malformed, or of another kind */
export async function readTensorFile(path: string): Promise<TensorFile> {
  if (!path.endsWith('.safetensors')) {
    throw new CheckpointError(
      `${path} is no .safetensors file, the only kind of adapter file that torchbrush reads. Convert it in Python: safetensors.torch.save_file(torch.load(path, weights_only=True), 'NEW.safetensors')`,
    );
  }
  const tensors = await readSafetensorsHeader(path);
  if (tensors.size > mostTensors) {
    throw new CheckpointError(`${path} holds ${tensors.size} tensors, too many for an adapter.`);
  }
  return { path, tensors, metadata: await readSafetensorsMetadata(path) };
}

const arrays = {
  float64: Float64Array,
  float32: Float32Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

/** The values of tensors as float32, [N,D] or whatever their shape is. The caller disposes them. */
export async function readTensors(stored: readonly StoredTensor[]): Promise<Tensor[]> {
  const tensors: Tensor[] = [];
  try {
    for (const { file, offset, dtype, shape } of stored) {
      const count = shape.reduce((product, size) => product * size, 1);
      const data: TensorData = new arrays[dtype](count);
      await readBytes(file, offset, new Uint8Array(data.buffer));
      using raw = Tensor.fromArray(data, shape, { dtype });
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

async function readBytes(file: string, offset: number, into: Uint8Array): Promise<void> {
  const handle = await open(file, 'r');
  try {
    const { bytesRead } = await handle.read(into, 0, into.length, offset);
    if (bytesRead !== into.length) throw new CheckpointError(`${file} is truncated.`);
  } finally {
    await handle.close();
  }
}
