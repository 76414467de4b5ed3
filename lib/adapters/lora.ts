// LoRA adapters of networks: which are loaded, which are active and how strongly. An active adapter
// is part of the weights, so a run costs what it costs without.

import type { WeightUpdate } from '../core.js';
import { expected } from '../errors.js';
import type { Network } from '../networks/network.js';
import { type AdaptedName, type AdaptedNetworks, type LoraLayer, readLora } from './lora-file.js';
import { type AdapterFileOptions, findTensorFile, readTensorFile } from './tensor-file.js';

/** Options of `loadLoraWeights`. */
export interface LoadLoraOptions extends AdapterFileOptions {
  /** What to call it; `'default_0'`, `'default_1'`, … unless given. */
  adapterName?: string;
}

/** One strength for all networks, or one for each; 1 unless given. */
export type AdapterWeight = number | Partial<Record<AdaptedName, number>>;

/** Options of `fuseLora`. */
export interface FuseLoraOptions {
  /** Multiplies the weights that the adapters have; 1. */
  loraScale?: number;
  /** The adapters to fuse; the active ones unless given. */
  adapterNames?: string | readonly string[];
}

/** The adapters of one network; pipelines that share the network share them. */
class NetworkAdapters {
  readonly loaded = new Map<string, readonly LoraLayer[]>();
  /** Weights of the active adapters. */
  active = new Map<string, number>();
  /** Adapters that stay, with their weights, whatever becomes of the others. */
  fused = new Map<string, { layers: readonly LoraLayer[]; weight: number }>();
  enabled = true;
  /** Parameters that are not the checkpoint's now. */
  #changed = new Set<string>();

  /** Makes the network's weights what the adapters say. */
  async apply(network: Network): Promise<void> {
    const terms = new Map<string, WeightUpdate['terms']>();
    for (const { layers, weight } of this.#effective()) {
      for (const { parameter, up, down, middle, scaling } of layers) {
        const term = { up, down, middle, scale: weight * scaling };
        terms.set(parameter, [...(terms.get(parameter) ?? []), term]);
      }
    }
    const parameters = new Set([...this.#changed, ...terms.keys()]);
    this.#changed = new Set(terms.keys());
    if (parameters.size === 0) return;
    await network.updateWeights(
      [...parameters].map((parameter) => ({ parameter, terms: terms.get(parameter) ?? [] })),
    );
  }

  #effective(): { layers: readonly LoraLayer[]; weight: number }[] {
    if (!this.enabled) return [];
    const active = [...this.active]
      .filter(([name]) => !this.fused.has(name))
      .map(([name, weight]) => ({ layers: this.loaded.get(name) ?? [], weight }));
    return [...this.fused.values(), ...active].filter(({ weight }) => weight !== 0);
  }
}

const adaptersOfNetworks = new WeakMap<Network, NetworkAdapters>();

function adaptersOf(network: Network): NetworkAdapters {
  const adapters = adaptersOfNetworks.get(network) ?? new NetworkAdapters();
  adaptersOfNetworks.set(network, adapters);
  return adapters;
}

/** The LoRA adapters of a pipeline's networks. Holds nothing itself: make one whenever needed. */
export class LoraAdapters {
  readonly #networks: [AdaptedName, Network, NetworkAdapters][] = [];
  readonly #given: AdaptedNetworks;

  constructor(networks: AdaptedNetworks) {
    this.#given = networks;
    for (const name of ['unet', 'textEncoder', 'textEncoder2'] as const) {
      const network = networks[name];
      if (network !== undefined) this.#networks.push([name, network, adaptersOf(network)]);
    }
  }

  /** Names of all loaded adapters. */
  get names(): string[] {
    return [...new Set(this.#networks.flatMap(([, , { loaded }]) => [...loaded.keys()]))];
  }

  /** Names of the active adapters, of the first network that has any. */
  get active(): string[] {
    const [, , adapters] = this.#networks.find(([, , { active }]) => active.size > 0) ?? [];
    return [...(adapters?.active.keys() ?? [])];
  }

  /** Reads a file and makes it the active adapter, with weight 1, of the networks it changes. */
  async load(path: string, { adapterName, ...where }: LoadLoraOptions): Promise<void> {
    const name = adapterName ?? this.#freeName();
    if (typeof name !== 'string' || name === '') {
      throw expected('a name', 'adapterName', adapterName);
    }
    const usual = 'pytorch_lora_weights.safetensors';
    const file = await findTensorFile(path, usual, where);
    const layers = await readLora(await readTensorFile(file), this.#given);
    if (this.names.includes(name)) throw expected('a name not yet taken', 'adapterName', name);
    for (const [network, , adapters] of this.#networks) {
      const own = layers.get(network);
      if (own === undefined) continue;
      adapters.loaded.set(name, own);
      adapters.active = new Map([[name, 1]]);
    }
    try {
      await this.#apply();
    } catch (error) {
      await this.delete([name]);
      throw error;
    }
  }

  async set(names: readonly string[], weights: readonly AdapterWeight[]): Promise<void> {
    this.#requireLoaded(names);
    for (const [network, , adapters] of this.#networks) {
      adapters.active = new Map(
        names.flatMap((name, i): [string, number][] =>
          adapters.loaded.has(name) ? [[name, weightFor(weights[i], network)]] : [],
        ),
      );
    }
    await this.#apply();
  }

  /** Forgets adapters; fused ones stay in the weights. */
  async delete(names: readonly string[]): Promise<void> {
    this.#requireLoaded(names);
    for (const [, , { loaded, active }] of this.#networks) {
      for (const name of names) {
        loaded.delete(name);
        active.delete(name);
      }
    }
    await this.#apply();
  }

  async enable(enabled: boolean): Promise<void> {
    for (const [, , adapters] of this.#networks) adapters.enabled = enabled;
    await this.#apply();
  }

  async fuse({ loraScale = 1, adapterNames }: FuseLoraOptions): Promise<void> {
    checkWeight(loraScale, 'loraScale');
    const names = adapterNames === undefined ? undefined : checkNames(adapterNames, 'adapterNames');
    if (names !== undefined) this.#requireLoaded(names);
    for (const [, , { loaded, active, fused }] of this.#networks) {
      for (const name of names ?? active.keys()) {
        const layers = loaded.get(name);
        if (layers === undefined || fused.has(name)) continue;
        fused.set(name, { layers, weight: (active.get(name) ?? 1) * loraScale });
      }
    }
    await this.#apply();
  }

  async unfuse(): Promise<void> {
    for (const [, , { fused }] of this.#networks) fused.clear();
    await this.#apply();
  }

  /** All networks in one go: their changes are queued together, with no run in between. */
  async #apply(): Promise<void> {
    const changes = this.#networks.map(([, network, adapters]) => adapters.apply(network));
    const failed = (await Promise.allSettled(changes)).find(({ status }) => status === 'rejected');
    if (failed?.status !== 'rejected') return;
    // Half an adapter is none: back to the checkpoint's own weights.
    for (const [, , adapters] of this.#networks) {
      adapters.active.clear();
      adapters.fused.clear();
    }
    await Promise.allSettled(this.#networks.map(([, network, own]) => own.apply(network)));
    throw failed.reason;
  }

  #freeName(): string {
    const { names } = this;
    let i = names.length;
    while (names.includes(`default_${i}`)) i += 1;
    return `default_${i}`;
  }

  #requireLoaded(names: readonly string[]): void {
    const known = this.names;
    for (const name of names) {
      if (known.includes(name)) continue;
      const list = known.length === 0 ? 'none is loaded' : `there are ${known.join(', ')}`;
      throw expected('the name of a loaded adapter', 'adapterNames', name, `Now ${list}.`);
    }
  }
}

/** One name or several. @throws InvalidArgumentError */
export function checkNames(names: string | readonly string[], option: string): readonly string[] {
  const list: readonly unknown[] = Array.isArray(names) ? names : [names];
  if (list.every((name) => typeof name === 'string')) return list as readonly string[];
  throw expected('a name or a list of names', option, names);
}

/** One weight for each adapter, from what the caller gave. @throws InvalidArgumentError */
export function checkAdapterWeights(
  names: readonly string[],
  weights: AdapterWeight | readonly AdapterWeight[] | undefined,
): AdapterWeight[] {
  const list = Array.isArray(weights) ? weights : names.map(() => weights ?? 1);
  if (list.length !== names.length) {
    throw expected(`${names.length} numbers, one per adapter,`, 'adapterWeights', weights);
  }
  for (const weight of list as AdapterWeight[]) {
    const numbers = typeof weight === 'object' && weight !== null ? Object.entries(weight) : [];
    for (const [network, number] of numbers) {
      if (!['unet', 'textEncoder', 'textEncoder2'].includes(network)) {
        throw expected("'unet', 'textEncoder' or 'textEncoder2'", 'adapterWeights', network);
      }
      if (number !== undefined) checkWeight(number, `adapterWeights.${network}`);
    }
    if (typeof weight !== 'object' || weight === null) checkWeight(weight, 'adapterWeights');
  }
  return [...(list as AdapterWeight[])];
}

function checkWeight(value: unknown, name: string): void {
  if (typeof value === 'number' && Number.isFinite(value)) return;
  throw expected('a finite number', name, value);
}

function weightFor(weight: AdapterWeight | undefined, network: AdaptedName): number {
  return typeof weight === 'object' ? (weight[network] ?? 1) : (weight ?? 1);
}
