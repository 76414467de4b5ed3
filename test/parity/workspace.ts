// Checkpoints, programs and inputs of the parity tests, all under .cache/parity.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { openCheckpointFolder } from '../../lib/checkpoints/folder.js';
import { readJsonObject } from '../../lib/checkpoints/json.js';
import { Image } from '../../lib/index.js';
import { architectureClasses, canonicalArchitecture } from '../../lib/networks/architecture.js';
import { type ExportRequest, exportPrograms } from '../../lib/networks/export.js';
import { findProgramRecords } from '../../lib/networks/programs.js';
import { packageRoot } from '../../lib/package-root.js';
import type { TensorFile } from './case.js';

const run = promisify(execFile);
const here = dirname(fileURLToPath(import.meta.url));
const cache = join(packageRoot, '.cache', 'parity');

export const pythonScripts = join(here, 'python');

/** The scripts that make checkpoints, not those that run diffusers. */
const makers = /^(?!run_).*\.py$/;

/** Environment of the Python programs: no spinning threads, nothing fetched, no progress bars. */
export const pythonEnvironment: NodeJS.ProcessEnv = {
  ...process.env,
  OMP_WAIT_POLICY: 'passive',
  GOMP_SPINCOUNT: '0',
  HF_HUB_OFFLINE: '1',
  HF_HUB_DISABLE_PROGRESS_BARS: '1',
  PYTHONDONTWRITEBYTECODE: '1',
  PYTHONWARNINGS: 'ignore',
};

/**
 * Random checkpoints, named `preset:seed` or `preset:seed:layout`; gives the folder of each. They
 * are kept as long as the programs that make them stay the same.
 */
export async function makeCheckpoints<Name extends string>(
  python: string,
  names: readonly Name[],
): Promise<Record<Name, string>> {
  const root = join(cache, 'checkpoints', await hashOf(pythonScripts, makers));
  const script = join(pythonScripts, 'make_checkpoint.py');
  const folders = names.map((name) => [name, join(root, name.replaceAll(':', '-'))] as const);
  await makeMissing(folders, (missing) => [script, 'tiny', '--output', root, ...missing], python);
  return Object.fromEntries(folders) as Record<Name, string>;
}

/** Folders come into being whole. Starting Python takes seconds, which are spared if all are there. */
async function makeMissing(
  folders: readonly (readonly [name: string, folder: string])[],
  command: (missing: string[]) => string[],
  python: string,
): Promise<void> {
  const missing = folders.filter(([, folder]) => !existsSync(folder)).map(([name]) => name);
  if (missing.length > 0) await run(python, command(missing), { env: pythonEnvironment });
}

/** As `makeCheckpoints`, for Kandinsky 2.2: a prior and a decoder of each name, `preset:seed`. */
export async function makeKandinskyCheckpoints<Name extends string>(
  python: string,
  names: readonly Name[],
): Promise<Record<Name, { prior: string; decoder: string }>> {
  const root = join(cache, 'checkpoints', await hashOf(pythonScripts, makers), 'kandinsky');
  const script = join(pythonScripts, 'kandinsky_checkpoint.py');
  // The decoder is the last thing that is made.
  const decoders = names.map(
    (name) => [name, join(root, `${name.replaceAll(':', '-')}-decoder`)] as const,
  );
  await makeMissing(decoders, (missing) => [script, '--output', root, ...missing], python);
  const folders = names.map((name) => {
    const folder = join(root, name.replaceAll(':', '-'));
    return [name, { prior: `${folder}-prior`, decoder: `${folder}-decoder` }];
  });
  return Object.fromEntries(folders) as Record<Name, { prior: string; decoder: string }>;
}

/**
 * Exports the programs that checkpoints and ControlNets need and points the library at them. They are
 * kept as long as the exporter stays the same.
 */
export async function exportCheckpointPrograms(
  python: string,
  checkpoints: readonly string[],
  controlnets: readonly string[] = [],
): Promise<void> {
  const version = await hashOf(join(packageRoot, 'scripts', 'export'), /\.py$/);
  const outDir = join(packageRoot, '.cache', 'programs', version);
  process.env.TORCHBRUSH_PROGRAMS = outDir;
  const requests = new Map<string, ExportRequest>();
  const opened = await Promise.all(checkpoints.map((path) => openCheckpointFolder(path)));
  const components = [
    ...opened.flatMap((checkpoint) => [...checkpoint.components.values()]),
    ...controlnets.map((folder) => ({ className: 'ControlNetModel', folder })),
  ];
  for (const { className, folder } of components) {
    if (!architectureClasses.includes(className)) continue;
    const config = await readJsonObject(join(folder, 'config.json'));
    const architecture = canonicalArchitecture(className, config);
    if ((await findProgramRecords(architecture.key)) !== undefined) continue;
    const name = `${className}-${architecture.key}`.toLowerCase();
    requests.set(architecture.key, { name, ...architecture });
  }
  await exportPrograms({ requests: [...requests.values()], outDir, python });
}

/**
 * A folder for one run's files, and what removes it. A folder named in TORCHBRUSH_PARITY_FOLDER is
 * kept, with what diffusers drew, so that a second run need not draw it again.
 */
export async function runFolder(): Promise<{ folder: string; remove: () => Promise<void> }> {
  const named = process.env.TORCHBRUSH_PARITY_FOLDER;
  if (named !== undefined && named !== '') {
    await mkdir(named, { recursive: true });
    return { folder: resolve(named), remove: async () => {} };
  }
  const root = join(cache, 'runs');
  await mkdir(root, { recursive: true });
  const folder = await mkdtemp(join(root, 'run-'));
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

async function hashOf(folder: string, pattern: RegExp): Promise<string> {
  const hash = createHash('sha256');
  for (const file of (await readdir(folder)).sort()) {
    if (pattern.test(file)) hash.update(file).update(await readFile(join(folder, file)));
  }
  return hash.digest('hex').slice(0, 12);
}

/** A picture with edges, ramps and fine detail, so that a resize or a shift shows. */
export function initImage(width: number, height: number, phase = 0): Image {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const inside = Math.hypot(x - width / 2, y - height / 2) < Math.min(width, height) / 3;
      const values = [
        (255 * x) / width,
        inside ? 230 : (255 * y) / height,
        128 + 100 * Math.sin(x / 3 + phase) * Math.cos(y / 5 - phase),
      ];
      data.set(values.map(Math.round), (y * width + x) * 3);
    }
  }
  return Image.fromRaw(data, width, height);
}

export async function saveImage(folder: string, name: string, image: Image): Promise<string> {
  const file = join(folder, `${name}.png`);
  await image.save(file);
  return file;
}

/** Numbers spread like noise, the same on every run (Box–Muller on additive recurrences). */
export async function saveTensor(
  folder: string,
  name: string,
  shape: number[],
  deviation = 1,
  mean = 0,
): Promise<TensorFile> {
  const count = shape.reduce((product, size) => product * size, 1);
  const shift = name.length / 32;
  const values = Float32Array.from({ length: count }, (_, i) => {
    const radius = Math.sqrt(-2 * Math.log(1 - ((shift + i * 0.7548776662) % 1)));
    return mean + deviation * radius * Math.cos(2 * Math.PI * ((i * 0.5698402909) % 1));
  });
  const file = join(folder, `${name}.f32`);
  await writeFile(file, new Uint8Array(values.buffer));
  return { file, shape };
}

export async function readTensorFile({ file }: TensorFile): Promise<Float32Array> {
  const bytes = await readFile(file);
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}
