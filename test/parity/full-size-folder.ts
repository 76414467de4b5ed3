// Full-size folders in the published forms, and what is drawn from.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { memoryStats } from '../../lib/index.js';
import { packageRoot } from '../../lib/package-root.js';
import type { TensorFile } from './case.js';
import { initImage, pythonEnvironment, pythonScripts, saveImage, saveTensor } from './workspace.js';

const run = promisify(execFile);

/** The published configuration files, which are no part of this repository. */
const configs =
  process.env.TORCHBRUSH_CONFIGS ?? join(packageRoot, '..', 'shared', 'spec', 'configs');

const root = join(packageRoot, '.cache', 'checkpoints', 'full-size');

/** A folder of python/published_forms.py. */
export interface FormFolder {
  form: string;
  /** The one before it whose weights it has too. */
  like?: string;
}

export interface FullSizeInputs {
  /** 96×64 pixels, and another of that size to follow. */
  image: string;
  control: string;
  /** 64×64 pixels: the x2 upscaler's network halves its latents three times. */
  square: string;
  /** 24×16 pixels. */
  thumbnail: string;
  /** Instead of the text encoders of Stable Diffusion XL. */
  xlEmbeddings: Record<string, TensorFile>;
  /** Instead of Kandinsky's prior. */
  embeddings: Record<'image' | 'negativeImage', TensorFile>;
}

/**
 * TORCHBRUSH_FULL_SIZE=1 runs all groups, `sd15,sdxl-base` those two. Why this one does not run,
 * or false.
 */
export function reasonToSkip(group: string): string | false {
  const wanted = process.env.TORCHBRUSH_FULL_SIZE ?? '';
  if (wanted !== '1' && !wanted.split(',').includes(group)) {
    return `set TORCHBRUSH_FULL_SIZE=1, or =${group}, to run it`;
  }
  if (!existsSync(join(configs, 'weights.json'))) {
    return `${configs} has no published configurations; name their folder in TORCHBRUSH_CONFIGS`;
  }
  return false;
}

/** Where the checkpoint of a form is. */
export const folderOf = (form: string) => join(root, form);

export async function makeFolders(python: string, folders: readonly FormFolder[]): Promise<void> {
  const script = join(pythonScripts, 'make_checkpoint.py');
  for (const { form, like } of folders) {
    const folder = folderOf(form);
    if (existsSync(folder)) continue;
    const where = ['--form', form, '--configs', configs, '--output', folder];
    if (like !== undefined) where.push('--like', folderOf(like));
    await run(python, [script, 'full-size', ...where], { env: pythonEnvironment });
  }
}

/** With TORCHBRUSH_KEEP_FULL_SIZE=1 they stay for the next run. */
export async function removeFolders(folders: readonly FormFolder[]): Promise<void> {
  if (process.env.TORCHBRUSH_KEEP_FULL_SIZE === '1') return;
  for (const { form } of folders) await rm(folderOf(form), { recursive: true, force: true });
}

/** No tensor and no network: the next part needs the memory. */
export function assertNothingLeft(): void {
  const { tensors, networks } = memoryStats();
  assert.deepEqual({ tensors, networks }, { tensors: 0, networks: 0 });
}

export async function makeInputs(folder: string): Promise<FullSizeInputs> {
  const embedding = (name: string, shape: number[]) => saveTensor(folder, name, shape, 0.5);
  return {
    image: await saveImage(folder, 'init', initImage(96, 64)),
    control: await saveImage(folder, 'control', initImage(96, 64, 2)),
    square: await saveImage(folder, 'square', initImage(64, 64)),
    thumbnail: await saveImage(folder, 'thumbnail', initImage(24, 16)),
    xlEmbeddings: {
      promptEmbeds: await embedding('prompt', [1, 77, 2048]),
      pooledPromptEmbeds: await embedding('pooled-prompt', [1, 1280]),
      negativePromptEmbeds: await embedding('negative', [1, 77, 2048]),
      negativePooledPromptEmbeds: await embedding('pooled-negative', [1, 1280]),
    },
    embeddings: {
      image: await embedding('image', [1, 1280]),
      negativeImage: await embedding('negative-image', [1, 1280]),
    },
  };
}
