// Finds a component's weight files and brings their tensor names to today's.
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { CheckpointError } from '../errors.js';
import { readJsonObject } from './json.js';
import { layoutOf, modernName } from './layouts.js';
import { readSafetensorsHeader } from './safetensors.js';
import type { StoredTensor } from './stored-tensor.js';
import { readTorchSave } from './torch-save.js';

/** The tensors of a component, under today's names. */
export interface ComponentWeights {
  tensors: Map<string, StoredTensor>;
  files: string[];
  /** False where a variant was asked for and the plain files had to do. */
  isVariant: boolean;
}

/** How a folder may hold its weights; the first that is there is taken. */
interface WeightForm {
  /** Name without variant and extension. */
  stem: string;
  extension: 'safetensors' | 'bin';
}

/** The file that holds a component's weights, or that lists the files that do. */
export interface WeightChoice {
  name: string;
  isIndex: boolean;
  /** False where a variant was asked for and the plain files have to do. */
  isVariant: boolean;
}

/**
 * Reads where the tensors of a component lie: in the variant's files if there are any, else in the
 * plain ones; safetensors before those of torch.save; in one file or in shards.
 *
 * @throws CheckpointError when there is none, naming what there is instead
 * @throws UntrustedFileError when a file of torch.save holds more than tensors
 */
export async function readWeights(
  folder: string,
  className: string,
  variant: string | undefined,
): Promise<ComponentWeights> {
  const { files, isVariant } = await findWeights(folder, className, variant);
  const tensors = new Map<string, StoredTensor>();
  for (const file of files) {
    for (const [name, tensor] of await readTensors(file)) {
      const modern = modernName(className, name);
      if (tensors.has(modern)) {
        throw new CheckpointError(
          `Tensor ${modern} occurs twice in the weights of ${folder}, the second time as ${name} in ${basename(file)}.`,
        );
      }
      tensors.set(modern, tensor);
    }
  }
  return { tensors, files, isVariant };
}

/** The same under the names that the files have. */
export async function readStoredWeights(
  folder: string,
  className: string,
  variant: string | undefined,
): Promise<Map<string, StoredTensor>> {
  const { files } = await findWeights(folder, className, variant);
  const all = await Promise.all(files.map(readTensors));
  return new Map(all.flatMap((tensors) => [...tensors]));
}

async function findWeights(folder: string, className: string, variant: string | undefined) {
  const choice = chooseWeights(className, variant, (name) => existsSync(join(folder, name)));
  if (choice === undefined) throw await noWeights(folder, formsOf(className), variant);
  const path = join(folder, choice.name);
  const files = choice.isIndex ? await filesOfIndex(folder, path) : [path];
  return { files, isVariant: choice.isVariant };
}

/** The tensors of a weight file of either kind, by the names they have there. */
export function readTensors(file: string): Promise<Map<string, StoredTensor>> {
  return file.endsWith('.safetensors') ? readSafetensorsHeader(file) : readTorchSave(file);
}

function formsOf(className: string): WeightForm[] {
  const { fileStem, pickleStem } = layoutOf(className);
  return [
    { stem: fileStem, extension: 'safetensors' },
    { stem: pickleStem, extension: 'bin' },
  ];
}

/** What to read a component's weights from, of the files that its folder has. */
export function chooseWeights(
  className: string,
  variant: string | undefined,
  has: (name: string) => boolean,
): WeightChoice | undefined {
  for (const wanted of variant === undefined ? [undefined] : [variant, undefined]) {
    const isVariant = wanted !== undefined;
    const suffix = isVariant ? `.${wanted}` : '';
    for (const { stem, extension } of formsOf(className)) {
      const single = `${stem}${suffix}.${extension}`;
      if (has(single)) return { name: single, isIndex: false, isVariant };
      const indexes = [
        `${stem}.${extension}.index${suffix}.json`,
        `${stem}${suffix}.${extension}.index.json`,
      ];
      const index = indexes.find(has);
      if (index !== undefined) return { name: index, isIndex: true, isVariant };
    }
  }
  return undefined;
}

async function filesOfIndex(folder: string, index: string): Promise<string[]> {
  const paths = (await shardNames(index)).map((name) => join(folder, name));
  const missing = paths.find((path) => !existsSync(path));
  if (missing === undefined) return paths;
  throw new CheckpointError(`${index} names the shard ${missing}, which is missing.`);
}

/** The files that an index lists. @throws CheckpointError for one that is not beside the index */
export async function shardNames(index: string): Promise<string[]> {
  const { weight_map: map } = await readJsonObject(index);
  const extension = index.includes('.safetensors.index') ? '.safetensors' : '.bin';
  const names = new Set<string>();
  for (const name of typeof map === 'object' && map !== null ? Object.values(map) : []) {
    // A shard lies beside its index; anything else could read any file of the machine.
    if (typeof name !== 'string' || basename(name) !== name || !name.endsWith(extension)) {
      throw new CheckpointError(
        `${index} names a shard ${JSON.stringify(name)} outside its folder.`,
      );
    }
    names.add(name);
  }
  if (names.size === 0) throw new CheckpointError(`${index} names no shards.`);
  return [...names].sort();
}

async function noWeights(
  folder: string,
  forms: readonly WeightForm[],
  variant: string | undefined,
): Promise<CheckpointError> {
  const names = await readdir(folder).catch(() => [] as string[]);
  const variants = forms.flatMap(({ stem, extension }) => {
    const pattern = new RegExp(`^${stem}\\.([^.]+)\\.${extension}$`);
    return names.map((name) => pattern.exec(name)?.[1]).filter((name) => name !== undefined);
  });
  if (variants.length > 0) {
    const list = [...new Set(variants)].map((name) => `variant: '${name}'`).join(' or ');
    const other = variant === undefined ? '' : ` nor one of the variant '${variant}'`;
    const plain = forms.map(fileName).join(' or ');
    return new CheckpointError(`${folder} has no ${plain}${other}; load it with ${list}.`);
  }
  return new CheckpointError(
    `${folder} has no weights: ${forms.map(fileName).join(' is missing, and so is ')}. Is the download complete?`,
  );
}

function fileName({ stem, extension }: WeightForm): string {
  return `${stem}.${extension}`;
}
