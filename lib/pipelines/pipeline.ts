// What all pipelines have in common: their making, their parts, and where and how these run.
import { openCheckpointFolder } from '../checkpoints/folder.js';
import { openSingleFileCheckpoint } from '../checkpoints/single-file-checkpoint.js';
import type { GraphStatus, OffloadMode } from '../core.js';
import { DisposedError, expected } from '../errors.js';
import { Autoencoder } from '../networks/autoencoder.js';
import { MoVQ } from '../networks/movq.js';
import { checkChoice, checkInteger, checkScheduler } from '../options.js';
import type { Scheduler } from '../schedulers/index.js';
import type { DType } from '../tensor.js';
import { AdaptablePipeline } from './adaptable.js';
import { type CompileOptions, checkCompileOptions, compileNetworks, graphsOf } from './compile.js';
import { type ComponentSet, denoiserOf, networksOf, type PipelineConfig } from './components.js';
import type {
  FromPipeOptions,
  FromPretrainedOptions,
  FromSingleFileOptions,
  PipelineClass,
} from './loading.js';
import { loadPipeline, sharePipeline } from './make-pipeline.js';
import { effectiveOffload, offloadPipeline } from './offload.js';

/** What all pipelines share: components, their sharing, and their end. */
export abstract class DiffusionPipeline<
  Components extends ComponentSet = ComponentSet,
> extends AdaptablePipeline {
  /** Values that the checkpoint was published with; camelCase. */
  readonly config: PipelineConfig;
  readonly #components: Components;
  #scheduler: Scheduler;
  #disposed = false;

  /** @internal Takes the components over, each already retained for this pipeline. */
  constructor(components: Components, config: PipelineConfig) {
    super();
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
    if (!(pipe instanceof DiffusionPipeline)) throw expected('a pipeline', 'pipe', pipe);
    return sharePipeline(this, pipe, overrides);
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
    return denoiserOf(this.#components).device;
  }

  /** What the networks compute in. */
  get dtype(): DType {
    return denoiserOf(this.#components).dtype;
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
    return graphsOf(this.components);
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
