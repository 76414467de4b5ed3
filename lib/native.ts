// The addon's loading, and how it is called: importing this file touches no libtorch; the first use does.
import { join } from 'node:path';

import { corePath, loadBootstrap, notFound, openCuda, openLibtorch } from './bootstrap.js';
import { checkBoolean, checkInteger, checkKnownOptions } from './checks.js';
import type { Core } from './core.js';
import { expected, fromNative, InvalidArgumentError } from './errors.js';
import { findLibtorch, type Libtorch } from './libtorch.js';

export interface LoadedLibtorch extends Libtorch {
  /** Full version, `2.13.0`. */
  version: string;
  core: string;
  /** Why its CUDA part could not be opened; undefined where it was, or where there is none. */
  cudaProblem: string | undefined;
}

/** Options of `configure`. */
export interface ConfigureOptions {
  /** Folder of a libtorch (it holds `lib/libtorch_cpu.so`), or of a Python's `torch` package. */
  libtorch?: string;
  /** Threads that one operator may use on the CPU, 1 or more; libtorch's own choice unless given. */
  threads?: number;
  /**
   * Whether generations that wait for the same network at the same time go through it as one batch;
   * true unless given. Without it a picture is the same to the last bit whoever else draws.
   */
  batching?: boolean;
}

let configured: ConfigureOptions = {};
let loaded: { core: Core; libtorch: LoadedLibtorch } | undefined;
const cudaProbes = new Map<number, boolean>();

/**
 * Settings that hold for the process (for the worker, in a worker). `libtorch` must be given before
 * anything touches libtorch.
 *
 * @throws InvalidArgumentError, for `libtorch` also when one is loaded already.
 */
export function configure(options: ConfigureOptions): void {
  checkKnownOptions(options, ['libtorch', 'threads', 'batching'], 'configure');
  const { libtorch, threads, batching } = options;
  if (libtorch !== undefined && typeof libtorch !== 'string') {
    throw expected('a folder', 'libtorch', libtorch);
  }
  if (threads !== undefined) checkInteger(threads, 'threads', 1);
  checkBoolean(batching, 'batching');
  if (loaded !== undefined && libtorch !== undefined) {
    throw new InvalidArgumentError(
      `libtorch is loaded already, from ${loaded.libtorch.folder}. Call configure({ libtorch }) before anything else.`,
    );
  }
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  configured = { ...configured, ...Object.fromEntries(given) };
  if (threads !== undefined) loaded?.core.threads(threads);
}

export function isBatching(): boolean {
  return configured.batching ?? true;
}

/** The core, loaded at the first call. @throws LibtorchNotFoundError with the commands that fix it. */
export function native(): Core {
  loaded ??= load();
  return loaded.core;
}

/** What was loaded, and from where; loads it if need be. */
export function libtorchInUse(): LoadedLibtorch {
  loaded ??= load();
  return loaded.libtorch;
}

/** Whether a kernel runs on a GPU; its driver may answer for one that libtorch has no kernels for. */
export function isCudaUsable(index: number): boolean {
  let usable = cudaProbes.get(index);
  if (usable === undefined) {
    usable = native().probeCuda(index) === undefined;
    cudaProbes.set(index, usable);
  }
  return usable;
}

/** Runs native code; its errors come out as TorchbrushError. */
export function call<Result>(body: (core: Core) => Result): Result {
  const core = native();
  try {
    return body(core);
  } catch (error) {
    throw fromNative(error);
  }
}

/** The same for promises. */
export async function callAsync<Result>(body: (core: Core) => Promise<Result>): Promise<Result> {
  const core = native();
  try {
    return await body(core);
  } catch (error) {
    throw fromNative(error);
  }
}

function load(): { core: Core; libtorch: LoadedLibtorch } {
  const bootstrap = loadBootstrap();
  const { found, tried } = findLibtorch(configured.libtorch);
  if (found === undefined) throw notFound(tried);
  try {
    const lib = join(found.folder, 'lib');
    const version = openLibtorch(bootstrap, lib, found);
    const cudaProblem = openCuda(bootstrap, lib);
    const path = corePath(bootstrap.folder, version, found);
    const core = bootstrap.loadCore(path);
    if (configured.threads !== undefined) core.threads(configured.threads);
    // Without this, leaving the process in the middle of a forward pass crashes it.
    process.on('exit', () => core.stop());
    return { core, libtorch: { ...found, version, core: path, cudaProblem } };
  } catch (error) {
    throw fromNative(error);
  }
}
