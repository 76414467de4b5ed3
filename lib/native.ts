// The only importer of the addon. Importing this file touches no libtorch; the first use does.
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { fromNative, InvalidArgumentError, LibtorchNotFoundError } from './errors.js';
import { findLibtorch, type Libtorch } from './libtorch.js';
import { packageRoot } from './package-root.js';

/** A libtorch tensor; `lib/tensor.ts` wraps it. */
export interface NativeTensor {
  readonly shape: number[];
  readonly dtype: string;
  readonly device: string;
  readonly disposed: boolean;
  view(): ArrayBuffer;
  alias(): NativeTensor;
  toHost(dtype: string): Promise<ArrayBuffer>;
  dispose(): void;
}

export interface NativeGenerator {
  seed(seed: bigint): void;
  getState(): NativeTensor;
  setState(state: NativeTensor): void;
}

export interface NativeProgram {
  readonly parameters: { name: string; shape: number[] }[];
  readonly inputCount: number;
  readonly outputCount: number;
  readonly operators: Record<string, number>;
}

/**
 * Where a tensor's values lie: bytes from the file's start, the dtype on disk, and strides in elements
 * unless the values lie in a row.
 */
export interface StoredValues {
  file: string;
  offset: number;
  dtype: string;
  shape: readonly number[];
  strides?: readonly number[] | undefined;
}

export interface Placement extends StoredValues {
  parameter: string;
}

/**
 * scale · up · down, where up is [O,R] and down [R,…] in the weight's own shape. With a `middle`
 * [R,S,h,w], down is [S,I]: three convolutions in a row.
 */
export interface LowRankTerm {
  up: StoredValues;
  down: StoredValues;
  middle?: StoredValues | undefined;
  scale: number;
}

/** The checkpoint's weight plus the terms, summed in float32; without terms, its own bits. */
export interface WeightUpdate {
  parameter: string;
  terms: readonly LowRankTerm[];
}

/** What all runs of an operator in one run of a network took together. */
export interface OperatorTime {
  /** `'aten::conv2d'` */
  name: string;
  count: number;
  seconds: number;
}

/** Recorded runs of a network: on the GPU, CUDA graphs. Counts are of the network's whole life but for `held`. */
export interface GraphStatus {
  /** Graphs that are there now, one for each set of input shapes. */
  held: number;
  recorded: number;
  replayed: number;
  /** Runs without a graph. */
  eager: number;
  /** Why the last recording failed; empty where none did. */
  fault: string;
}

export interface NativeNetwork {
  /** `null` where an optional input is absent. */
  run(inputs: (NativeTensor | null)[], outputs: readonly number[]): Promise<NativeTensor[]>;
  /** A run whose results are thrown away: what its operators took, by name. */
  profile(inputs: (NativeTensor | null)[], outputs: readonly number[]): Promise<OperatorTime[]>;
  /** How often each operator occurs in a run with the given inputs. */
  operators(given: readonly boolean[], outputs: readonly number[]): Record<string, number>;
  updateWeights(updates: readonly WeightUpdate[]): Promise<void>;
  replaceRows(parameter: string, first: number, rows: NativeTensor): Promise<void>;
  /** At most so many graphs from now on; 0 only lets convolutions try their algorithms. False where nothing can be recorded. */
  useGraphs(limit: number): Promise<boolean>;
  graphStatus(): GraphStatus;
  dispose(): void;
}

/** What an operator takes and gives; the native side checks against the operator's schema. */
export type OperatorArgument =
  | NativeTensor
  | NativeTensor[]
  | readonly number[]
  | number
  | boolean
  | string
  | null
  | undefined;

export interface Core {
  fromBuffer(
    buffer: ArrayBuffer,
    offset: number,
    shape: readonly number[],
    dtype: string,
  ): NativeTensor;
  operator(name: string, overload: string): (...values: OperatorArgument[]) => unknown;
  linearCombination(
    coefficients: readonly number[],
    tensors: NativeTensor[],
    dtype?: string,
  ): NativeTensor;
  randn(shape: readonly number[], generator: NativeGenerator, dtype: string): NativeTensor;
  NativeGenerator: new (seed: bigint) => NativeGenerator;
  loadProgram(bytes: Uint8Array, optionalInputs: readonly number[]): Promise<NativeProgram>;
  createNetwork(
    program: NativeProgram,
    placements: Placement[],
    device: string,
    dtype: string,
  ): Promise<NativeNetwork>;
  cudaCount(): number;
  /** 80 for compute capability 8.0; 0 without a CUDA companion, and for GPUs that are too old for it. */
  cudaCapability(device: string): number;
  threads(count?: number): number;
  cpuCapability(): string;
  counts(): Record<'tensors' | 'tensorBytes' | 'programs' | 'networks' | 'generators', number>;
  stop(): void;
}

interface Bootstrap {
  folder: string;
  openLibtorch(folder: string, withCuda: boolean): string;
  loadCore(path: string): Core;
}

export interface LoadedLibtorch extends Libtorch {
  /** Full version, `2.13.0`. */
  version: string;
  core: string;
}

export interface ConfigureOptions {
  /** Folder of a libtorch (it holds `lib/libtorch_cpu.so`), or of a Python's `torch` package. */
  libtorch?: string;
  /** Threads that one operator may use on the CPU; libtorch's own choice unless given. */
  threads?: number;
  /**
   * Whether generations that wait for the same network at the same time go through it as one batch;
   * true unless given. Without it a picture is the same to the last bit whoever else draws.
   */
  batching?: boolean;
}

let configured: ConfigureOptions = {};
let loaded: { core: Core; libtorch: LoadedLibtorch } | undefined;

/**
 * Settings that hold for the process (for the worker, in a worker). `libtorch` must be given before
 * anything touches libtorch.
 *
 * @throws InvalidArgumentError `ERR_INVALID_ARGUMENT` when libtorch is loaded already.
 */
export function configure(options: ConfigureOptions): void {
  if (
    options.threads !== undefined &&
    !(Number.isInteger(options.threads) && options.threads > 0)
  ) {
    throw new InvalidArgumentError(
      `Expected a positive whole number for threads but received ${String(options.threads)}.`,
    );
  }
  if (loaded !== undefined && options.libtorch !== undefined) {
    throw new InvalidArgumentError(
      `libtorch is loaded already, from ${loaded.libtorch.folder}. Call configure({ libtorch }) before anything else.`,
    );
  }
  configured = { ...configured, ...options };
  if (options.threads !== undefined) loaded?.core.threads(options.threads);
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
    const withCuda = existsSync(join(found.folder, 'lib', 'libtorch_cuda.so'));
    const version = bootstrap.openLibtorch(join(found.folder, 'lib'), withCuda);
    const path = corePath(bootstrap.folder, version, found);
    const core = bootstrap.loadCore(path);
    if (configured.threads !== undefined) core.threads(configured.threads);
    // Without this, leaving the process in the middle of a forward pass crashes it.
    process.on('exit', () => core.stop());
    return { core, libtorch: { ...found, version, core: path } };
  } catch (error) {
    throw fromNative(error);
  }
}

function loadBootstrap(): Bootstrap {
  const require = createRequire(join(packageRoot, 'package.json'));
  try {
    return require('node-gyp-build')(packageRoot) as Bootstrap;
  } catch (cause) {
    throw new LibtorchNotFoundError(
      `torchbrush has no binary for ${process.platform}-${process.arch} here. In a checkout, build it with "npm run build:addon".`,
      { code: 'ERR_ADDON_NOT_FOUND', cause },
    );
  }
}

function corePath(folder: string, version: string, libtorch: Libtorch): string {
  const minor = version.split('.').slice(0, 2).join('.');
  const path = join(folder, `torchbrush-core-${minor}.so`);
  if (existsSync(path)) return path;
  const built = readdirSync(folder)
    .map((name) => /^torchbrush-core-(\d+\.\d+)\.so$/.exec(name)?.[1])
    .filter((name) => name !== undefined);
  throw new LibtorchNotFoundError(
    `The libtorch in ${libtorch.folder} (${libtorch.source}) is version ${version}, and there is no core for ${minor}; there is one for ${built.join(', ') || 'no version'}. Install one of those versions of torch, name another libtorch with TORCHBRUSH_LIBTORCH, or build a core with "npm run build:addon".`,
    { code: 'ERR_LIBTORCH_VERSION' },
  );
}

function notFound(tried: string[]): LibtorchNotFoundError {
  return new LibtorchNotFoundError(
    [
      'libtorch was not found. Looked at:',
      ...tried.map((line) => `  - ${line}`),
      'Do one of these:',
      '  pip install torch==2.13.0                    (into the Python on PATH; any platform)',
      '  export TORCHBRUSH_LIBTORCH=/path/to/libtorch (a folder with lib/libtorch_cpu.so)',
    ].join('\n'),
  );
}
