// stable-diffusion.cpp as the npm package @qvac/diffusion-cpp has it: built for the bare runtime.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { packageRoot } from '../../../lib/package-root.js';
import { PeerProcess } from './process.js';

export const sdcppName = 'stable-diffusion.cpp, float16 weights';

const script = join(packageRoot, 'scripts', 'bench', 'peers', 'stable_diffusion_cpp.cjs');
const dependencies = { '@qvac/diffusion-cpp': '0.25.0', bare: '1.31.2' };

export function startStableDiffusionCpp(folder: string, threads: number): Promise<PeerProcess> {
  // Not node_modules/.bin/bare: that is a process in between, whose end does not end this one.
  const runtime = `bare-runtime-${process.platform}-${process.arch}`;
  const bare = join(folder, 'node_modules', runtime, 'bin', 'bare');
  return PeerProcess.start(sdcppName, bare, [script, folder, String(threads)]);
}

/** Installs the packages with npm (600 MB) where they are not there yet. */
export async function installStableDiffusionCpp(folder: string): Promise<void> {
  if (existsSync(join(folder, 'node_modules', '@qvac', 'diffusion-cpp'))) return;
  await mkdir(folder, { recursive: true });
  const manifest = { private: true, dependencies };
  await writeFile(join(folder, 'package.json'), JSON.stringify(manifest));
  await promisify(execFile)('npm', ['install', '--no-audit', '--no-fund'], { cwd: folder });
}
