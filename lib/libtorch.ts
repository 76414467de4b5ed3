import type ChildProcess from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

import { outsideArchive, packageRoot } from './package-root.js';

/** A libtorch installation: `folder` holds `lib/`, and `include/` where one can build against it. */
export interface Libtorch {
  folder: string;
  /** How it was found, for messages and `torchbrush doctor`. */
  source: string;
}

const platformPackage = `@torchbrush/libtorch-cpu-${process.platform}-${process.arch}`;

/** Looks in every place in turn; `tried` tells what was looked at, in words. */
export function findLibtorch(configured: string | undefined): {
  found: Libtorch | undefined;
  tried: string[];
} {
  const tried: string[] = [];
  const named: [string | undefined, string][] = [
    [configured, 'configure({ libtorch })'],
    [process.env.TORCHBRUSH_LIBTORCH, 'TORCHBRUSH_LIBTORCH'],
  ];
  for (const [place, source] of named) {
    if (place === undefined || place === '') continue;
    const folder = libtorchRoot(place);
    // Who names a place means that place: no silent step to the next one.
    if (folder === undefined) tried.push(`${source}: no lib/libtorch_cpu.so in ${place}`);
    return { found: folder === undefined ? undefined : { folder, source }, tried };
  }
  for (const [source, look] of searches) {
    const place = look();
    const folder = place === undefined ? undefined : libtorchRoot(place);
    if (folder !== undefined) return { found: { folder, source }, tried };
    tried.push(`${source}: ${place === undefined ? 'not found' : `no libtorch in ${place}`}`);
  }
  return { found: undefined, tried };
}

const searches: [string, () => string | undefined][] = [
  [`the package ${platformPackage}`, fromPlatformPackage],
  ['the Python in TORCHBRUSH_PYTHON', () => fromPython(process.env.TORCHBRUSH_PYTHON)],
  ['the Python on PATH', () => fromPython('python3') ?? fromPython('python')],
  ["the package's own copy (npm run setup)", fromPrivateCopy],
];

function libtorchRoot(place: string): string | undefined {
  const candidates = [place, join(place, '..'), join(place, 'torch')];
  return candidates.find((folder) => existsSync(join(folder, 'lib', 'libtorch_cpu.so')));
}

function fromPlatformPackage(): string | undefined {
  try {
    const require = createRequire(import.meta.url);
    return outsideArchive(dirname(require.resolve(`${platformPackage}/package.json`)));
  } catch {
    return undefined;
  }
}

/** The folder of a Python's torch, without importing torch. */
function fromPython(python: string | undefined): string | undefined {
  if (python === undefined || python === '') return undefined;
  const script =
    "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')";
  try {
    // Only here: it takes milliseconds to load.
    const { execFileSync }: typeof ChildProcess = createRequire(import.meta.url)(
      'node:child_process',
    );
    const folder = execFileSync(python, ['-c', script], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 20_000,
    }).trim();
    return folder === '' ? undefined : folder;
  } catch {
    return undefined;
  }
}

/** What `npm run setup` fetched in a checkout: torch alone, or the Python environment of the tests. */
function fromPrivateCopy(): string | undefined {
  const environment = join(packageRoot, '.cache', 'python', 'lib');
  const pythons = existsSync(environment)
    ? readdirSync(environment).map((name) => join(environment, name, 'site-packages', 'torch'))
    : [];
  const candidates = [join(packageRoot, '.cache', 'libtorch', 'torch'), ...pythons];
  return candidates.find((folder) => libtorchRoot(folder) !== undefined);
}
