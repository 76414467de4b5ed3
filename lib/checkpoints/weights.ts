// Finds a component's weight files and brings their tensor names to today's.
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { CheckpointError } from '../errors.js';
import { readJsonObject } from './json.js';
import { layoutOf, modernName } from './layouts.js';
import { readSafetensorsHeader, type StoredTensor } from './safetensors.js';

/** The tensors of a component, under today's names. */
export interface ComponentWeights {
  tensors: Map<string, StoredTensor>;
  files: string[];
  /** False where a variant was asked for and the plain files had to do. */
  isVariant: boolean;
}

/**
 * Reads the headers of a component's weight files: the variant's if there is one, else the plain
 * ones; in one file or in shards.
 *
 * @throws CheckpointError when there is none, naming what there is instead
 */
export async function readWeights(
  folder: string,
  className: string,
  variant: string | undefined,
): Promise<ComponentWeights> {
  const stem = layoutOf(className).fileStem;
  const wanted = variant === undefined ? undefined : await findFiles(folder, stem, variant);
  const files = wanted ?? (await findFiles(folder, stem, undefined));
  if (files === undefined) throw await noWeights(folder, stem, variant);
  const tensors = new Map<string, StoredTensor>();
  for (const file of files) {
    for (const [name, tensor] of await readSafetensorsHeader(file)) {
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

async function findFiles(
  folder: string,
  stem: string,
  variant: string | undefined,
): Promise<string[] | undefined> {
  const suffix = variant === undefined ? '' : `.${variant}`;
  const single = join(folder, `${stem}${suffix}.safetensors`);
  if (existsSync(single)) return [single];
  const indexes = [
    `${stem}.safetensors.index${suffix}.json`,
    `${stem}${suffix}.safetensors.index.json`,
  ];
  const index = indexes.map((name) => join(folder, name)).find((path) => existsSync(path));
  return index === undefined ? undefined : filesOfIndex(folder, index);
}

async function filesOfIndex(folder: string, index: string): Promise<string[]> {
  const { weight_map: map } = await readJsonObject(index);
  const names = typeof map === 'object' && map !== null ? Object.values(map) : [];
  const files = new Set<string>();
  for (const name of names) {
    // A shard lies beside its index; anything else could read any file of the machine.
    if (typeof name !== 'string' || basename(name) !== name || !name.endsWith('.safetensors')) {
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
  stem: string,
  variant: string | undefined,
): Promise<CheckpointError> {
  const names = await readdir(folder).catch(() => [] as string[]);
  const variants = names
    .map((name) => new RegExp(`^${stem}\\.([^.]+)\\.safetensors$`).exec(name)?.[1])
    .filter((name) => name !== undefined);
  if (variants.length > 0) {
    const list = variants.map((name) => `variant: '${name}'`).join(' or ');
    const other = variant === undefined ? '' : ` nor one of the variant '${variant}'`;
    return new CheckpointError(
      `${folder} has no ${stem}.safetensors${other}; load it with ${list}.`,
    );
  }
  const bin = names.find((name) => name.endsWith('.bin'));
  if (bin !== undefined) {
    return new CheckpointError(
      `${folder} has its weights in ${bin} only, which torchbrush does not read. Convert the checkpoint in Python: from diffusers import DiffusionPipeline; DiffusionPipeline.from_pretrained('FOLDER').save_pretrained('NEW_FOLDER', safe_serialization=True)`,
    );
  }
  return new CheckpointError(
    `${folder} has no weights: ${stem}.safetensors is missing. Is the download complete?`,
  );
}
