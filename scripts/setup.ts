// Brings a checkout to where it can run: a libtorch, and an addon built for it. Does nothing, and
// says nothing, when all is there.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import { findLibtorch, type Libtorch } from '../lib/libtorch.js';
import { packageRoot } from '../lib/package-root.js';
import { buildAddon, minorOf } from './build-addon.js';
import { cpuWheelArguments } from './torch-wheel.js';

/** The libtorch that is fetched where there is none. */
const torchVersion = '2.13.0';

const release = join(packageRoot, 'build', 'Release');

function say(line: string): void {
  console.error(`setup: ${line}`);
}

function ensureLibtorch(): Libtorch {
  const first = findLibtorch(undefined);
  if (first.found !== undefined) return first.found;
  if (process.env.TORCHBRUSH_LIBTORCH) throw new Error(first.tried.join('\n'));
  say(`no libtorch found; fetching torch ${torchVersion} with pip into .cache/libtorch (once)`);
  const target = join(packageRoot, '.cache', 'libtorch');
  const partial = `${target}.partial`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  const python = process.env.TORCHBRUSH_PYTHON ?? 'python3';
  // Without its dependencies: only the libraries and headers are used, no Python runs later.
  const pip = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--target', partial];
  const isFetched = cpuWheelArguments(torchVersion).some(
    (wanted) => spawnSync(python, [...pip, ...wanted], { stdio: 'inherit' }).status === 0,
  );
  if (!isFetched) {
    throw new Error(
      `pip could not fetch torch ${torchVersion}. Install Python 3 with pip, or set TORCHBRUSH_LIBTORCH to a libtorch folder.`,
    );
  }
  rmSync(target, { recursive: true, force: true });
  renameSync(partial, target);
  const second = findLibtorch(undefined);
  if (second.found === undefined)
    throw new Error(`The fetched torch has no libtorch:\n${second.tried.join('\n')}`);
  return second.found;
}

/** Changes when the addon must be built anew. */
function sourceHash(): string {
  const hash = createHash('sha256');
  const files = readdirSync(join(packageRoot, 'native'), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(cc|h|inl|cu|cmake)$/.test(name))
    .sort()
    .map((name) => join('native', name));
  for (const file of [...files, 'CMakeLists.txt']) {
    hash.update(file).update(readFileSync(join(packageRoot, file)));
  }
  return hash.digest('hex');
}

function ensureAddon(libtorch: Libtorch): void {
  const prebuilt = join(packageRoot, 'prebuilds', `${process.platform}-${process.arch}`);
  if (existsSync(join(prebuilt, 'torchbrush.node')) && !existsSync(release)) return;
  const minor = minorOf(libtorch.folder);
  const stamp = join(release, `built-${minor}.txt`);
  const wanted = `${sourceHash()}\n${libtorch.folder}\n`;
  const core = join(release, `torchbrush-core-${minor}.so`);
  if (existsSync(core) && existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  say(`building the addon for libtorch ${minor} of ${libtorch.source} (some minutes, once)`);
  buildAddon(libtorch.folder, release);
  writeFileSync(stamp, wanted);
}

ensureAddon(ensureLibtorch());
