// Builds the bootstrap and the core for the libtorch that is found, with cmake-js, and copies them
// to build/Release (or --out DIR).
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';

import { findLibtorch } from '../lib/libtorch.js';
import { packageRoot } from '../lib/package-root.js';

/** The version of a libtorch folder from its headers, `2.13`. */
export function minorOf(libtorch: string): string {
  const header = readFileSync(
    join(libtorch, 'include', 'torch', 'headeronly', 'version.h'),
    'utf8',
  );
  const part = (name: string): string =>
    new RegExp(`#define TORCH_VERSION_${name} (\\d+)`).exec(header)?.[1] ?? '';
  return `${part('MAJOR')}.${part('MINOR')}`;
}

export function buildAddon(libtorch: string, out: string): void {
  const minor = minorOf(libtorch);
  const work = join(packageRoot, `build-${minor}`);
  const require = createRequire(import.meta.url);
  const cmakeJs = require.resolve('cmake-js/bin/cmake-js');
  const options = [
    'compile',
    '--out',
    work,
    '--config',
    'Release',
    '--parallel',
    String(availableParallelism()),
    `--CDTORCHBRUSH_LIBTORCH=${libtorch}`,
    `--CDTORCHBRUSH_LIBTORCH_MINOR=${minor}`,
    // Packages need no companion for the tests.
    `--CDTORCHBRUSH_HOST_COMPANION=${process.env.TORCHBRUSH_BUILD_LIBTORCH ? 'OFF' : 'ON'}`,
  ];
  const built = spawnSync(process.execPath, [cmakeJs, ...options], {
    cwd: packageRoot,
    stdio: 'inherit',
  });
  if (built.status !== 0) throw new Error(`cmake-js ended with ${built.status ?? built.signal}.`);
  mkdirSync(out, { recursive: true });
  const companion = `torchbrush-cuda-${minor}.so`;
  const names = ['torchbrush.node', `torchbrush-core-${minor}.so`];
  // Only where libtorch is one for CUDA and there is an nvcc.
  if (existsSync(join(work, 'Release', companion))) names.push(companion);
  for (const name of names) {
    // A running process may have the old file mapped: replace it, never write into it.
    const temporary = join(out, `${name}.${process.pid}`);
    copyFileSync(join(work, 'Release', name), temporary);
    renameSync(temporary, join(out, name));
  }
}

/** Folders of libtorch to build cores for: those that packaging names, else the one that is found. */
function libtorches(): string[] {
  const named = process.env.TORCHBRUSH_BUILD_LIBTORCH;
  if (named !== undefined && named !== '') return named.split(':');
  const { found, tried } = findLibtorch(undefined);
  if (found === undefined)
    throw new Error(`No libtorch to build against:\n  ${tried.join('\n  ')}`);
  return [found.folder];
}

if (
  process.argv[1] !== undefined &&
  import.meta.url.endsWith('/build-addon.ts') &&
  resolve(process.argv[1]).includes('build-addon')
) {
  const at = process.argv.indexOf('--out');
  const out = at > 0 ? process.argv[at + 1] : undefined;
  for (const libtorch of libtorches()) {
    buildAddon(libtorch, resolve(out ?? join(packageRoot, 'build', 'Release')));
  }
}
