// Makes the programs that ship with the package: `npm run export:programs [name…]`.
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalArchitecture } from '../../lib/networks/architecture.js';
import { type ProgramManifest, runExporter } from '../../lib/networks/export.js';
import { packageRoot } from '../../lib/package-root.js';
import { ensurePython } from '../python.js';
import { bundledArchitectures } from './architectures.js';

const folder = join(packageRoot, 'programs');
const manifestFile = join(folder, 'manifest.json');
const named = process.argv.slice(2);

const requests = bundledArchitectures().map(({ name, className, config }) => ({
  name,
  ...canonicalArchitecture(className, config),
}));
const unknown = named.filter((name) => !requests.some((request) => request.name === name));
if (unknown.length > 0) {
  console.error(`No bundled program is called ${unknown.join(', ')}.`);
  console.error(`There are: ${requests.map(({ name }) => name).join(', ')}.`);
  process.exit(2);
}

const wanted = requests.filter(({ name }) => named.length === 0 || named.includes(name));
const log = (line: string) => console.log(line);
const python = await ensurePython({ log });
const cache = join(packageRoot, '.cache');
await Promise.all([folder, cache].map((path) => mkdir(path, { recursive: true })));
const temporary = await mkdtemp(join(cache, 'export-'));
try {
  const made = await runExporter({ requests: wanted, folder: temporary, python, onLine: log });
  const before = await previousPrograms();
  const fresh = new Set(made.map(({ key }) => key));
  const order = requests.map(({ key }) => key);
  // What is not made this time stays, unless its architecture has left the table.
  const programs = [...made, ...before.filter(({ key }) => !fresh.has(key) && order.includes(key))];
  programs.sort((a, b) => order.indexOf(a.key) - order.indexOf(b.key));
  for (const { file } of made) await rename(join(temporary, file), join(folder, file));
  const manifest: ProgramManifest = { version: 1, programs };
  await writeFile(join(temporary, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  await rename(join(temporary, 'manifest.json'), manifestFile);
  const kept = new Set(programs.map(({ file }) => file));
  for (const file of await readdir(folder)) {
    if (file.endsWith('.pt.br') && !kept.has(file)) await rm(join(folder, file));
  }
} finally {
  await rm(temporary, { recursive: true, force: true });
}

async function previousPrograms(): Promise<ProgramManifest['programs']> {
  try {
    return (JSON.parse(await readFile(manifestFile, 'utf8')) as ProgramManifest).programs;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
