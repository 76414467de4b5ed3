// A loaded network: its programs, filled with a checkpoint's weights, on one device in one dtype.
import type { JsonObject } from '../checkpoints/json.js';
import type { GraphStatus, OperatorTime, WeightUpdate } from '../core.js';
import { DisposedError } from '../errors.js';
import type { DType, Tensor } from '../tensor.js';
import type { Inputs } from './batching.js';
import { type Entry, mismatch } from './entry.js';
import { sumOfGraphs } from './graphs.js';
import {
  fillEntries,
  type LoadedEntries,
  type LoadNetworkOptions,
  loadEntries,
  type NetworkSource,
} from './load-entries.js';
import type { Residence } from './offload.js';

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
    { config, entries, residence }: LoadedEntries,
    { dtype, device }: LoadNetworkOptions,
  ) {
    this.className = className;
    this.config = Object.freeze(config);
    this.dtype = dtype;
    this.device = device;
    this.residence = residence;
    this.#entries = entries;
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
    const loaded = await loadEntries(folder, className, options);
    return new Network(className, loaded, options);
  }

  /**
   * Makes a network of a configuration and of tensors that have been found already.
   *
   * @throws CheckpointError, ProgramNotFoundError
   */
  static async fromWeights(source: NetworkSource, options: LoadNetworkOptions): Promise<Network> {
    return new Network(source.className, await fillEntries(source, options), options);
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
  async run(entry: string, inputs: Inputs, outputs: readonly string[]): Promise<Tensor[]> {
    return await this.#entry(entry).run(inputs, outputs);
  }

  /**
   * As `run`, for entries whose inputs and outputs all have the batch in front: [B,…], or [1,…] for one
   * row that holds for the whole batch. Runs that wait at the same time go through as one batch, so the
   * last bits of the results may depend on who else waits.
   */
  async runTogether(entry: string, inputs: Inputs, outputs: readonly string[]): Promise<Tensor[]> {
    return await this.#entry(entry).runTogether(inputs, outputs);
  }

  /** Runs an entry for its time alone: what its operators took, the longest first. */
  async profile(
    entry: string,
    inputs: Inputs,
    outputs: readonly string[],
  ): Promise<OperatorTime[]> {
    return await this.#entry(entry).profile(inputs, outputs);
  }

  /** How often each operator occurs in a run with the named inputs; for tests and inspection. */
  operators(
    entry: string,
    inputs: readonly string[],
    outputs: readonly string[],
  ): Record<string, number> {
    return this.#entry(entry).operators(inputs, outputs);
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
    await this.#change((entry) => entry.updateWeights(updates));
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
      await this.#change((entry) => entry.replaceRows(parameter, first, rows));
    } catch (error) {
      this.#lengths.delete(parameter);
      throw error;
    }
  }

  /**
   * Runs of the same shapes are recorded from now on, where the device can: at most `limit` sets of
   * shapes for each program. Nothing happens at a second call.
   *
   * @returns whether the device can
   */
  async useGraphs(limit: number): Promise<boolean> {
    for (const entry of [...this.#held().values()]) {
      if (!(await entry.useGraphs(limit))) return false;
    }
    return true;
  }

  /** What became of the runs since `useGraphs`, of all programs together. */
  get graphs(): GraphStatus {
    return sumOfGraphs([...this.#held().values()].map(({ graphs }) => graphs));
  }

  retain(): void {
    this.#held();
    this.#holders += 1;
  }

  dispose(): void {
    if (this.#holders === 0) return;
    this.#holders -= 1;
    if (this.#holders > 0) return;
    for (const entry of this.#entries.values()) entry.dispose();
    this.#entries.clear();
  }

  /** The same change in every program, with no run in between. */
  async #change(change: (entry: Entry) => Promise<void>): Promise<void> {
    const changes = [...this.#held().values()].map(change);
    const failed = (await Promise.allSettled(changes)).find(({ status }) => status === 'rejected');
    if (failed?.status === 'rejected') throw failed.reason;
  }

  #entry(name: string): Entry {
    const entry = this.#held().get(name);
    if (entry === undefined) throw mismatch(this.className, `has no program "${name}"`);
    return entry;
  }

  #held(): Map<string, Entry> {
    if (this.#holders === 0) throw new DisposedError(`The ${this.className} has been disposed.`);
    return this.#entries;
  }
}
