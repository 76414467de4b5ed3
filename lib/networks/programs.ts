// Finds the program of an architecture: among those the user exported, then among the bundled ones.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { readJsonObject } from '../checkpoints/json.js';
import type { Core, NativeProgram } from '../core.js';
import { ProgramNotFoundError, TorchbrushError } from '../errors.js';
import { callAsync, native } from '../native.js';
import { packageRoot } from '../package-root.js';
import type { Architecture } from './architecture.js';

/** An entry of a manifest: one traced function of one architecture. */
export interface ProgramRecord {
  name: string;
  className: string;
  key: string;
  entry: string;
  file: string;
  sha256: string;
  bytes: number;
  inputs: string[];
  /** Those of the inputs that a run may leave out: what they are added to then stays as it is. */
  optionalInputs: string[];
  outputs: string[];
}

export interface LoadedProgram {
  record: ProgramRecord;
  native: NativeProgram;
}

async function decompress(stored: Buffer): Promise<Buffer> {
  const { brotliDecompress } = await import('node:zlib');
  return promisify(brotliDecompress)(stored);
}

/** Where `torchbrush export` puts programs: `TORCHBRUSH_PROGRAMS`, or the per-user cache folder. */
export function programCacheFolder(): string {
  const named = process.env.TORCHBRUSH_PROGRAMS;
  if (named !== undefined && named !== '') return named;
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  return join(cache, 'torchbrush', 'programs');
}

export const bundledProgramFolder = join(packageRoot, 'programs');

/** The records of an architecture and the folder they lie in; undefined where none is known. */
export async function findProgramRecords(
  key: string,
): Promise<{ folder: string; records: ProgramRecord[] } | undefined> {
  for (const folder of [join(programCacheFolder(), key), bundledProgramFolder]) {
    const manifest = join(folder, 'manifest.json');
    if (!existsSync(manifest)) continue;
    const { programs } = await readJsonObject(manifest);
    const records = (Array.isArray(programs) ? (programs as unknown[]) : [])
      .filter((entry): entry is WrittenRecord => isRecord(entry) && entry.key === key)
      // Programs exported before there were optional inputs have none.
      .map((entry) => ({ ...entry, optionalInputs: entry.optionalInputs ?? [] }));
    if (records.length > 0) return { folder, records };
  }
  return undefined;
}

type WrittenRecord = Omit<ProgramRecord, 'optionalInputs'> & { optionalInputs?: string[] };

/** Whether an entry of a manifest has what is read of it here. */
function isRecord(entry: unknown): entry is WrittenRecord {
  if (typeof entry !== 'object' || entry === null) return false;
  const record = entry as Partial<ProgramRecord>;
  const { key, entry: name, file, sha256, inputs, optionalInputs = [], outputs } = record;
  const texts = [key, name, file, sha256].every((value) => typeof value === 'string');
  return texts && [inputs, optionalInputs, outputs].every(Array.isArray);
}

// A program belongs to no checkpoint: all networks of an architecture share it.
const loaded = new Map<string, Promise<NativeProgram>>();
let loadedBy: Core | undefined;

/**
 * The programs of an architecture, by entry (`forward`, `encode`, `decode`).
 *
 * @param origin What is being loaded, for the message.
 * @throws ProgramNotFoundError `ERR_PROGRAM_NOT_FOUND` with the command that makes one
 */
export async function loadPrograms(
  architecture: Architecture,
  origin: string,
): Promise<Map<string, LoadedProgram>> {
  const found = await findProgramRecords(architecture.key);
  if (found === undefined) {
    throw new ProgramNotFoundError(
      `There is no program for the ${architecture.className} of ${origin} (architecture ${architecture.key}). Make one, once, with a Python that has torch and diffusers: npx torchbrush export "${origin}"`,
    );
  }
  const programs = new Map<string, LoadedProgram>();
  for (const record of found.records) {
    const file = join(found.folder, record.file);
    programs.set(record.entry, { record, native: await loadProgram(file, record) });
  }
  return programs;
}

function loadProgram(file: string, record: ProgramRecord): Promise<NativeProgram> {
  if (loadedBy !== native()) loaded.clear();
  loadedBy = native();
  const known = loaded.get(record.sha256);
  if (known !== undefined) return known;
  const program = readProgram(file, record);
  loaded.set(record.sha256, program);
  program.catch(() => loaded.delete(record.sha256));
  return program;
}

async function readProgram(file: string, record: ProgramRecord): Promise<NativeProgram> {
  const bytes = await readFile(file)
    .then((stored) => (file.endsWith('.br') ? decompress(stored) : stored))
    .catch((cause: unknown) => {
      throw damaged(file, 'is missing or cannot be unpacked', cause);
    });
  // Loading a program runs it in parts: only what the manifest vouches for is loaded.
  if (createHash('sha256').update(bytes).digest('hex') !== record.sha256) {
    throw damaged(file, 'is not the one its manifest describes');
  }
  const optional = record.optionalInputs.map((name) => record.inputs.indexOf(name));
  if (optional.includes(-1)) throw damaged(file, 'has no such inputs as its manifest describes');
  return callAsync((core) => core.loadProgram(bytes, optional));
}

function damaged(file: string, problem: string, cause?: unknown): TorchbrushError {
  return new TorchbrushError(
    `The program ${file} ${problem}. Reinstall torchbrush, or export it again with "npx torchbrush export --force".`,
    { code: 'ERR_PROGRAM', cause },
  );
}
