// A loaded network: its programs, filled with a checkpoint's weights, on one device in one dtype.
import { join } from 'node:path';

import { type JsonObject, readJsonObject } from '../checkpoints/json.js';
import type { StoredTensor } from '../checkpoints/stored-tensor.js';
import { readWeights } from '../checkpoints/weights.js';
import { DisposedError, TorchbrushError } from '../errors.js';
import {
  callAsync,
  type GraphStatus,
  isBatching,
  type NativeNetwork,
  type NativeTensor,
  type OffloadMode,
  type OperatorTime,
  type WeightUpdate,
} from '../native.js';
import { type DType, Tensor } from '../tensor.js';
import { Batching } from './batching.js';
import { checkComponentConfig, checkFigures, readComponentConfig } from './component-config.js';
import { loadForeign } from './foreign.js';
import { sumOfGraphs, warnOfFault } from './graphs.js';
import { isSimulatingAccelerator, Residence } from './offload.js';
import { place } from './place.js';
import { type LoadedProgram, loadPrograms } from './programs.js';

export interface LoadNetworkOptions {
  /** Format of weights and results, whatever the files have; not float16 on the CPU. */
  dtype: DType;
  /** `'cpu'` or `'cuda:0'`; not `'auto'`. */
  device: string;
  /** Takes the weight files of a variant, such as `'fp16'`, where there are some. */
  variant?: string | undefined;
  /** Where the weights are between runs; `'none'`, on the device, unless given. */
  offload?: OffloadMode | undefined;
  /** Whether code in the folder may run; see `loadForeign`. */
  trustTorchScript?: boolean | undefined;
}

/** All that a network is made of. */
export interface NetworkSource {
  className: string;
  /** As a config.json has it, snake_case. */
  config: JsonObject;
  /** Under today's names. */
  tensors: Map<string, StoredTensor>;
  /** The folder or file it comes from, for messages. */
  origin: string;
}

interface EntryParts {
  native: NativeNetwork;
  residence: Residence;
  /** Called after each run. */
  afterRun?: (() => void) | undefined;
  inputs: readonly string[];
  optionalInputs: ReadonlySet<string>;
  /** Undefined where only a run shows their names. */
  outputs: readonly string[] | undefined;
  /** Shapes of the parameters, by name. */
  parameters: ReadonlyMap<string, readonly number[]>;
}

interface Entry extends EntryParts {
  /** Runs that wait to go through together. */
  batching: Batching;
}

/**
 * Networks are shared between pipelines and counted: `retain()` before keeping one, `dispose()` when
 * done; the weights go with the last holder.
 */
export class Network {
  readonly className: string;
  /** The parsed config.json, snake_case. */
  readonly config: Readonly<JsonObject>;
  readonly dtype: DType;
  readonly device: string;
  /** @internal Where the weights are. */
  readonly residence: Residence;
  readonly #entries: Map<string, Entry>;
  /** Rows of the tables that have more than the checkpoint's, by parameter. */
  readonly #lengths = new Map<string, number>();
  #holders = 1;

  private constructor(
    className: string,
    config: JsonObject,
    options: LoadNetworkOptions,
    entries: Map<string, Entry>,
    residence: Residence,
  ) {
    this.className = className;
    this.config = Object.freeze(config);
    this.dtype = options.dtype;
    this.device = options.device;
    this.#entries = entries;
    this.residence = residence;
  }

  /**
   * Loads `config.json` and the weights of a component folder.
   *
   * @throws CheckpointError, ProgramNotFoundError, UntrustedFileError
   */
  static async load(
    folder: string,
    className: string,
    options: LoadNetworkOptions,
  ): Promise<Network> {
    const own = await Network.#loadForeign(folder, className, options);
    if (own !== undefined) return own;
    const { config, architecture } = await readComponentConfig(folder, className);
    const programs = await loadPrograms(architecture, folder);
    const { tensors, isVariant } = await readWeights(folder, className, options.variant);
    if (!isVariant && options.variant !== undefined) {
      process.emitWarning(
        `${folder} has no variant '${options.variant}': its plain files are used.`,
        { code: 'TORCHBRUSH_NO_VARIANT' },
      );
    }
    const source = { className, config, tensors, origin: folder };
    return await Network.#fill(programs, source, options);
  }

  /**
   * Makes a network of a configuration and of tensors that have been found already.
   *
   * @throws CheckpointError, ProgramNotFoundError
   */
  static async fromWeights(source: NetworkSource, options: LoadNetworkOptions): Promise<Network> {
    const { origin, className, config } = source;
    const { architecture } = checkComponentConfig(origin, className, config);
    return await Network.#fill(await loadPrograms(architecture, origin), source, options);
  }

  static async #loadForeign(
    folder: string,
    className: string,
    options: LoadNetworkOptions,
  ): Promise<Network | undefined> {
    const path = join(folder, 'config.json');
    const loaded = await loadForeign(folder, className, options);
    if (loaded === undefined) return undefined;
    const natives = loaded.map(({ native }) => native);
    const residence = new Residence(() => natives, 'none');
    try {
      const config = await readJsonObject(path);
      checkFigures(path, config);
      const entries = loaded.map(({ name, ...parts }): [string, Entry] => {
        return [name, withBatching({ ...parts, residence, parameters: new Map() })];
      });
      return new Network(className, config, options, new Map(entries), residence);
    } catch (error) {
      for (const native of natives) native.dispose();
      throw error;
    }
  }

  static async #fill(
    programs: Map<string, LoadedProgram>,
    { className, config, tensors, origin }: NetworkSource,
    options: LoadNetworkOptions,
  ): Promise<Network> {
    const placements = place(programs, tensors, className, origin);
    const entries = new Map<string, Entry>();
    const { device, dtype, offload = 'none' } = options;
    const natives = () => [...entries.values()].map(({ native }) => native);
    const residence = new Residence(natives, offload);
    try {
      for (const [name, { record, native }] of programs) {
        const filled = placements.get(name) ?? [];
        const network = await callAsync((core) =>
          core.createNetwork(native, filled, device, dtype, offload, isSimulatingAccelerator()),
        );
        const parameters = new Map(native.parameters.map(({ name, shape }) => [name, shape]));
        const { inputs, outputs } = record;
        const optionalInputs = new Set(record.optionalInputs);
        const entry: EntryParts = {
          native: network,
          residence,
          inputs,
          optionalInputs,
          outputs,
          parameters,
        };
        entries.set(name, withBatching(entry));
      }
    } catch (error) {
      for (const entry of entries.values()) entry.native.dispose();
      throw error;
    }
    return new Network(className, config, options, entries, residence);
  }

  /** The names of the inputs that an entry takes, those included that it can do without. */
  inputsOf(entry: string): readonly string[] {
    return this.#entry(entry).inputs;
  }

  /** The names of an entry's outputs. */
  outputsOf(entry: string): readonly string[] {
    return this.#entry(entry).outputs ?? [];
  }

  /**
   * Runs an entry and gives the named outputs, which the caller disposes. Operators that no named
   * output needs are left out, and so is what an absent optional input would be added to.
   */
  async run(
    entry: string,
    inputs: Readonly<Record<string, Tensor>>,
    outputs: readonly string[],
  ): Promise<Tensor[]> {
    const program = this.#entry(entry);
    this.#check(program, inputs, outputs);
    return await pass(program, inputs, outputs);
  }

  /**
   * As `run`, for entries whose inputs and outputs all have the batch in front: [B,…], or [1,…] for one
   * row that holds for the whole batch. Runs that wait at the same time go through as one batch, so the
   * last bits of the results may depend on who else waits.
   */
  async runTogether(
    entry: string,
    inputs: Readonly<Record<string, Tensor>>,
    outputs: readonly string[],
  ): Promise<Tensor[]> {
    if (!isBatching()) return await this.run(entry, inputs, outputs);
    const program = this.#entry(entry);
    this.#check(program, inputs, outputs);
    return await program.batching.run(inputs, outputs);
  }

  /** Runs an entry for its time alone: what its operators took, the longest first. */
  async profile(
    entry: string,
    inputs: Readonly<Record<string, Tensor>>,
    outputs: readonly string[],
  ): Promise<OperatorTime[]> {
    const program = this.#entry(entry);
    this.#check(program, inputs, outputs);
    const wanted = places(program, outputs);
    const times = await callAsync(() => {
      program.residence.beforeRun();
      return program.native.profile(handles(program, inputs), wanted);
    });
    return times.sort((a, b) => b.seconds - a.seconds);
  }

  /** How often each operator occurs in a run with the named inputs; for tests and inspection. */
  operators(
    entry: string,
    inputs: readonly string[],
    outputs: readonly string[],
  ): Record<string, number> {
    const program = this.#entry(entry);
    const given = program.inputs.map((name) => inputs.includes(name));
    this.#checkOutputs(program, outputs);
    return program.native.operators(given, places(program, outputs));
  }

  #entry(name: string): Entry {
    if (this.#holders === 0) throw new DisposedError(`The ${this.className} has been disposed.`);
    const entry = this.#entries.get(name);
    if (entry === undefined) throw this.#mismatch(`has no program "${name}"`);
    return entry;
  }

  #check(entry: Entry, inputs: Readonly<Record<string, Tensor>>, outputs: readonly string[]): void {
    const unknown = Object.keys(inputs).find((name) => !entry.inputs.includes(name));
    if (unknown !== undefined) throw this.#mismatch(`has no input ${unknown}`);
    const missing = entry.inputs.find(
      (name) => inputs[name] === undefined && !entry.optionalInputs.has(name),
    );
    if (missing !== undefined) throw this.#mismatch(`needs the input ${missing}`);
    this.#checkOutputs(entry, outputs);
  }

  #checkOutputs(entry: Entry, outputs: readonly string[]): void {
    const unknown = outputs.find((name) => entry.outputs?.includes(name) === false);
    if (unknown !== undefined) throw this.#mismatch(`has no output ${unknown}`);
  }

  #mismatch(problem: string): TorchbrushError {
    return new TorchbrushError(`The ${this.className} ${problem}.`, { code: 'ERR_PROGRAM' });
  }

  get disposed(): boolean {
    return this.#holders === 0;
  }

  /** Shapes of all parameters, by name. */
  get parameters(): ReadonlyMap<string, readonly number[]> {
    return new Map([...this.#entries.values()].flatMap(({ parameters }) => [...parameters]));
  }

  /** How many rows a parameter has now: those that `replaceRows` added count from its call on. */
  rowsOf(parameter: string): number | undefined {
    return this.#lengths.get(parameter) ?? this.parameters.get(parameter)?.[0];
  }

  /**
   * Changes parameters, starting from the checkpoint's own values. Takes its turn among the runs:
   * those asked for before still see the old weights, later ones the new. When it fails, the named
   * parameters are the checkpoint's again.
   *
   * @throws CheckpointError when a factor's file is gone or the checkpoint's has changed
   */
  async updateWeights(updates: readonly WeightUpdate[]): Promise<void> {
    for (const { parameter } of updates) this.#lengths.delete(parameter);
    await this.#change(({ native, parameters }) => {
      const own = updates.filter(({ parameter }) => parameters.has(parameter));
      return own.length > 0 ? native.updateWeights(own) : undefined;
    });
  }

  /**
   * The checkpoint's table with `rows` [N,D] from row `first` on, longer if need be. Otherwise as
   * `updateWeights`, which also takes this back.
   */
  async replaceRows(parameter: string, first: number, rows: Tensor): Promise<void> {
    const [count = 0] = rows.shape;
    const base = this.parameters.get(parameter)?.[0] ?? 0;
    this.#lengths.set(parameter, Math.max(base, first + count));
    try {
      await this.#change(({ native, parameters }) =>
        parameters.has(parameter) ? native.replaceRows(parameter, first, rows.native) : undefined,
      );
    } catch (error) {
      this.#lengths.delete(parameter);
      throw error;
    }
  }

  /** The same change in every program, with no run in between. */
  async #change(change: (entry: Entry) => Promise<void> | undefined): Promise<void> {
    if (this.#holders === 0) throw new DisposedError(`The ${this.className} has been disposed.`);
    const changes = [...this.#entries.values()].map((entry) => {
      entry.batching.flush();
      return callAsync(async () => change(entry));
    });
    const failed = (await Promise.allSettled(changes)).find(({ status }) => status === 'rejected');
    if (failed?.status === 'rejected') throw failed.reason;
  }

  /**
   * Runs of the same shapes are recorded from now on, where the device can: at most `limit` sets of
   * shapes for each program. Nothing happens at a second call.
   *
   * @returns whether the device can
   */
  async useGraphs(limit: number): Promise<boolean> {
    if (this.#holders === 0) throw new DisposedError(`The ${this.className} has been disposed.`);
    const entries = [...this.#entries.values()];
    for (const entry of entries) {
      if (!(await callAsync(() => entry.native.useGraphs(limit)))) return false;
      entry.afterRun ??= warnOfFault(this.className, entry.native);
    }
    return true;
  }

  /** What became of the runs since `useGraphs`, of all programs together. */
  get graphs(): GraphStatus {
    if (this.#holders === 0) throw new DisposedError(`The ${this.className} has been disposed.`);
    return sumOfGraphs([...this.#entries.values()].map(({ native }) => native.graphStatus()));
  }

  retain(): void {
    if (this.#holders === 0) throw new DisposedError(`The ${this.className} has been disposed.`);
    this.#holders += 1;
  }

  dispose(): void {
    if (this.#holders === 0) return;
    this.#holders -= 1;
    if (this.#holders > 0) return;
    for (const { native, batching } of this.#entries.values()) {
      batching.flush();
      native.dispose();
    }
    this.#entries.clear();
  }
}

function withBatching(entry: EntryParts): Entry {
  const batching = new Batching((given, wanted) => pass(entry, given, wanted));
  // The same object: what is called after each run is known later.
  return Object.assign(entry, { batching });
}

/** One pass, as soon as those before it are done. */
async function pass(
  entry: EntryParts,
  inputs: Readonly<Record<string, Tensor>>,
  outputs: readonly string[],
): Promise<Tensor[]> {
  const results = await callAsync(() => {
    entry.residence.beforeRun();
    return entry.native.run(handles(entry, inputs), places(entry, outputs), outputs);
  });
  entry.afterRun?.();
  return results.map((native) => new Tensor(native));
}

function handles(
  entry: EntryParts,
  inputs: Readonly<Record<string, Tensor>>,
): (NativeTensor | null)[] {
  return entry.inputs.map((name) => inputs[name]?.native ?? null);
}

function places(entry: EntryParts, outputs: readonly string[]): number[] {
  return outputs.map((name) => entry.outputs?.indexOf(name) ?? -1);
}
