// Packs what a machine with a GPU and PyTorch needs to build and test torchbrush without a network and
// without Node: one file to carry there.
//   npx tsx scripts/gpu/pack.ts [--out FILE] [--configs DIR] [--no-wheels]
// Needs pip (for the wheels) and xz. See README.md beside this file.
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';

import { packageRoot } from '../../lib/package-root.js';

const limitMegabytes = 60;

/** What runs there beside the dependencies: TypeScript as it stands, and the build. */
const tools = ['tsx', 'cmake-js', 'node-api-headers', 'node-addon-api'];

/**
 * What the peers and the full-size checkpoint need in Python. Those that a Python there has already
 * are not installed.
 */
const wheels = ['diffusers', 'transformers', 'tokenizers', 'safetensors', 'huggingface_hub'];

/** Wheels are zip archives; without their own compression, xz makes them much smaller. */
const storeOnly = `
import pathlib, sys, zipfile
for wheel in pathlib.Path(sys.argv[1]).glob("*.whl"):
    stored = wheel.with_suffix(".stored")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(stored, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    stored.replace(wheel)
`;

/** Tracked files that nothing there reads. */
const leftOut =
  /^(docs\/(images|benchmarks)\/|scripts\/(train|guide|package)\/|test\/(golden|hostile|process)\/)/;

const besideCheckout = join(packageRoot, '..', 'shared', 'spec', 'configs');

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: join(packageRoot, 'out', 'torchbrush-gpu.tar') },
    /** Published configurations, of which a full-size checkpoint with random weights is made. */
    configs: { type: 'string', default: process.env.TORCHBRUSH_CONFIGS ?? besideCheckout },
    'no-wheels': { type: 'boolean', default: false },
  },
});

const out = resolve(values.out);
const work = join(packageRoot, '.cache', 'gpu');
const payload = join(work, 'payload');
rmSync(work, { recursive: true, force: true });
mkdirSync(join(payload, 'torchbrush'), { recursive: true });
mkdirSync(dirname(out), { recursive: true });

copySources();
copyPackages(join(payload, 'torchbrush'));
copyNode();
if (!values['no-wheels']) fetchWheels();
copyConfigs();
const bytes = compress();
const megabytes = bytes / 1e6;
say(`${out} has ${megabytes.toFixed(1)} MB (limit ${limitMegabytes})`);
if (megabytes > limitMegabytes) process.exitCode = 1;

function say(line: string): void {
  console.error(`pack: ${line}`);
}

function copySources(): void {
  const listed = execFileSync(
    'git',
    ['ls-files', '-z', '--cached', '--others', '--exclude-standard'],
    {
      cwd: packageRoot,
      encoding: 'utf8',
    },
  );
  const names = listed.split('\0').filter((name) => name !== '' && !leftOut.test(name));
  for (const name of names) {
    const from = join(packageRoot, name);
    if (!existsSync(from) || statSync(from).isDirectory()) continue;
    const to = join(payload, 'torchbrush', name);
    mkdirSync(dirname(to), { recursive: true });
    cpSync(from, to);
  }
  say(`${names.length} source files`);
}

/** The packages that are used at run time and for the build, with what they need in turn. */
function copyPackages(root: string): void {
  const { dependencies } = readJson(join(packageRoot, 'package.json'));
  const seen = new Set<string>();
  const visit = (name: string, from: string, isOptional: boolean): void => {
    const folder = findPackage(name, from);
    if (folder === undefined) {
      if (isOptional) return;
      throw new Error(`${name}, which ${from} needs, is not installed. Run npm ci first.`);
    }
    if (seen.has(folder)) return;
    seen.add(folder);
    const description = readJson(join(folder, 'package.json'));
    for (const inner of Object.keys(description.dependencies ?? {})) visit(inner, folder, false);
    for (const inner of Object.keys(description.optionalDependencies ?? {}))
      visit(inner, folder, true);
  };
  for (const name of [...Object.keys(dependencies ?? {}), ...tools])
    visit(name, packageRoot, false);
  for (const folder of seen) {
    const nested = join(folder, 'node_modules');
    cpSync(folder, join(root, relative(packageRoot, folder)), {
      recursive: true,
      filter: (from) => from !== nested && !from.endsWith('.map') && !from.endsWith('.md'),
    });
  }
  say(`${seen.size} packages`);
}

interface Description {
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

function readJson(file: string): Description {
  return JSON.parse(readFileSync(file, 'utf8')) as Description;
}

/** As Node looks for it: in the folder itself and in all above it. */
function findPackage(name: string, from: string): string | undefined {
  for (let folder = from; folder.length >= packageRoot.length; folder = dirname(folder)) {
    const place = join(folder, 'node_modules', name);
    if (existsSync(join(place, 'package.json'))) return place;
  }
  return undefined;
}

function copyNode(): void {
  const to = join(payload, 'node', 'bin', 'node');
  mkdirSync(dirname(to), { recursive: true });
  cpSync(process.execPath, to, { dereference: true });
  try {
    execFileSync('strip', [to], { stdio: 'ignore' });
  } catch {
    // It works with its symbols too.
  }
  say(`Node ${process.version}`);
}

function fetchWheels(): void {
  const pins = readFileSync(join(packageRoot, 'scripts', 'python', 'requirements.txt'), 'utf8')
    .split('\n')
    .filter((line) => wheels.includes(line.split('==')[0] as string));
  const folder = join(payload, 'wheels');
  const python = process.env.TORCHBRUSH_PYTHON ?? 'python3';
  const options = ['download', '--quiet', '--no-deps', '--only-binary=:all:', '--dest', folder];
  execFileSync(python, ['-m', 'pip', ...options, ...pins], { stdio: 'inherit' });
  execFileSync(python, ['-c', storeOnly, folder], { stdio: 'inherit' });
  say(`wheels: ${pins.join(' ')}`);
}

function copyConfigs(): void {
  const folder = values.configs;
  if (!existsSync(join(folder, 'sd15'))) {
    say(`no configurations in ${folder}: no full-size checkpoint can be made there`);
    return;
  }
  for (const form of ['sd15', 'sdxl-base']) {
    if (existsSync(join(folder, form))) {
      cpSync(join(folder, form), join(payload, 'configs', form), { recursive: true });
    }
  }
  // The sizes of published files.
  cpSync(join(folder, 'weights.json'), join(payload, 'configs', 'weights.json'));
}

/** The payload compressed, and beside it, plain, the script that unpacks it. */
function compress(): number {
  const outer = join(work, 'torchbrush-gpu');
  mkdirSync(outer);
  execFileSync('tar', ['-C', payload, '-cf', join(outer, 'payload.tar'), '.']);
  execFileSync('xz', ['-9e', '-T1', join(outer, 'payload.tar')]);
  for (const name of ['run.sh', 'README.md']) {
    cpSync(join(packageRoot, 'scripts', 'gpu', name), join(outer, name));
  }
  const commit = execFileSync('git', ['describe', '--always', '--dirty'], {
    cwd: packageRoot,
    encoding: 'utf8',
  });
  writeFileSync(join(outer, 'commit.txt'), commit);
  execFileSync('tar', ['-C', work, '-cf', out, 'torchbrush-gpu']);
  return statSync(out).size;
}
