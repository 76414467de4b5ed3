// A loaded network: its programs, filled with a checkpoint's weights, on one device in one dtype.
import type { JsonObject } from '../checkpoints/json.js';
import { isHarmless } from '../checkpoints/layouts.js';
import { type StoredTensor, withoutTrailingOnes } from '../checkpoints/stored-tensor.js';
import { readWeights } from '../checkpoints/weights.js';
import { CheckpointError, DisposedError, TorchbrushError } from '../errors.js';
import { callAsync, type NativeNetwork, type Placement } from '../native.js';
import { type DType, Tensor } from '../tensor.js';
import { checkComponentConfig, readComponentConfig } from './component-config.js';
import { type LoadedProgram, loadPrograms } from './programs.js';

export interface LoadNetworkOptions {
  dtype: DType;
  device: string;
  variant?: string | undefined;
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

interface Entry {
  native: NativeNetwork;
  inputs: readonly string[];
  outputs: readonly string[];
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
  readonly #entries: Map<string, Entry>;
  #holders = 1;

  private constructor(
    className: string,
    config: JsonObject,
    options: LoadNetworkOptions,
    entries: Map<string, Entry>,
  ) {
    this.className = className;
    this.config = Object.freeze(config);
    this.dtype = options.dtype;
    this.device = options.device;
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

  static async #fill(
    programs: Map<string, LoadedProgram>,
    { className, config, tensors, origin }: NetworkSource,
    options: LoadNetworkOptions,
  ): Promise<Network> {
    const placements = place(programs, tensors, className, origin);
    const entries = new Map<string, Entry>();
    try {
      for (const [name, { record, native }] of programs) {
        const filled = placements.get(name) ?? [];
        const network = await callAsync((core) =>
          core.createNetwork(native, filled, options.device, options.dtype),
        );
        entries.set(name, { native: network, inputs: record.inputs, outputs: record.outputs });
      }
    } catch (error) {
      for (const entry of entries.values()) entry.native.dispose();
      throw error;
    }
    return new Network(className, config, options, entries);
  }

  /**
   * Runs an entry and gives the named outputs, which the caller disposes. Operators that no named
   * output needs are left out.
   */
  async run(
    entry: string,
    inputs: Readonly<Record<string, Tensor>>,
    outputs: readonly string[],
  ): Promise<Tensor[]> {
    if (this.#holders === 0) throw new DisposedError(`The ${this.className} has been disposed.`);
    const program = this.#entries.get(entry);
    if (program === undefined) {
      throw new TorchbrushError(`The ${this.className} has no program "${entry}".`, {
        code: 'ERR_PROGRAM',
      });
    }
    const handles = program.inputs.map((name) => {
      const tensor = inputs[name];
      if (tensor === undefined) {
        throw new TorchbrushError(`The ${this.className} needs the input ${name}.`, {
          code: 'ERR_PROGRAM',
        });
      }
      return tensor.native;
    });
    const wanted = outputs.map((name) => program.outputs.indexOf(name));
    if (wanted.includes(-1)) {
      throw new TorchbrushError(
        `The ${this.className} has no output ${outputs[wanted.indexOf(-1)]}.`,
        {
          code: 'ERR_PROGRAM',
        },
      );
    }
    const results = await callAsync(() => program.native.run(handles, wanted));
    return results.map((native) => new Tensor(native));
  }

  retain(): void {
    if (this.#holders === 0) throw new DisposedError(`The ${this.className} has been disposed.`);
    this.#holders += 1;
  }

  dispose(): void {
    if (this.#holders === 0) return;
    this.#holders -= 1;
    if (this.#holders > 0) return;
    for (const entry of this.#entries.values()) entry.native.dispose();
    this.#entries.clear();
  }
}

/** Gives every parameter of every program its tensor; each tensor is used at most once. */
function place(
  programs: Map<string, LoadedProgram>,
  tensors: Map<string, StoredTensor>,
  className: string,
  origin: string,
): Map<string, Placement[]> {
  const unused = new Set(tensors.keys());
  const missing: string[] = [];
  const misshapen: string[] = [];
  const whole: string[] = [];
  const placements = new Map<string, Placement[]>();
  for (const [entry, { native }] of programs) {
    const filled: Placement[] = [];
    for (const { name, shape } of native.parameters) {
      const tensor = tensors.get(name);
      unused.delete(name);
      if (tensor === undefined) missing.push(name);
      else if (!fits(tensor.shape, shape)) {
        misshapen.push(`${name} is [${tensor.shape.join(', ')}], expected [${shape.join(', ')}]`);
      } else if (!/float/.test(tensor.dtype)) whole.push(`${name} is ${tensor.dtype}`);
      else filled.push({ parameter: name, ...withoutTrailingOnes(tensor, shape.length) });
    }
    placements.set(entry, filled);
  }
  const surplus = [...unused].filter((name) => !isHarmless(className, name));
  const faults = [
    list('missing', missing),
    list('with another shape', misshapen),
    list('that are no floating-point numbers', whole),
    list('that the architecture has no place for', surplus),
  ].filter((line) => line !== '');
  if (faults.length > 0) {
    throw new CheckpointError(
      `The weights in ${origin} do not fit its configuration (${className}):\n${faults.join('\n')}`,
    );
  }
  return placements;
}

// Some conversions store linear layers as 1×1 convolutions.
function fits(stored: readonly number[], wanted: readonly number[]): boolean {
  return stored.length >= wanted.length && stored.every((size, i) => size === (wanted[i] ?? 1));
}

function list(kind: string, names: string[]): string {
  if (names.length === 0) return '';
  const shown = names.slice(0, 5).join(', ');
  const more = names.length > 5 ? `, and ${names.length - 5} more` : '';
  return `  ${names.length} ${names.length === 1 ? 'tensor' : 'tensors'} ${kind}: ${shown}${more}`;
}
