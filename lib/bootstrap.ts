// The only importer of the addon's first part: it opens a libtorch, and the core built for it.
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Core } from './core.js';
import { LibtorchNotFoundError } from './errors.js';
import type { Libtorch } from './libtorch.js';
import { packageRoot } from './package-root.js';

export interface Bootstrap {
  folder: string;
  /** Its full version, `2.13.0`. */
  openLibtorch(folder: string, withCuda: boolean): string;
  loadCore(path: string): Core;
}

export function openLibtorch(
  bootstrap: Bootstrap,
  lib: string,
  { folder, source }: Libtorch,
): string {
  try {
    return bootstrap.openLibtorch(lib, false);
  } catch (cause) {
    const reason = (cause as Error).message;
    // Builds for CUDA need it even for what runs on the CPU.
    const way = /\blib(cu|nv)/.test(reason)
      ? 'It is a build for CUDA, and libraries of NVIDIA that it needs are missing. Install torch together with what it depends on ("pip install torch"), or name a build for the CPU with TORCHBRUSH_LIBTORCH.'
      : 'Install it anew, or name another libtorch with TORCHBRUSH_LIBTORCH.';
    throw new LibtorchNotFoundError(
      `The libtorch in ${folder} (${source}) could not be opened: ${reason}. ${way}`,
      { cause },
    );
  }
}

/** Opens the CUDA part of a libtorch that has one. Where that fails the CPU still works. */
export function openCuda(bootstrap: Bootstrap, lib: string): string | undefined {
  if (!existsSync(join(lib, 'libtorch_cuda.so'))) return undefined;
  try {
    bootstrap.openLibtorch(lib, true);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

export function loadBootstrap(): Bootstrap {
  const require = createRequire(import.meta.url);
  try {
    return require('node-gyp-build')(packageRoot) as Bootstrap;
  } catch (cause) {
    throw new LibtorchNotFoundError(
      `torchbrush has no binary that runs on this ${process.platform}-${process.arch}: there are prebuilt ones for Linux on x86-64 with glibc 2.28 or newer. In a checkout, build one with "npm run build:addon". (${(cause as Error).message.split('\n')[0]})`,
      { code: 'ERR_ADDON_NOT_FOUND', cause },
    );
  }
}

export function corePath(folder: string, version: string, libtorch: Libtorch): string {
  const minor = version.split('.').slice(0, 2).join('.');
  const path = join(folder, `torchbrush-core-${minor}.so`);
  if (existsSync(path)) return path;
  const built = readdirSync(folder)
    .map((name) => /^torchbrush-core-(\d+\.\d+)\.so$/.exec(name)?.[1])
    .filter((name) => name !== undefined);
  throw new LibtorchNotFoundError(
    `The libtorch in ${libtorch.folder} (${libtorch.source}) is version ${version}, and there is no core for ${minor}; there is one for ${built.join(', ') || 'no version'}. Install one of those versions of torch, name another libtorch with TORCHBRUSH_LIBTORCH, or build a core with "npm run build:addon".`,
    { code: 'ERR_LIBTORCH_VERSION' },
  );
}

export function notFound(tried: string[]): LibtorchNotFoundError {
  return new LibtorchNotFoundError(
    [
      'libtorch was not found. Looked at:',
      ...tried.map((line) => `  - ${line}`),
      'Do one of these:',
      '  npm install @torchbrush/libtorch-cpu-linux-x64 (Linux on x86-64; comes with torchbrush unless optional dependencies are left out)',
      '  pip install torch==2.13.0                    (into the Python on PATH; any platform)',
      '  export TORCHBRUSH_LIBTORCH=/path/to/libtorch (a folder with lib/libtorch_cpu.so)',
    ].join('\n'),
  );
}
