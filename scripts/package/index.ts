// Makes the tarballs that users install: torchbrush with its binaries, and libtorch's CPU libraries.
//   npm run package [-- --minors 2.13,2.14] [-- --out DIR]
// Needs g++, cmake, binutils and Python 3 with pip. Works on a copy of the sources, so the checkout's own
// build stays.
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

import { packageRoot } from '../../lib/package-root.js';
import {
  ensureTorchWheel,
  type LibtorchMinor,
  run,
  shippedMinor,
  torchReleases,
} from './libtorch-wheels.js';
import { checkNeeded, checkSymbols } from './symbols.js';

const platformPackage = '@torchbrush/libtorch-cpu-linux-x64';
const megabyte = 1e6;

/** What the package is built from and of. */
const sources = [
  ...['CMakeLists.txt', 'LICENSE', 'README.md', 'binding.gyp', 'package.json', 'tsconfig.json'],
  ...['tsup.config.ts', 'docs', 'lib', 'models', 'native', 'programs', 'scripts'],
];

const { values } = parseArgs({
  options: {
    minors: { type: 'string', default: Object.keys(torchReleases).join(',') },
    out: { type: 'string', default: join(packageRoot, 'out', 'package') },
  },
});
const out = resolve(values.out);
const minors = values.minors.split(',').map((minor): LibtorchMinor => {
  if (minor in torchReleases) return minor as LibtorchMinor;
  throw new Error(`Expected ${Object.keys(torchReleases).join(', ')} for --minors, not ${minor}.`);
});

mkdirSync(out, { recursive: true });
for (const name of readdirSync(out)) {
  if (name.endsWith('.tgz')) rmSync(join(out, name));
}
const tarballs = [packLibtorch(), packTorchbrush()];
for (const { file, limit } of tarballs) {
  const size = statSync(file).size / megabyte;
  console.error(`package: ${file} is ${size.toFixed(1)} MB (limit ${limit})`);
  if (size > limit) throw new Error(`${file} is larger than ${limit} MB.`);
}

/** The stripped run-time libraries of the official wheel, with their licences. */
function packLibtorch(): { file: string; limit: number } {
  const wheel = ensureTorchWheel(shippedMinor);
  const release = torchReleases[shippedMinor];
  const folder = fresh('libtorch-cpu-linux-x64');
  const lib = join(folder, 'lib');
  mkdirSync(lib);
  for (const name of readdirSync(join(wheel, 'torch', 'lib'))) {
    console.error(`package: stripping ${name}`);
    run('strip', ['--strip-unneeded', '-o', join(lib, name), join(wheel, 'torch', 'lib', name)]);
  }
  checkNeeded(readdirSync(lib).map((name) => join(lib, name)));
  const info = readdirSync(wheel).find((name) => name.endsWith('.dist-info')) as string;
  cpSync(join(wheel, info, 'licenses'), join(folder, 'licenses'), { recursive: true });
  writeJson(join(folder, 'package.json'), {
    name: platformPackage,
    version: release,
    description: `The CPU libraries of libtorch ${release} for torchbrush on Linux (x86-64, glibc)`,
    license: 'SEE LICENSE IN licenses/LICENSE',
    type: 'commonjs',
    os: ['linux'],
    cpu: ['x64'],
    libc: ['glibc'],
    files: ['lib', 'licenses', 'README.md'],
  });
  writeFileSync(join(folder, 'README.md'), readme(release));
  return { file: pack(folder), limit: 150 };
}

function readme(release: string): string {
  return `# ${platformPackage}

The run-time libraries of libtorch ${release}, from the official CPU wheel of torch, stripped of debug symbols and
otherwise unchanged. torchbrush finds them by itself.

The licences of PyTorch and of what is compiled into it are in \`licenses/\`. \`libgomp.so.1\` is GCC's OpenMP run-time
library, under GPL-3.0 with the GCC Runtime Library Exception. libtorch contains Intel oneMKL, under the Intel
Simplified Software License.
`;
}

function packTorchbrush(): { file: string; limit: number } {
  const folder = fresh('torchbrush');
  for (const name of sources) {
    cpSync(join(packageRoot, name), join(folder, name), { recursive: true });
  }
  symlinkSync(join(packageRoot, 'node_modules'), join(folder, 'node_modules'));
  run('npx', ['tsup'], { cwd: folder });
  const libtorches = minors.map((minor) => join(ensureTorchWheel(minor), 'torch'));
  run('npx', ['prebuildify', '--napi', '--strip', '--name', 'torchbrush'], {
    cwd: folder,
    env: { ...headersOfNode(), ...process.env, TORCHBRUSH_BUILD_LIBTORCH: libtorches.join(':') },
  });
  const prebuilds = join(folder, 'prebuilds', 'linux-x64');
  const binaries = readdirSync(prebuilds).map((name) => join(prebuilds, name));
  checkSymbols(binaries);
  checkNeeded(binaries);
  const description = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  // Only here: a checkout could not install it before it is published.
  description.optionalDependencies = { [platformPackage]: torchReleases[shippedMinor] };
  delete description.devDependencies;
  delete description.scripts;
  writeJson(join(folder, 'package.json'), description);
  return { file: pack(folder), limit: 60 };
}

/** node-gyp wants Node's headers, although nothing here uses them: the installed ones save a download. */
function headersOfNode(): NodeJS.ProcessEnv {
  const prefix = dirname(dirname(realpathSync(process.execPath)));
  const found = existsSync(join(prefix, 'include', 'node', 'common.gypi'));
  return found ? { npm_config_nodedir: prefix } : {};
}

function fresh(name: string): string {
  const folder = join(packageRoot, '.cache', 'package', name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  return folder;
}

function writeJson(file: string, value: unknown): void {
  writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
}

function pack(folder: string): string {
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', out];
  const [{ filename }] = JSON.parse(
    execFileSync('npm', args, {
      cwd: folder,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  );
  return join(out, filename);
}
