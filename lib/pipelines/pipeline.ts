import {
  type AdapterWeight,
  checkAdapterWeights,
  checkNames,
  type FuseLoraOptions,
  type LoadLoraOptions,
  LoraAdapters,
} from '../adapters/lora.js';
import {
  type LoadTextualInversionOptions,
  TextualInversions,
} from '../adapters/textual-inversion.js';
import { openCheckpointFolder } from '../checkpoints/folder.js';
import { DisposedError, expected, InvalidArgumentError } from '../errors.js';
import type { Network } from '../networks/network.js';
import {
  checkFunction,
  checkKnownOptions,
  checkScheduler,
  checkSignal,
  resolvePlacement,
} from '../options.js';
import type { Scheduler } from '../schedulers/index.js';
import type { DType } from '../tensor.js';
import {
  type ComponentOverrides,
  type LoadProgress,
  loadComponents,
  mendScheduler,
  type StableDiffusionComponents,
} from './components.js';
import { checkOverrides, misfit } from './fit.js';

/** Options of `fromPretrained`. Components given here are used instead of the checkpoint's. */
export interface FromPretrainedOptions extends ComponentOverrides {
  /** `'auto'` (default): float16 on CUDA, float32 on the CPU. The dtype on disk does not matter. */
  dtype?: 'auto' | Extract<DType, 'float32' | 'float16' | 'bfloat16'>;
  /** `'auto'` (default), `'cpu'`, `'cuda'` or `'cuda:1'`. */
  device?: string;
  /** Takes the weight files of a variant, such as `'fp16'`, where there are some. */
  variant?: string;
  /** Called as components are loaded. */
  onProgress?: (progress: LoadProgress) => void;
  /** Stops loading between two components. */
  signal?: AbortSignal;
}

const componentNames = ['vae', 'textEncoder', 'tokenizer', 'unet', 'scheduler'];

const knownOptions = ['dtype', 'device', 'variant', 'onProgress', 'signal', ...componentNames];

/** What all pipelines share: components, their sharing, and their end. */
export abstract class DiffusionPipeline {
  readonly #components: StableDiffusionComponents;
  #scheduler: Scheduler;
  #disposed = false;

  /** @internal Takes the components over, each already retained for this pipeline. */
  constructor(components: StableDiffusionComponents) {
    this.#components = components;
    this.#scheduler = mendScheduler(components.scheduler);
  }

  /** The parts, as camelCase names. They belong to the pipeline: do not dispose them. */
  get components(): Readonly<StableDiffusionComponents> {
    if (this.#disposed) throw new DisposedError(`The ${this.constructor.name} has been disposed.`);
    return { ...this.#components, scheduler: this.#scheduler };
  }

  /** The sampling algorithm; assign another at any time. Running generations keep theirs. */
  get scheduler(): Scheduler {
    return this.#scheduler;
  }

  set scheduler(scheduler: Scheduler) {
    this.#scheduler = checkScheduler(scheduler);
  }

  /** `'cpu'` or `'cuda:0'`. */
  get device(): string {
    return this.#components.unet.network.device;
  }

  get dtype(): DType {
    return this.#components.unet.network.dtype;
  }

  /** Encodes and decodes pictures one by one: less memory for batches, the same numbers. */
  enableVaeSlicing(): void {
    this.#components.vae.slicing = true;
  }

  disableVaeSlicing(): void {
    this.#components.vae.slicing = false;
  }

  /** Accepted for diffusers' sake: memory-efficient attention (SDPA) is always on. */
  enableXformersMemoryEfficientAttention(): void {}

  // Adapters. They change networks, so all pipelines that share those see the change; it takes its
  // turn between two runs of a network, in the middle of a generation if one is on its way.

  /**
   * Loads a LoRA file, in the form of diffusers, peft or Kohya, and makes it the active adapter, with
   * weight 1, of the networks it has layers for. The file must stay where it is while it is loaded.
   *
   * @param path A `.safetensors` file, or a folder with one.
   * @throws CheckpointError for a file of another kind, or for another base model
   */
  async loadLoraWeights(path: string, options: LoadLoraOptions = {}): Promise<void> {
    checkKnownOptions(options, ['adapterName', 'weightName'], 'loadLoraWeights');
    await this.#lora.load(path, options);
  }

  /**
   * Makes these adapters the active ones, several at once if need be, each with its weight: one
   * number for all, one per adapter, or `{ unet, textEncoder, textEncoder2 }`; 1 unless given.
   */
  async setAdapters(
    names: string | readonly string[],
    weights?: AdapterWeight | readonly AdapterWeight[],
  ): Promise<void> {
    const list = checkNames(names, 'adapterNames');
    await this.#lora.set(list, checkAdapterWeights(list, weights));
  }

  /** Names of the active adapters. */
  getActiveAdapters(): string[] {
    return this.#lora.active;
  }

  /** Names of all loaded adapters. */
  getListAdapters(): string[] {
    return this.#lora.names;
  }

  async deleteAdapters(names: string | readonly string[]): Promise<void> {
    await this.#lora.delete(checkNames(names, 'adapterNames'));
  }

  /** Forgets all adapters. Except for fused ones, the weights are the checkpoint's again, bit for bit. */
  async unloadLoraWeights(): Promise<void> {
    const lora = this.#lora;
    await lora.delete(lora.names);
  }

  /** Takes adapters out of the weights, and keeps them for `enableLora()`. */
  async disableLora(): Promise<void> {
    await this.#lora.enable(false);
  }

  async enableLora(): Promise<void> {
    await this.#lora.enable(true);
  }

  /**
   * Makes the active adapters stay, with their weights times `loraScale`, whatever is set or unloaded
   * later. No run is the faster for it: adapters are always part of the weights.
   */
  async fuseLora(options: FuseLoraOptions = {}): Promise<void> {
    checkKnownOptions(options, ['loraScale', 'adapterNames'], 'fuseLora');
    await this.#lora.fuse(options);
  }

  async unfuseLora(): Promise<void> {
    await this.#lora.unfuse();
  }

  /**
   * Loads a textual inversion: a new word for prompts, `token`, or the name in the file.
   *
   * @param path A `.safetensors` file, or a folder with one.
   * @throws CheckpointError for a file of another kind, or for another base model
   */
  async loadTextualInversion(
    path: string,
    options: LoadTextualInversionOptions = {},
  ): Promise<void> {
    checkKnownOptions(options, ['token', 'weightName'], 'loadTextualInversion');
    await this.#textualInversions.load(path, options);
  }

  /** Forgets the named tokens, or all. */
  async unloadTextualInversion(tokens?: string | readonly string[]): Promise<void> {
    await this.#textualInversions.unload(
      tokens === undefined ? undefined : checkNames(tokens, 'tokens'),
    );
  }

  get #lora(): LoraAdapters {
    const { unet, textEncoder } = this.components;
    return new LoraAdapters({ unet: unet.network, textEncoder: textEncoder.network });
  }

  get #textualInversions(): TextualInversions {
    const { textEncoder, tokenizer } = this.components;
    return TextualInversions.of(textEncoder.network, tokenizer);
  }

  /** Frees the networks that no other pipeline shares. Safe to call twice. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const network of networksOf(this.#components)) network.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function networksOf(components: StableDiffusionComponents): Network[] {
  return [components.vae.network, components.textEncoder.network, components.unet.network];
}

/** The checkpoint's components for one more pipeline. */
export async function componentsFromPretrained(
  path: string,
  options: FromPretrainedOptions,
): Promise<StableDiffusionComponents> {
  checkKnownOptions(options, knownOptions, 'fromPretrained');
  const { dtype, device, variant, onProgress, signal, ...parts } = options;
  if (variant !== undefined && !(typeof variant === 'string' && /^[\w-]+$/.test(variant))) {
    throw expected("a name such as 'fp16'", 'variant', variant);
  }
  checkFunction(onProgress, 'onProgress');
  checkSignal(signal);
  const overrides = checkOverrides(parts);
  signal?.throwIfAborted();
  const checkpoint = await openCheckpointFolder(path);
  if (checkpoint.components.has('safety_checker')) {
    process.emitWarning(
      `The checkpoint ${path} has a safety checker, which torchbrush does not run yet. Check pictures yourself before you show them.`,
      { code: 'TORCHBRUSH_NO_SAFETY_CHECKER' },
    );
  }
  const placement = resolvePlacement({ dtype, device });
  return loadComponents(checkpoint, { ...placement, variant, overrides, onProgress, signal });
}

/** Another pipeline's components, retained for one more holder. */
export async function componentsFromPipe(
  pipe: unknown,
  overrides: ComponentOverrides,
): Promise<StableDiffusionComponents> {
  if (!(pipe instanceof DiffusionPipeline)) throw expected('a pipeline', 'pipe', pipe);
  checkKnownOptions(overrides, componentNames, 'fromPipe');
  const components = { ...pipe.components, ...checkOverrides(overrides) };
  const reason = misfit(components);
  if (reason !== undefined) {
    throw new InvalidArgumentError(`Expected components that fit together, but ${reason}.`);
  }
  const retained: Network[] = [];
  try {
    for (const network of networksOf(components)) {
      network.retain();
      retained.push(network);
    }
  } catch (error) {
    for (const network of retained) network.dispose();
    throw error;
  }
  return components;
}
