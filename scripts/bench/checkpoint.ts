// A full-size Stable Diffusion 1.5 with random weights that keep activations near one.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { packageRoot } from '../../lib/package-root.js';
import { ensurePython } from '../python.js';

/**
 * Its folder, made at the first call (8 GB) from the published configurations; undefined where those
 * are not at hand.
 */
export async function makeCheckpoint(python?: string): Promise<string | undefined> {
  const folder = join(packageRoot, '.cache', 'bench', 'sd15');
  if (existsSync(folder)) return folder;
  const beside = join(packageRoot, '..', 'shared', 'spec', 'configs');
  const configs = process.env.TORCHBRUSH_CONFIGS ?? beside;
  if (!existsSync(join(configs, 'sd15'))) return undefined;
  console.error(`making a checkpoint with random weights in ${folder}`);
  const script = join(packageRoot, 'test', 'parity', 'python', 'make_checkpoint.py');
  const where = ['--form', 'sd15', '--configs', configs, '--output', folder];
  const interpreter = python ?? (await ensurePython());
  await promisify(execFile)(interpreter, [script, 'full-size', ...where]);
  return folder;
}
