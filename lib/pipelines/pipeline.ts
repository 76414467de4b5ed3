import {
  type AdapterWeight,
  checkAdapterWeights,
  checkNames,
  type FuseLoraOptions,
  type LoadLoraOptions,
  LoraAdapters,
} from '../adapters/lora.js';
import { adapterFileOptionNames } from '../adapters/tensor-file.js';
import {
  type InvertedEncoders,
  type LoadTextualInversionOptions,
  loadTextualInversion,
  TextualInversions,
} from '../adapters/textual-inversion.js';
import { type CheckpointFolder, openCheckpointFolder } from '../checkpoints/folder.js';
import { type HubAccess, hubOptionNames } from '../checkpoints/hub-settings.js';
import { openSingleFileCheckpoint } from '../checkpoints/single-file-checkpoint.js';
import { DisposedError, expected, InvalidArgumentError } from '../errors.js';
import type { GraphStatus, OffloadMode } from '../native.js';
import { Autoencoder } from '../networks/autoencoder.js';
import { sumOfGraphs } from '../networks/graphs.js';
import { MoVQ } from '../networks/movq.js';
import type { Network } from '../networks/network.js';
import type { TextEncoder } from '../networks/text-encoder.js';
import type { UNet } from '../networks/unet.js';
import {
  checkChoice,
  checkInteger,
  checkKnownOptions,
  checkScheduler,
  resolvePlacement,
} from '../options.js';
import type { Scheduler } from '../schedulers/index.js';
import type { DType } from '../tensor.js';
import type { ClipTokenizer } from '../tokenizer/index.js';
import { type CompileOptions, checkCompileOptions, compileNetworks } from './compile.js';
import {
  type ComponentSet,
  checkOverrides,
  loadComponents,
  networksOf,
  type PipelineConfig,
  retainAll,
} from './components.js';
import {
  accessOf,
  checkLoadingOptions,
  configOf,
  type FromPipeOptions,
  type FromPretrainedOptions,
  type FromSingleFileOptions,
  mended,
  type PipelineClass,
  sharedComponents,
  splitConfig,
  splitConnected,
} from './loading.js';
import { effectiveOffload, offloadPipeline } from './offload.js';

/** The parts that adapters change. */
interface Adapted {
  unet: UNet;
  textEncoder: TextEncoder;
  textEncoder2: TextEncoder;
  tokenizer: ClipTokenizer;
  tokenizer2: ClipTokenizer;
}

/** What all pipelines share: components, their sharing, and their end. */
export abstract class DiffusionPipeline<Components extends ComponentSet = ComponentSet> {
  /** Values that the checkpoint was published with; camelCase. */
  readonly config: PipelineConfig;
  readonly #components: Components;
  #scheduler: Scheduler;
  #disposed = false;

  /** @internal Takes the components over, each already retained for this pipeline. */
  constructor(components: Components, config: PipelineConfig) {
    this.#components = components;
    this.#scheduler = components.scheduler;
    this.config = Object.freeze({ ...config });
  }

  /**
   * Loads a checkpoint in diffusers' layout: a folder, or a repository on the Hugging Face hub,
   * `'org/name'` or `'org/name@revision'`, from the cache or by download.
   *
   * @throws CheckpointError, HubError, ProgramNotFoundError, InvalidArgumentError; nothing stays loaded
   */
  static async fromPretrained<Components extends ComponentSet, Pipeline>(
    this: PipelineClass<Components, Pipeline>,
    path: string,
    options: FromPretrainedOptions<NoInfer<Components>> = {},
  ): Promise<Pipeline> {
    return await loadPipeline(this, options, (access) => openCheckpointFolder(path, access));
  }

  /**
   * Loads a checkpoint that is one `.safetensors` or `.ckpt` file, in the layout of the original
   * implementations: a path, `'org/name/file'` on the hub, or its address there. Such files hold no
   * tokenizer: pass one, or `config`, a checkpoint whose tokenizer and configurations are used (its
   * weights are not).
   *
   * @throws CheckpointError, UntrustedFileError, ProgramNotFoundError, InvalidArgumentError
   */
  static async fromSingleFile<Components extends ComponentSet, Pipeline>(
    this: PipelineClass<Components, Pipeline>,
    path: string,
    options: FromSingleFileOptions<NoInfer<Components>> = {},
  ): Promise<Pipeline> {
    const { config, ...rest } = options;
    return await loadPipeline(this, rest as typeof options, (access) =>
      openSingleFileCheckpoint(path, { config, access }),
    );
  }

  /**
   * A pipeline on another one's components, as far as both have them. Each is disposed on its own.
   *
   * @throws InvalidArgumentError where a component is missing or does not fit
   */
  static async fromPipe<Components extends ComponentSet, Pipeline>(
    this: PipelineClass<Components, Pipeline>,
    pipe: DiffusionPipeline,
    overrides: FromPipeOptions<NoInfer<Components>> = {},
  ): Promise<Pipeline> {
    const { family } = this;
    if (!(pipe instanceof DiffusionPipeline)) throw expected('a pipeline', 'pipe', pipe);
    checkKnownOptions(
      overrides,
      [...Object.keys(family.slots), ...Object.keys(family.config)],
      'fromPipe',
    );
    const { config: given, parts } = splitConfig(family, overrides);
    const config = { ...family.config, ...pipe.config, ...given };
    const components = sharedComponents(family, pipe, checkOverrides(family, parts));
    const reason = family.misfit(components, config);
    if (reason !== undefined) {
      throw new InvalidArgumentError(`Expected components that fit together, but ${reason}.`);
    }
    retainAll(networksOf(components));
    const made = new this(mended(family, components), config);
    const { mode } = pipe.#network.residence;
    if (mode !== 'none') offloadPipeline(made as DiffusionPipeline, mode);
    return made;
  }

  /** The parts, as camelCase names. They belong to the pipeline: do not dispose them. */
  get components(): Readonly<Components> {
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
    return this.#network.device;
  }

  /** What the networks compute in. */
  get dtype(): DType {
    return this.#network.dtype;
  }

  /** Encodes and decodes pictures one by one: less memory for batches, the same numbers. */
  enableVaeSlicing(): void {
    for (const vae of this.#autoencoders()) vae.slicing = true;
  }

  /** Encodes and decodes a batch at once again. */
  disableVaeSlicing(): void {
    for (const vae of this.#autoencoders()) vae.slicing = false;
  }

  /**
   * Encodes and decodes large pictures in tiles that overlap: less memory, and colours that may differ
   * a little from tile to tile.
   */
  enableVaeTiling(): void {
    for (const vae of this.#autoencoders()) vae.tiling = true;
  }

  /** Pictures go through the autoencoder as a whole again. */
  disableVaeTiling(): void {
    for (const vae of this.#autoencoders()) vae.tiling = false;
  }

  /**
   * Keeps the networks' weights on the host and brings each network to the device when it runs; the
   * text encoders leave before the UNet arrives, and all leave when a generation ends. Holds for other
   * pipelines that share the networks. On the CPU it does nothing.
   */
  enableModelCpuOffload(): void {
    this.#offload('model');
  }

  /** Weights stay on the device again. */
  disableModelCpuOffload(): void {
    this.#offload('none');
  }

  /**
   * Keeps the networks' weights on the host and brings them to the device part by part, ahead of use:
   * less memory than model offload, and slower. On the CPU it does nothing.
   */
  enableSequentialCpuOffload(): void {
    this.#offload('sequential');
  }

  /** Weights stay on the device again. */
  disableSequentialCpuOffload(): void {
    this.#offload('none');
  }

  /** Accepted for diffusers' sake: memory-efficient attention (SDPA) is always on. */
  enableXformersMemoryEfficientAttention(): void {}

  /** Accepted for diffusers' sake; does nothing. */
  disableXformersMemoryEfficientAttention(): void {}

  /**
   * Accepted for diffusers' sake: attention takes little memory as it is.
   *
   * @param sliceSize `'auto'`, `'max'` or a number of heads.
   */
  enableAttentionSlicing(sliceSize: 'auto' | 'max' | number = 'auto'): void {
    if (typeof sliceSize === 'number') checkInteger(sliceSize, 'sliceSize', 1);
    else checkChoice(sliceSize, 'sliceSize', ['auto', 'max']);
  }

  /** Accepted for diffusers' sake; does nothing. */
  disableAttentionSlicing(): void {}

  /**
   * Makes later runs faster. On CUDA, runs of the same shapes are recorded as CUDA graphs at their
   * second time and replayed from then on; convolutions try their algorithms for each new shape, so the
   * first picture of a size takes longer. Pipelines that share the networks share that. On the CPU
   * nothing is left to do: programs are compiled when they are loaded.
   *
   * Where a recording fails, a warning (`TORCHBRUSH_GRAPH_FAILED`) tells why, once, and runs go on as
   * before. The graphs go with the networks.
   *
   * @throws InvalidArgumentError for a mode that is not known
   */
  async compile(options: CompileOptions = {}): Promise<void> {
    checkCompileOptions(options);
    await compileNetworks(networksOf(this.components));
  }

  /** What became of `compile()`: the graphs of each component that is a network. */
  get graphs(): Record<string, GraphStatus> {
    const parts = Object.entries(this.components).map(([name, part]): [string, Network[]] => [
      name,
      networksOf([part]),
    ]);
    return Object.fromEntries(
      parts
        .filter(([, networks]) => networks.length > 0)
        .map(([name, networks]) => [name, sumOfGraphs(networks.map(({ graphs }) => graphs))]),
    );
  }

  // Adapters. They change networks, so all pipelines that share those see the change; it takes its
  // turn between two runs of a network, in the middle of a generation if one is on its way.

  /**
   * Loads a LoRA file, in the form of diffusers, peft or Kohya, and makes it the active adapter, with
   * weight 1, of the networks it has layers for. The file must stay where it is while it is loaded.
   *
   * @param path A `.safetensors` file, or a folder or a repository on the hub (`'org/name'`) with one.
   * @throws CheckpointError for a file of another kind, or for another base model; HubError
   */
  async loadLoraWeights(path: string, options: LoadLoraOptions = {}): Promise<void> {
    checkKnownOptions(options, ['adapterName', ...adapterFileOptionNames], 'loadLoraWeights');
    await this.#lora.load(path, options);
  }

  /**
   * Makes these adapters the active ones, several at once if need be, each with its weight: one
   * number for all, one per adapter, or `{ unet, textEncoder, textEncoder2 }`; 1 unless given.
   *
   * @throws InvalidArgumentError for an adapter that is not loaded; CheckpointError for a file that was
   * changed since. No adapter is active then.
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

  /**
   * Forgets these adapters; active ones leave the weights first. Throws for names that are not
   * loaded.
   */
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

  /** Puts the adapters that `disableLora()` took out back into the weights. */
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

  /** Takes fused adapters out of the weights again. */
  async unfuseLora(): Promise<void> {
    await this.#lora.unfuse();
  }

  /**
   * Loads a textual inversion: a new word for prompts, `token`, or the name in the file.
   *
   * @param path A `.safetensors` file, a `.bin` or `.pt` file as torch.save writes it, or a folder or
   *   a repository on the hub (`'org/name'`) with one.
   * @throws CheckpointError for a file of another kind, or for another base model; HubError
   * @throws UntrustedFileError for a file that could run code in Python
   */
  async loadTextualInversion(
    path: string,
    options: LoadTextualInversionOptions = {},
  ): Promise<void> {
    checkKnownOptions(
      options,
      ['token', 'hfToken', ...adapterFileOptionNames],
      'loadTextualInversion',
    );
    await loadTextualInversion(path, options, this.#textualInversions);
  }

  /** Forgets the named tokens, or all. @throws InvalidArgumentError for one that is not loaded */
  async unloadTextualInversion(tokens?: string | readonly string[]): Promise<void> {
    const names = tokens === undefined ? undefined : checkNames(tokens, 'tokens');
    const encoders = Object.values(this.#textualInversions);
    const known = encoders.flatMap((encoder) => encoder.tokens);
    const missing = names?.find((token) => !known.includes(token));
    if (missing !== undefined) throw expected('a loaded token', 'tokens', missing);
    for (const encoder of encoders) {
      await encoder.unload(names?.filter((token) => encoder.tokens.includes(token)));
    }
  }

  get #lora(): LoraAdapters {
    const { unet, textEncoder, textEncoder2 } = this.#adapted;
    if (unet === undefined) throw this.#notAdaptable();
    return new LoraAdapters({
      unet: unet.network,
      textEncoder: textEncoder?.network,
      textEncoder2: textEncoder2?.network,
    });
  }

  get #textualInversions(): InvertedEncoders {
    const { textEncoder, tokenizer, textEncoder2, tokenizer2 } = this.#adapted;
    const encoders: InvertedEncoders = {};
    if (textEncoder !== undefined && tokenizer !== undefined) {
      encoders.clip_l = TextualInversions.of(textEncoder.network, tokenizer);
    }
    if (textEncoder2 !== undefined && tokenizer2 !== undefined) {
      encoders.clip_g = TextualInversions.of(textEncoder2.network, tokenizer2);
    }
    if (Object.keys(encoders).length === 0) throw this.#notAdaptable();
    return encoders;
  }

  get #adapted(): Partial<Adapted> {
    return this.components as Partial<Adapted>;
  }

  #notAdaptable(): InvalidArgumentError {
    return new InvalidArgumentError(`The ${this.constructor.name} has no parts that this changes.`);
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

  /** The network that stands for all: the one that denoises. */
  get #network() {
    const { unet, prior } = this.#components as { unet?: unknown; prior?: unknown };
    const [network] = networksOf({ unet, prior });
    if (network === undefined) throw new DisposedError('The pipeline has no network.');
    return network;
  }

  #autoencoders(): (Autoencoder | MoVQ)[] {
    return Object.values(this.#components).filter(
      (part) => part instanceof Autoencoder || part instanceof MoVQ,
    );
  }

  #offload(mode: OffloadMode): void {
    if (this.#disposed) throw new DisposedError(`The ${this.constructor.name} has been disposed.`);
    offloadPipeline(this, effectiveOffload(mode, this.device));
  }
}

/** @internal Loads what `open` finds, once the options are checked. */
export async function loadPipeline<Components extends ComponentSet, Pipeline>(
  Class: PipelineClass<Components, Pipeline>,
  options: FromPretrainedOptions<NoInfer<Components>>,
  open: (access: HubAccess) => Promise<CheckpointFolder>,
): Promise<Pipeline> {
  checkLoadingOptions(Class.family, options);
  const access = accessOf(options);
  const { dtype, device, variant, onProgress, signal, ...others } = options;
  const { offload = 'none', trustTorchScript = false, ...rest } = others;
  for (const name of hubOptionNames) delete rest[name];
  const { connected, parts: own } = splitConnected(Class.family, rest);
  const { config: given, parts } = splitConfig(Class.family, own);
  const overrides = checkOverrides(Class.family, parts);
  signal?.throwIfAborted();
  const placement = resolvePlacement({ dtype, device });
  const mode = effectiveOffload(offload, placement.device);
  const checkpoint = await open(access);
  const config = { ...configOf(Class.family, checkpoint), ...given };
  const components = await loadComponents(Class.family, checkpoint, {
    ...placement,
    variant,
    offload: mode,
    trustTorchScript,
    config,
    overrides,
    connected,
    access,
    onProgress,
    signal,
  });
  const pipe = new Class(mended(Class.family, components), config);
  if (mode !== 'none') offloadPipeline(pipe as DiffusionPipeline, mode);
  return pipe;
}
