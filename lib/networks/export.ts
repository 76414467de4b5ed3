// Makes programs with the exporter in scripts/export, a Python program. Nothing else in the library
// needs Python.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { brotliCompress, constants } from 'node:zlib';
import { TorchbrushError } from '../errors.js';
import { packageRoot } from '../package-root.js';
import type { Architecture } from './architecture.js';
import type { ProgramRecord } from './programs.js';

const compress = promisify(brotliCompress);

/** An architecture to export and the name of its files. */
export interface ExportRequest extends Architecture {
  name: string;
}

/** An entry of a manifest as the exporter writes it. */
export interface ExportedProgram extends ProgramRecord {
  /** The canonical config that the key stands for. */
  config: Record<string, unknown>;
  /** Inputs whose dtype is not the network's, such as `{ timestep: 'float32' }`. */
  inputDtypes: Record<string, string>;
  /** Versions of torch, diffusers and transformers. */
  exporter: Record<string, string>;
  /** Counts of what could bind a program to a machine; all but `nodes` and `operators` are small. */
  lint: Record<string, number>;
  /** The comparisons with the library's own module, one per size and dtype. */
  compared: Record<string, unknown>[];
}

export interface ProgramManifest {
  version: 1;
  programs: ExportedProgram[];
}

/**
 * Why an export failed, as `code`:
 * - `ERR_EXPORT_PYTHON`: the interpreter cannot be started, or is older than 3.10
 * - `ERR_EXPORT_PACKAGES`: it lacks torch, diffusers or transformers
 * - `ERR_EXPORT_UNSUPPORTED`: the exporter does not know this architecture
 * - `ERR_EXPORT_LINT`: the traced graph would depend on the machine it was traced on
 * - `ERR_EXPORT_COMPARISON`: the program does not compute what the library computes
 * - `ERR_EXPORT_FAILED`: anything else
 */
export class ExportError extends TorchbrushError {}

export interface ExportProgramsOptions {
  requests: readonly ExportRequest[];
  /** Gets a folder `<key>` with a manifest for every architecture. */
  outDir: string;
  /** A Python interpreter with torch, diffusers and transformers. */
  python: string;
  /** Receives the exporter's output line by line. */
  onLine?: ((line: string) => void) | undefined;
  /**
   * Whether each program is run beside the library's own module, at several sizes and dtypes; true
   * unless given. Takes most of the time and memory for a large network.
   */
  compare?: boolean | undefined;
  /** Ends the exporter. */
  signal?: AbortSignal | undefined;
}

/**
 * Exports architectures and puts their programs where they are looked up: `<outDir>/<key>/`.
 *
 * A folder appears with all of its files or not at all, and replaces one of the same key.
 *
 * @returns the records of all programs made
 * @throws {ExportError} see its codes
 */
export async function exportPrograms(options: ExportProgramsOptions): Promise<ExportedProgram[]> {
  const { outDir, ...rest } = options;
  const byKey = new Map(options.requests.map((request) => [request.key, request]));
  if (byKey.size === 0) return [];
  await mkdir(outDir, { recursive: true });
  const temporary = join(outDir, `.export-${randomUUID()}`);
  await mkdir(temporary);
  try {
    const requests = [...byKey.values()];
    const made = await runExporter({ ...rest, requests, folder: temporary });
    for (const key of byKey.keys()) {
      const programs = made.filter((program) => program.key === key);
      const staged = join(temporary, key);
      await mkdir(staged);
      for (const { file } of programs) await rename(join(temporary, file), join(staged, file));
      await writeManifest(staged, programs);
      await replaceFolder(staged, join(outDir, key), join(temporary, `${key}.old`));
    }
    return made;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

export interface RunExporterOptions extends Omit<ExportProgramsOptions, 'outDir'> {
  /** An existing empty folder for the compressed programs. */
  folder: string;
}

/** Runs the exporter once; leaves `<file>.pt.br` files in the folder and returns their records. */
export async function runExporter(options: RunExporterOptions): Promise<ExportedProgram[]> {
  const { requests, folder, compare = true } = options;
  const request = join(folder, 'request.json');
  await writeFile(request, JSON.stringify({ programs: fileStems(requests) }));
  const flags = compare ? [] : ['--no-compare'];
  await runPython(options, ['--request', request, '--out', folder, ...flags]);
  const text = await readFile(join(folder, 'manifest.json'), 'utf8');
  const { programs } = JSON.parse(text) as ProgramManifest;
  await Promise.all([rm(request), rm(join(folder, 'manifest.json'))]);
  return Promise.all(programs.map((program) => compressProgram(folder, program)));
}

async function compressProgram(folder: string, program: ExportedProgram): Promise<ExportedProgram> {
  const plain = join(folder, program.file);
  const bytes = await readFile(plain);
  const packed = await compress(bytes, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
      [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS,
      [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
    },
  });
  const file = `${program.file}.br`;
  await writeFile(join(folder, file), packed);
  await rm(plain);
  return { ...program, file };
}

async function writeManifest(folder: string, programs: ExportedProgram[]): Promise<void> {
  const manifest: ProgramManifest = { version: 1, programs };
  await writeFile(join(folder, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
}

async function replaceFolder(from: string, to: string, aside: string): Promise<void> {
  if (existsSync(to)) await rename(to, aside).catch(ignoreMissing);
  try {
    await rename(from, to);
  } catch (error) {
    // Another process was quicker with the same architecture: its programs are as good.
    if (!existsSync(join(to, 'manifest.json'))) throw error;
  }
}

function ignoreMissing(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
}

/** Names come from folders and become file names. */
function fileStems(requests: readonly ExportRequest[]): ExportRequest[] {
  const taken = new Set<string>();
  return requests.map((request) => {
    const safe = request.name.replaceAll(/[^A-Za-z0-9_-]+/g, '-');
    const name = safe === '' || taken.has(safe) ? `${safe}-${request.key}` : safe;
    taken.add(name);
    return { ...request, name };
  });
}

async function runPython(options: RunExporterOptions, args: string[]): Promise<void> {
  const { python, onLine = () => {}, signal } = options;
  const script = join(packageRoot, 'scripts', 'export', 'export.py');
  const child = spawn(python, [script, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: exporterEnvironment(),
    ...(signal === undefined ? {} : { signal }),
  });
  const tail: string[] = [];
  const follow = (stream: Readable, keep: boolean) => {
    createInterface({ input: stream }).on('line', (line) => {
      if (keep && tail.push(line) > 40) tail.shift();
      if (!line.startsWith('{"kind":')) onLine(line);
    });
  };
  follow(child.stdout, false);
  follow(child.stderr, true);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  }).catch((error: unknown) => {
    if (signal?.aborted === true) throw signal.reason;
    throw new ExportError(
      `The Python interpreter ${python} could not be started. Name one with --python or ` +
        'TORCHBRUSH_PYTHON; it needs torch, diffusers and transformers.',
      { code: 'ERR_EXPORT_PYTHON', cause: error },
    );
  });
  if (code !== 0) throw exportFailure(python, tail);
}

/** Spinning threads make a shared machine many times slower; the user's own settings win. */
function exporterEnvironment(): NodeJS.ProcessEnv {
  return {
    OMP_WAIT_POLICY: 'passive',
    PYTHONDONTWRITEBYTECODE: '1',
    PYTHONIOENCODING: 'utf-8',
    ...process.env,
  };
}

const codes: Readonly<Record<string, string>> = {
  python: 'ERR_EXPORT_PYTHON',
  packages: 'ERR_EXPORT_PACKAGES',
  unsupported: 'ERR_EXPORT_UNSUPPORTED',
  lint: 'ERR_EXPORT_LINT',
  comparison: 'ERR_EXPORT_COMPARISON',
};

function exportFailure(python: string, tail: readonly string[]): ExportError {
  const { kind, message } = reportedFailure(tail);
  const code = codes[kind] ?? 'ERR_EXPORT_FAILED';
  if (kind !== 'packages') return new ExportError(message, { code });
  const requirements = join(packageRoot, 'scripts', 'export', 'requirements.txt');
  return new ExportError(
    `${message} Install them with: "${python}" -m pip install -r "${requirements}"`,
    { code },
  );
}

/** The exporter's last line says what went wrong; without one its output has to do. */
function reportedFailure(tail: readonly string[]): { kind: string; message: string } {
  const line = tail.findLast((candidate) => candidate.startsWith('{"kind":'));
  if (line !== undefined) return JSON.parse(line) as { kind: string; message: string };
  return { kind: 'failed', message: `The exporter failed:\n${tail.join('\n')}` };
}
