// What the addon's core offers: tensors, operators, programs and networks.

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

/**
 * Where weights are between runs: on the device; on the host, to come as a whole and stay until they
 * are sent away; or on the host, to come part by part as they are used.
 */
export type OffloadMode = 'none' | 'model' | 'sequential';

/**
 * Recorded runs of a network: on the GPU, CUDA graphs. Counts are of the network's whole life but for
 * `held`.
 */
export interface GraphStatus {
  /** Graphs that are there now, one for each set of input shapes. */
  held: number;
  /** Runs that became a graph. */
  recorded: number;
  /** Runs that were a graph's. */
  replayed: number;
  /** Runs without a graph. */
  eager: number;
  /** Why the last recording failed; empty where none did. */
  fault: string;
}

export interface NativeNetwork {
  /** `null` where an optional input is absent. */
  run(
    inputs: (NativeTensor | null)[],
    outputs: readonly number[],
    names: readonly string[],
  ): Promise<NativeTensor[]>;
  /** A run whose results are thrown away: what its operators took, by name. */
  profile(inputs: (NativeTensor | null)[], outputs: readonly number[]): Promise<OperatorTime[]>;
  /** How often each operator occurs in a run with the given inputs. */
  operators(given: readonly boolean[], outputs: readonly number[]): Record<string, number>;
  updateWeights(updates: readonly WeightUpdate[]): Promise<void>;
  replaceRows(parameter: string, first: number, rows: NativeTensor): Promise<void>;
  setOffload(mode: OffloadMode): Promise<void>;
  /** Weights that are offloaded go from the device until they are needed again. */
  leave(): Promise<void>;
  /**
   * At most so many graphs from now on; 0 only lets convolutions try their algorithms. False where
   * nothing can be recorded.
   */
  useGraphs(limit: number): Promise<boolean>;
  graphStatus(): GraphStatus;
  dispose(): void;
}

/** A network that brings its own code; see `lib/networks/foreign.ts`. */
export interface NativeForeign {
  /** `outputs` is null where they have names; `metadata` is what an exporter wrote down. */
  signature(entry: string): {
    inputs: { name: string; optional: boolean }[];
    outputs: number | null;
    metadata: string;
  };
  fill(entry: string, placements: readonly Placement[], dtype: string): Promise<void>;
  /** The named outputs; `order` has the names of those that have none of their own. */
  run(
    entry: string,
    inputs: (NativeTensor | null)[],
    outputs: readonly string[],
    order: readonly string[],
  ): Promise<NativeTensor[]>;
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
    offload: OffloadMode,
    isSimulated: boolean,
  ): Promise<NativeNetwork>;
  loadScript(
    path: string,
    device: string,
    dtype: string,
    entries: readonly string[],
  ): Promise<NativeForeign>;
  loadPackage(path: string, device: string, entries: readonly string[]): Promise<NativeForeign>;
  cudaCount(): number;
  /** Runs a kernel on a GPU; why it could not, unless it could. */
  probeCuda(index: number): string | undefined;
  /** 80 for compute capability 8.0; 0 without a CUDA companion, and for GPUs that are too old for it. */
  cudaCapability(device: string): number;
  /** Bytes on a GPU at most: of tensors, and of what the allocator took for them. Not for the CPU. */
  peakMemory(device: string): { allocated: number; reserved: number };
  threads(count?: number): number;
  cpuCapability(): string;
  counts(): NativeCounts;
  /** For tests: weights beyond so many bytes find no memory there. */
  limitWeights(place: string, bytes: number | null): void;
  stop(): void;
}

export type NativeCounts = Record<
  'tensors' | 'tensorBytes' | 'programs' | 'networks' | 'generators',
  number
> & {
  /** Bytes of weights by device, now and at most. */
  weightBytes: Record<string, number>;
  mostWeightBytes: Record<string, number>;
};
