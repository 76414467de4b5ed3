// One function of a network, such as `encode`: a program with its weights, and the line of runs that
// wait for it.

import type {
  GraphStatus,
  NativeNetwork,
  NativeTensor,
  OperatorTime,
  WeightUpdate,
} from '../core.js';
import { TorchbrushError } from '../errors.js';
import { callAsync, isBatching } from '../native.js';
import { Tensor } from '../tensor.js';
import { Batching, type Inputs } from './batching.js';
import { warnOfFault } from './graphs.js';
import type { Residence } from './offload.js';

export interface EntryParts {
  /** Of the network it belongs to, for messages. */
  className: string;
  native: NativeNetwork;
  residence: Residence;
  inputs: readonly string[];
  optionalInputs: ReadonlySet<string>;
  /** Undefined where only a run shows their names. */
  outputs: readonly string[] | undefined;
  /** Shapes of the parameters, by name. */
  parameters: ReadonlyMap<string, readonly number[]>;
}

export class Entry {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[] | undefined;
  readonly parameters: ReadonlyMap<string, readonly number[]>;
  readonly #className: string;
  readonly #native: NativeNetwork;
  readonly #residence: Residence;
  readonly #optionalInputs: ReadonlySet<string>;
  readonly #batching = new Batching((inputs, outputs) => this.#pass(inputs, outputs));
  /** Called after each run, once runs are recorded. */
  #afterRun: (() => void) | undefined;

  constructor(parts: EntryParts) {
    this.inputs = parts.inputs;
    this.outputs = parts.outputs;
    this.parameters = parts.parameters;
    this.#className = parts.className;
    this.#native = parts.native;
    this.#residence = parts.residence;
    this.#optionalInputs = parts.optionalInputs;
  }

  /** One pass, as soon as those before it are done. */
  async run(inputs: Inputs, outputs: readonly string[]): Promise<Tensor[]> {
    this.#check(inputs, outputs);
    return await this.#pass(inputs, outputs);
  }

  /** A pass alone or together with what else waits. */
  async runTogether(inputs: Inputs, outputs: readonly string[]): Promise<Tensor[]> {
    if (!isBatching()) return await this.run(inputs, outputs);
    this.#check(inputs, outputs);
    return await this.#batching.run(inputs, outputs);
  }

  async profile(inputs: Inputs, outputs: readonly string[]): Promise<OperatorTime[]> {
    this.#check(inputs, outputs);
    const places = this.#placesOf(outputs);
    const times = await callAsync(() => {
      this.#residence.beforeRun();
      return this.#native.profile(this.#handlesOf(inputs), places);
    });
    return times.sort((a, b) => b.seconds - a.seconds);
  }

  operators(inputs: readonly string[], outputs: readonly string[]): Record<string, number> {
    const given = this.inputs.map((name) => inputs.includes(name));
    this.#checkOutputs(outputs);
    return this.#native.operators(given, this.#placesOf(outputs));
  }

  /** The updates of those parameters that it has. Runs asked for before see the old weights. */
  async updateWeights(updates: readonly WeightUpdate[]): Promise<void> {
    this.#batching.flush();
    const own = updates.filter(({ parameter }) => this.parameters.has(parameter));
    if (own.length > 0) await callAsync(() => this.#native.updateWeights(own));
  }

  /** New rows for a parameter, where it has that. Runs asked for before see the old ones. */
  async replaceRows(parameter: string, first: number, rows: Tensor): Promise<void> {
    this.#batching.flush();
    if (!this.parameters.has(parameter)) return;
    await callAsync(() => this.#native.replaceRows(parameter, first, rows.native));
  }

  /** @returns whether runs can be recorded */
  async useGraphs(limit: number): Promise<boolean> {
    if (!(await callAsync(() => this.#native.useGraphs(limit)))) return false;
    this.#afterRun ??= warnOfFault(this.#className, this.#native);
    return true;
  }

  get graphs(): GraphStatus {
    return this.#native.graphStatus();
  }

  dispose(): void {
    this.#batching.flush();
    this.#native.dispose();
  }

  async #pass(inputs: Inputs, outputs: readonly string[]): Promise<Tensor[]> {
    const results = await callAsync(() => {
      this.#residence.beforeRun();
      return this.#native.run(this.#handlesOf(inputs), this.#placesOf(outputs), outputs);
    });
    this.#afterRun?.();
    return results.map((native) => new Tensor(native));
  }

  #handlesOf(inputs: Inputs): (NativeTensor | null)[] {
    return this.inputs.map((name) => inputs[name]?.native ?? null);
  }

  #placesOf(outputs: readonly string[]): number[] {
    return outputs.map((name) => this.outputs?.indexOf(name) ?? -1);
  }

  #check(inputs: Inputs, outputs: readonly string[]): void {
    const unknown = Object.keys(inputs).find((name) => !this.inputs.includes(name));
    if (unknown !== undefined) throw mismatch(this.#className, `has no input ${unknown}`);
    const missing = this.inputs.find(
      (name) => inputs[name] === undefined && !this.#optionalInputs.has(name),
    );
    if (missing !== undefined) throw mismatch(this.#className, `needs the input ${missing}`);
    this.#checkOutputs(outputs);
  }

  #checkOutputs(outputs: readonly string[]): void {
    const unknown = outputs.find((name) => this.outputs?.includes(name) === false);
    if (unknown !== undefined) throw mismatch(this.#className, `has no output ${unknown}`);
  }
}

/** What a network is asked for and its program does not have. */
export function mismatch(className: string, problem: string): TorchbrushError {
  return new TorchbrushError(`The ${className} ${problem}.`, { code: 'ERR_PROGRAM' });
}
