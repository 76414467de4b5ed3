// The official wheels of torch that the package is built from: headers and libraries to link the
// cores against, and the run-time libraries of the platform package.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { packageRoot } from '../../lib/package-root.js';
import { cpuWheelArguments } from '../torch-wheel.js';

/** One release of each libtorch minor that gets a core. */
export const torchReleases = {
  '2.11': '2.11.0',
  '2.12': '2.12.1',
  '2.13': '2.13.0',
  '2.14': '2.14.1',
} as const;

export type LibtorchMinor = keyof typeof torchReleases;

/** The minor whose libraries go into the platform package. */
export const shippedMinor: LibtorchMinor = '2.13';

const cache = join(packageRoot, '.cache', 'package');

/** What is taken out of a wheel: no Python code, no CUDA libraries. */
const extract = `
import re, sys, zipfile
wanted = re.compile(r"torch/include/|torch/lib/lib(torch_cpu|c10)\\.so$|torch/lib/libgomp[^/]*$|torch-[^/]*\\.dist-info/(licenses/|METADATA$|LICENSE|NOTICE)")
with zipfile.ZipFile(sys.argv[1]) as wheel:
    for name in wheel.namelist():
        if wanted.match(name):
            wheel.extract(name, sys.argv[2])
`;

/** Folder that holds `torch/include`, `torch/lib` and the licences of a release; fetched once. */
export function ensureTorchWheel(minor: LibtorchMinor): string {
  const release = torchReleases[minor];
  const folder = join(cache, `torch-${release}`);
  if (existsSync(folder)) return folder;
  const wheels = join(packageRoot, '.cache', 'wheels');
  const file = fetchWheel(wheels, minor);
  const partial = `${folder}.${process.pid}`;
  mkdirSync(partial, { recursive: true });
  run('python3', ['-c', extract, file, partial]);
  try {
    renameSync(partial, folder);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return folder;
}

function findWheel(wheels: string, release: string, build: string): string | undefined {
  if (!existsSync(wheels)) return undefined;
  const pattern = new RegExp(`^torch-${release.replaceAll('.', '\\.')}${build}-.*x86_64\\.whl$`);
  const name = readdirSync(wheels).find((file) => pattern.test(file));
  return name === undefined ? undefined : join(wheels, name);
}

/** The libraries of the platform package come from the build for the CPU; cores link to any. */
function fetchWheel(wheels: string, minor: LibtorchMinor): string {
  const release = torchReleases[minor];
  const shipped = minor === shippedMinor;
  const build = shipped ? '\\+cpu' : '(\\+cpu)?';
  const present = findWheel(wheels, release, build);
  if (present !== undefined) return present;
  console.error(`package: fetching the wheel of torch ${release} (up to 600 MB, once)`);
  mkdirSync(wheels, { recursive: true });
  for (const wanted of shipped ? cpuWheelArguments(release) : [[`torch==${release}`]]) {
    const pip = ['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', wheels, ...wanted];
    spawnSync('python3', pip, { stdio: 'inherit' });
    const file = findWheel(wheels, release, build);
    if (file !== undefined) return file;
  }
  throw new Error(`pip fetched no wheel of torch ${release} for x86-64.`);
}

/** Runs a command with its output shown. @throws Error when it fails */
export function run(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): void {
  const { status, signal, error } = spawnSync(command, args, { stdio: 'inherit', ...options });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${command} ${args[0] ?? ''} ended with ${status ?? signal}.`);
}
