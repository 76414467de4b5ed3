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
  const { fileStem, pickleStem } = layoutOf(className);
  const forms: WeightForm[] = [
    { stem: fileStem, extension: 'safetensors' },
    { stem: pickleStem, extension: 'bin' },
  ];
  const wanted = variant === undefined ? undefined : await findFiles(folder, forms, variant);
  const files = wanted ?? (await findFiles(folder, forms, undefined));
  if (files === undefined) throw await noWeights(folder, forms, variant);
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
  return { tensors, files, isVariant: wanted !== undefined };
}

/** The tensors of a weight file of either kind, by the names they have there. */
export function readTensors(file: string): Promise<Map<string, StoredTensor>> {
  return file.endsWith('.safetensors') ? readSafetensorsHeader(file) : readTorchSave(file);
}

async function findFiles(
  folder: string,
  forms: readonly WeightForm[],
  variant: string | undefined,
): Promise<string[] | undefined> {
  const suffix = variant === undefined ? '' : `.${variant}`;
  for (const { stem, extension } of forms) {
    const single = join(folder, `${stem}${suffix}.${extension}`);
    if (existsSync(single)) return [single];
    const indexes = [
      `${stem}.${extension}.index${suffix}.json`,
      `${stem}${suffix}.${extension}.index.json`,
    ];
    const index = indexes.map((name) => join(folder, name)).find((path) => existsSync(path));
    if (index !== undefined) return filesOfIndex(folder, index, extension);
  }
  return undefined;
}

async function filesOfIndex(folder: string, index: string, extension: string): Promise<string[]> {
  const { weight_map: map } = await readJsonObject(index);
  const names = typeof map === 'object' && map !== null ? Object.values(map) : [];
  const files = new Set<string>();
  for (const name of names) {
    // A shard lies beside its index; anything else could read any file of the machine.
    if (typeof name !== 'string' || basename(name) !== name || !name.endsWith(`.${extension}`)) {
      throw new CheckpointError(
        `${index} names a shard ${JSON.stringify(name)} outside its folder.`,
      );
    }
    const path = join(folder, name);
    if (!existsSync(path))
      throw new CheckpointError(`${index} names the shard ${path}, which is missing.`);
    files.add(path);
  }
  if (files.size === 0) throw new CheckpointError(`${index} names no shards.`);
  return [...files].sort();
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
