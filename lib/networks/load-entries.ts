// How a network comes from its files: programs, filled with weights, or code of its own.
import { join } from 'node:path';

import { type JsonObject, readJsonObject } from '../checkpoints/json.js';
import type { StoredTensor } from '../checkpoints/stored-tensor.js';
import { readWeights } from '../checkpoints/weights.js';
import type { NativeNetwork, OffloadMode } from '../core.js';
import { callAsync } from '../native.js';
import type { DType } from '../tensor.js';
import { checkComponentConfig, checkFigures, readComponentConfig } from './component-config.js';
import { Entry } from './entry.js';
import { loadForeign } from './foreign.js';
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

export interface LoadedEntries {
  config: JsonObject;
  entries: Map<string, Entry>;
  residence: Residence;
}

/** @throws CheckpointError, ProgramNotFoundError, UntrustedFileError; nothing stays loaded then */
export async function loadEntries(
  folder: string,
  className: string,
  options: LoadNetworkOptions,
): Promise<LoadedEntries> {
  const own = await loadForeignEntries(folder, className, options);
  if (own !== undefined) return own;
  const { config, architecture } = await readComponentConfig(folder, className);
  const programs = await loadPrograms(architecture, folder);
  const { tensors, isVariant } = await readWeights(folder, className, options.variant);
  if (!isVariant && options.variant !== undefined) {
    process.emitWarning(
      `${folder} has no variant '${options.variant}': its plain files are used.`,
      {
        code: 'TORCHBRUSH_NO_VARIANT',
      },
    );
  }
  return await fill(programs, { className, config, tensors, origin: folder }, options);
}

/** @throws CheckpointError, ProgramNotFoundError; nothing stays loaded then */
export async function fillEntries(
  source: NetworkSource,
  options: LoadNetworkOptions,
): Promise<LoadedEntries> {
  const { origin, className, config } = source;
  const { architecture } = checkComponentConfig(origin, className, config);
  return await fill(await loadPrograms(architecture, origin), source, options);
}

async function loadForeignEntries(
  folder: string,
  className: string,
  options: LoadNetworkOptions,
): Promise<LoadedEntries | undefined> {
  const loaded = await loadForeign(folder, className, options);
  if (loaded === undefined) return undefined;
  const natives = loaded.map(({ native }) => native);
  const residence = new Residence(() => natives, 'none');
  try {
    const path = join(folder, 'config.json');
    const config = await readJsonObject(path);
    checkFigures(path, config);
    const entries = loaded.map(({ name, ...parts }): [string, Entry] => {
      return [name, new Entry({ ...parts, className, residence, parameters: new Map() })];
    });
    return { config, entries: new Map(entries), residence };
  } catch (error) {
    for (const native of natives) native.dispose();
    throw error;
  }
}

async function fill(
  programs: Map<string, LoadedProgram>,
  { className, config, tensors, origin }: NetworkSource,
  { device, dtype, offload = 'none' }: LoadNetworkOptions,
): Promise<LoadedEntries> {
  const placements = place(programs, tensors, className, origin);
  const entries = new Map<string, Entry>();
  const natives: NativeNetwork[] = [];
  const residence = new Residence(() => natives, offload);
  try {
    for (const [name, { record, native: program }] of programs) {
      const filled = placements.get(name) ?? [];
      const native = await callAsync((core) =>
        core.createNetwork(program, filled, device, dtype, offload, isSimulatingAccelerator()),
      );
      natives.push(native);
      const { inputs, outputs } = record;
      const optionalInputs = new Set(record.optionalInputs);
      const parameters = new Map(program.parameters.map(({ name, shape }) => [name, shape]));
      const parts = { className, native, residence, inputs, optionalInputs, outputs, parameters };
      entries.set(name, new Entry(parts));
    }
  } catch (error) {
    for (const native of natives) native.dispose();
    throw error;
  }
  return { config, entries, residence };
}
