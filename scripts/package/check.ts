// Checks the packed tarballs: what they hold, how they resolve in every mode, their types, and what
// their binaries need of the system.
//   npm run package:check [-- FOLDER WITH THE TARBALLS]
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import { packageRoot } from '../../lib/package-root.js';
import { run } from './libtorch-wheels.js';
import { checkNeeded, checkSymbols } from './symbols.js';
import { checkNoAny, compileUsage } from './types.js';

const tarballs = resolve(process.argv[2] ?? join(packageRoot, 'out', 'package'));
const work = mkdtempSync(join(tmpdir(), 'torchbrush-check-'));
try {
  check();
} finally {
  rmSync(work, { recursive: true, force: true });
}

function check(): void {
  const main = tarball(/^torchbrush-\d.*\.tgz$/);
  const libtorch = tarball(/^torchbrush-libtorch-.*\.tgz$/);
  const tool = (name: string): string => join(packageRoot, 'node_modules', '.bin', name);
  for (const file of [main, libtorch]) run(tool('publint'), [file, '--strict']);
  run(tool('attw'), [main, '--no-color']);

  const modules = join(work, 'node_modules');
  const folder = unpack(main, join(modules, 'torchbrush'));
  const platform = unpack(libtorch, join(work, 'libtorch'));
  const { dependencies, scripts } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  if (scripts !== undefined) throw new Error('The package runs scripts at its installation.');
  for (const name of [...Object.keys(dependencies), '@types/node', 'undici-types']) {
    mkdirSync(join(modules, name, '..'), { recursive: true });
    symlinkSync(join(packageRoot, 'node_modules', name), join(modules, name));
  }
  const prebuilds = join(folder, 'prebuilds', 'linux-x64');
  const binaries = readdirSync(prebuilds).map((name) => join(prebuilds, name));
  const libraries = readdirSync(join(platform, 'lib')).map((name) => join(platform, 'lib', name));
  checkSymbols([...binaries, ...libraries]);
  checkNeeded([...binaries, ...libraries]);
  for (const name of ['index.d.ts', 'index.d.cts']) checkNoAny(join(folder, 'dist', name));
  compileUsage(work);
  console.error(
    'check: the packages resolve, their types compile, their binaries need nothing new',
  );
}

function tarball(pattern: RegExp): string {
  const [name, ...more] = readdirSync(tarballs).filter((file) => pattern.test(file));
  if (name === undefined || more.length > 0) {
    throw new Error(`Expected one tarball ${pattern} in ${tarballs}. Make it: npm run package`);
  }
  return join(tarballs, name);
}

function unpack(file: string, folder: string): string {
  mkdirSync(folder, { recursive: true });
  run('tar', ['xzf', file, '-C', folder, '--strip-components=1']);
  return folder;
}
