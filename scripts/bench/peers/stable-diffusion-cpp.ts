// stable-diffusion.cpp as the npm package @qvac/diffusion-cpp has it: built for the bare runtime.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { access, chmod, constants, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { packageRoot } from '../../../lib/package-root.js';
import { PeerProcess } from './process.js';

export const sdcppName = 'stable-diffusion.cpp, float16 weights';

const script = join(packageRoot, 'scripts', 'bench', 'peers', 'stable_diffusion_cpp.cjs');
const dependencies = { '@qvac/diffusion-cpp': '0.25.0', bare: '1.31.2' };

export async function startStableDiffusionCpp(
  folder: string,
  threads: number,
  limit?: number,
): Promise<PeerProcess> {
  // Not node_modules/.bin/bare: that is a process in between, whose end does not end this one.
  const runtime = `bare-runtime-${process.platform}-${process.arch}`;
  const bare = join(folder, 'node_modules', runtime, 'bin', 'bare');
  await makeExecutable(bare);
  return PeerProcess.start(sdcppName, bare, [script, folder, String(threads)], { limit });
}

/**
 * The package has its binary without the permission, and npm gives it to what node_modules/.bin links
 * to only: to another package's script of the same name.
 */
export async function makeExecutable(file: string): Promise<void> {
  await access(file, constants.X_OK).catch(() => chmod(file, 0o755));
}

/** Installs the packages with npm (600 MB) where they are not there yet. */
export async function installStableDiffusionCpp(folder: string): Promise<void> {
  if (existsSync(join(folder, 'node_modules', '@qvac', 'diffusion-cpp'))) return;
  await mkdir(folder, { recursive: true });
  const manifest = { private: true, dependencies };
  await writeFile(join(folder, 'package.json'), JSON.stringify(manifest));
  await promisify(execFile)('npm', ['install', '--no-audit', '--no-fund'], { cwd: folder });
}
