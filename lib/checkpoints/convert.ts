// Checkpoints in other forms made into a folder that diffusers and torchbrush read: one safetensors
// file for each network, and configurations beside them.
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

import { CheckpointError } from '../errors.js';
import type { DType } from '../tensor.js';
import { type ConversionPlan, planFile, planFolder } from './convert-plan.js';
import type { HubAccess } from './hub-settings.js';
import { writeSafetensors, writtenBytes } from './safetensors-writer.js';

export interface ConvertOptions {
  /** A folder, a name on the hub, or a `.safetensors` or `.ckpt` file in the original layout. */
  source: string;
  /** The folder to make. */
  target: string;
  /** For a single file: a checkpoint for the tokenizer, which such files do not hold. */
  config?: string | undefined;
  variant?: string | undefined;
  /** What numbers become; as they are unless given. */
  dtype?: DType | undefined;
  /** Replaces a folder that is there. */
  force?: boolean | undefined;
  access?: HubAccess;
  signal?: AbortSignal | undefined;
  onProgress?: ((written: number, size: number, part: string) => void) | undefined;
}

export interface Conversion {
  folder: string;
  className: string;
  parts: { name: string; className: string; tensors: number; bytes: number; file: string }[];
}

/**
 * The folder appears when it is complete; nothing is left of one that is not.
 *
 * @throws CheckpointError, UntrustedFileError, HubError, or the signal's reason
 */
export async function convertCheckpoint(options: ConvertOptions): Promise<Conversion> {
  const target = resolve(options.target);
  if (existsSync(target) && options.force !== true) {
    throw new CheckpointError(
      `${target} is there already. Name another folder, or replace it with --force.`,
    );
  }
  const isFile = /\.(safetensors|ckpt)$/i.test(options.source);
  const plan = await (isFile ? planFile(options) : planFolder(options));
  const temporary = join(dirname(target), `.${basename(target)}.${randomUUID()}.tmp`);
  try {
    await mkdir(temporary, { recursive: true });
    const parts = await writeParts(plan, temporary, options);
    options.signal?.throwIfAborted();
    await putInPlace(temporary, target);
    return { folder: target, className: plan.className, parts };
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}

async function writeParts(
  { networks, copies, texts }: ConversionPlan,
  folder: string,
  { dtype, signal, onProgress }: ConvertOptions,
): Promise<Conversion['parts']> {
  for (const { from, to } of copies) {
    signal?.throwIfAborted();
    await mkdir(dirname(join(folder, to)), { recursive: true });
    await copyFile(from, join(folder, to));
  }
  for (const [name, content] of texts) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), `${JSON.stringify(content, undefined, 2)}\n`);
  }
  const sizes = networks.map(({ tensors }) => writtenBytes(tensors, dtype));
  const size = sizes.reduce((sum, bytes) => sum + bytes, 0);
  let written = 0;
  const parts: Conversion['parts'] = [];
  for (const [i, { name, className, file, tensors }] of networks.entries()) {
    await mkdir(dirname(join(folder, file)), { recursive: true });
    const onBytes = (bytes: number) => {
      written += bytes;
      onProgress?.(written, size, name);
    };
    await writeSafetensors(join(folder, file), tensors, { dtype, signal, onBytes });
    parts.push({ name, className, tensors: tensors.size, bytes: sizes[i] ?? 0, file });
  }
  return parts;
}

/** With the old folder put aside first: at every moment there is a whole one, under some name. */
async function putInPlace(temporary: string, target: string): Promise<void> {
  const old = `${temporary}.old`;
  const isReplaced = existsSync(target);
  if (isReplaced) await rename(target, old);
  try {
    await rename(temporary, target);
  } catch (error) {
    if (isReplaced) await rename(old, target);
    throw error;
  }
  if (isReplaced) await rm(old, { recursive: true, force: true });
}
