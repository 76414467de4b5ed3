// Networks that bring code of their own, in a component's folder: a TorchScript archive with its weights
// inside (`model.pt`), or an AOTInductor package beside the weights (`model.pt2`). Loading either runs
// what is in it, so neither is touched without `trustTorchScript`.
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { chooseWeights } from '../checkpoints/weights.js';
import type { GraphStatus, NativeForeign, NativeNetwork, NativeTensor } from '../core.js';
import { CheckpointError, InvalidArgumentError, UntrustedFileError } from '../errors.js';
import { callAsync } from '../native.js';
import type { DType } from '../tensor.js';
import { checkInputs, fillPackage, type PackageInput } from './package.js';

const scriptFile = 'model.pt';
const packageFile = 'model.pt2';

export interface ForeignOptions {
  dtype: DType;
  device: string;
  variant?: string | undefined;
  trustTorchScript?: boolean | undefined;
}

/** One function of such a network, as other networks' entries are. */
export interface ForeignEntry {
  name: string;
  native: NativeNetwork;
  inputs: readonly string[];
  optionalInputs: ReadonlySet<string>;
  /** Undefined where outputs have names of their own, which a run shows. */
  outputs: readonly string[] | undefined;
}

/** Names of outputs by their place in a tuple, for the entries of each class. */
const outputNames: Readonly<Record<string, Record<string, readonly string[]>>> = {
  UNet2DConditionModel: { forward: ['sample'] },
  AutoencoderKL: { encode: ['mean', 'std'], decode: ['sample'] },
  AutoencoderTiny: { encode: ['latents'], decode: ['sample'] },
  VQModel: { encode: ['latents'], decode: ['sample'] },
  CLIPTextModel: { forward: ['last_hidden_state', 'pooler_output'] },
  CLIPTextModelWithProjection: { forward: ['text_embeds', 'last_hidden_state'] },
  CLIPVisionModelWithProjection: { forward: ['image_embeds'] },
  PriorTransformer: { forward: ['predicted_image_embedding'], denormalize: ['image_embeds'] },
  StableDiffusionSafetyChecker: { forward: ['special_scores', 'concept_scores'] },
};

/**
 * The entries of a folder's own code; undefined where it has none, or has weights that need none and
 * nobody trusts it.
 *
 * @throws UntrustedFileError where there is nothing else to load; nothing has run then
 * @throws CheckpointError for a file that is broken or lacks an entry
 */
export async function loadForeign(
  folder: string,
  className: string,
  options: ForeignOptions,
): Promise<ForeignEntry[] | undefined> {
  const has = (name: string): boolean => existsSync(join(folder, name));
  const name = [packageFile, scriptFile].find(has);
  if (name === undefined) return undefined;
  const path = join(folder, name);
  if (options.trustTorchScript !== true) {
    if (chooseWeights(className, options.variant, has) !== undefined) return undefined;
    throw new UntrustedFileError(
      `${path} holds code that runs when it is loaded. If it is yours, or comes from someone you trust, load it with trustTorchScript: true.`,
    );
  }
  const entries = Object.keys(outputNames[className] ?? { forward: [] });
  return name === scriptFile
    ? await loadScript(path, className, entries, options)
    : await loadPackage(path, className, entries, { ...options, folder });
}

async function loadScript(
  path: string,
  className: string,
  names: readonly string[],
  { device, dtype }: ForeignOptions,
): Promise<ForeignEntry[]> {
  const native = await callAsync((core) => core.loadScript(path, device, dtype, names));
  return names.map((name) => {
    const { inputs, outputs: count } = native.signature(name);
    const outputs = count === null ? undefined : namesOfOutputs(className, name, count);
    if (outputs === undefined && className === 'ControlNetModel') {
      native.dispose();
      throw new CheckpointError(
        `${path} returns a dict, expected a tuple, as long as the UNet takes.`,
      );
    }
    return {
      name,
      native: new ForeignNetwork(native, name, outputs ?? []),
      inputs: inputs.map((input) => input.name),
      optionalInputs: new Set(inputs.filter(({ optional }) => optional).map((input) => input.name)),
      outputs,
    };
  });
}

async function loadPackage(
  path: string,
  className: string,
  names: readonly string[],
  options: ForeignOptions & { folder: string },
): Promise<ForeignEntry[]> {
  const native = await callAsync((core) => core.loadPackage(path, options.device, names));
  try {
    const filled = await fillPackage(native, { ...options, path, className, entries: names });
    return filled.map(({ name, inputs, outputs }) => ({
      name,
      native: new ForeignNetwork(native, name, outputs, inputs),
      inputs: inputs.map((input) => input.name),
      optionalInputs: new Set(),
      outputs,
    }));
  } catch (error) {
    native.dispose();
    throw error;
  }
}

function namesOfOutputs(className: string, entry: string, count: number): readonly string[] {
  if (className === 'ControlNetModel') {
    const skips = Array.from({ length: count - 1 }, (_, i) => `down_block_res_samples.${i}`);
    return [...skips, 'mid_block_res_sample'];
  }
  return (outputNames[className]?.[entry] ?? []).slice(0, count);
}

/** An entry in the place of a network made of a program and weights. */
class ForeignNetwork implements NativeNetwork {
  readonly #native: NativeForeign;
  readonly #entry: string;
  readonly #order: readonly string[];
  readonly #compiledFor: readonly PackageInput[];

  constructor(
    native: NativeForeign,
    entry: string,
    order: readonly string[],
    compiledFor: readonly PackageInput[] = [],
  ) {
    this.#native = native;
    this.#entry = entry;
    this.#order = order;
    this.#compiledFor = compiledFor;
  }

  async run(
    inputs: (NativeTensor | null)[],
    _: readonly number[],
    names: readonly string[],
  ): Promise<NativeTensor[]> {
    checkInputs(this.#compiledFor, inputs);
    return await this.#native.run(this.#entry, inputs, names, this.#order);
  }

  async profile(): Promise<never> {
    throw cannot('be profiled');
  }

  operators(): never {
    throw cannot('be looked into');
  }

  async updateWeights(): Promise<never> {
    throw cannot('take adapters');
  }

  async replaceRows(): Promise<never> {
    throw cannot('take new words');
  }

  // Its weights are its own: they stay on the device.
  async setOffload(): Promise<void> {}

  async leave(): Promise<void> {}

  async useGraphs(): Promise<boolean> {
    return false;
  }

  graphStatus(): GraphStatus {
    return { held: 0, recorded: 0, replayed: 0, eager: 0, fault: '' };
  }

  dispose(): void {
    this.#native.dispose();
  }
}

function cannot(what: string): InvalidArgumentError {
  return new InvalidArgumentError(`A network that brings its own code cannot ${what}.`);
}
