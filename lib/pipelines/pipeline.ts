import { type CheckpointFolder, openCheckpointFolder } from '../checkpoints/folder.js';
import { CheckpointError, DisposedError, expected, InvalidArgumentError } from '../errors.js';
import { Autoencoder } from '../networks/autoencoder.js';
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
  type ComponentSet,
  checkOverrides,
  type LoadProgress,
  loadComponents,
  networksOf,
  type PipelineConfig,
  type PipelineFamily,
  retainAll,
  slotsOf,
} from './components.js';

/** Options of `fromPretrained`, beside components to use instead of the checkpoint's. */
export interface LoadingOptions {
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

/** Instead of what the checkpoint says; each for the pipelines whose `config` has it. */
export interface ConfigOptions {
  /** Stable Diffusion XL: the UNet takes an aesthetic score instead of a target size. */
  requiresAestheticsScore?: boolean;
  /** Stable Diffusion XL: without a negative prompt its embeddings are zeros. */
  forceZerosForEmptyPrompt?: boolean;
}

/** For pipelines with parts in a second checkpoint. */
export type ConnectedOptions<Components> = 'priorPrior' extends keyof Components
  ? {
      /**
       * Folder of the prior's checkpoint. Unless given, the one that the README.md of the checkpoint
       * names: a path, or a name on the hub, for a folder of that name beside the checkpoint.
       */
      prior?: string;
    }
  : unknown;

export type FromPretrainedOptions<Components extends ComponentSet = ComponentSet> = LoadingOptions &
  ConfigOptions &
  ConnectedOptions<Components> &
  ComponentOverrides<Components>;

export type FromPipeOptions<Components extends ComponentSet = ComponentSet> = ConfigOptions &
  ComponentOverrides<Components>;

const loadingOptionNames = ['dtype', 'device', 'variant', 'onProgress', 'signal'];

/** What makes pipelines of one class. */
export interface PipelineClass<Components extends ComponentSet, Pipeline> {
  readonly family: PipelineFamily<Components>;
  new (components: Components, config: PipelineConfig): Pipeline;
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
   * Loads a checkpoint folder in diffusers' layout.
   *
   * @throws CheckpointError, ProgramNotFoundError, InvalidArgumentError; nothing stays loaded then
   */
  static async fromPretrained<Components extends ComponentSet, Pipeline>(
    this: PipelineClass<Components, Pipeline>,
    path: string,
    options: FromPretrainedOptions<NoInfer<Components>> = {},
  ): Promise<Pipeline> {
    checkLoadingOptions(this.family, options);
    const { dtype, device, variant, onProgress, signal, ...rest } = options;
    const { connected, parts: own } = splitConnected(this.family, rest);
    const { config: given, parts } = splitConfig(this.family, own);
    const overrides = checkOverrides(this.family, parts);
    signal?.throwIfAborted();
    const checkpoint = await openCheckpointFolder(path);
    warnOfSafetyChecker(checkpoint);
    const placement = resolvePlacement({ dtype, device });
    const config = { ...configOf(this.family, checkpoint), ...given };
    const components = await loadComponents(this.family, checkpoint, {
      ...placement,
      variant,
      config,
      overrides,
      connected,
      onProgress,
      signal,
    });
    return new this(mended(this.family, components), config);
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
    return new this(mended(family, components), config);
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

  disableVaeSlicing(): void {
    for (const vae of this.#autoencoders()) vae.slicing = false;
  }

  /** Accepted for diffusers' sake: memory-efficient attention (SDPA) is always on. */
  enableXformersMemoryEfficientAttention(): void {}

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

  #autoencoders(): Autoencoder[] {
    return Object.values(this.#components).filter((part) => part instanceof Autoencoder);
  }
}

function checkLoadingOptions<Components extends ComponentSet>(
  { slots, config, connected }: PipelineFamily<Components>,
  options: LoadingOptions,
): void {
  const known = [...loadingOptionNames, ...Object.keys(slots), ...Object.keys(config)];
  if (connected !== undefined) known.push(connected);
  checkKnownOptions(options, known, 'fromPretrained');
  const { variant, onProgress, signal } = options;
  if (variant !== undefined && !(typeof variant === 'string' && /^[\w-]+$/.test(variant))) {
    throw expected("a name such as 'fp16'", 'variant', variant);
  }
  checkFunction(onProgress, 'onProgress');
  checkSignal(signal);
}

function warnOfSafetyChecker({ folder, components }: CheckpointFolder): void {
  if (!components.has('safety_checker')) return;
  process.emitWarning(
    `The checkpoint ${folder} has a safety checker, which torchbrush does not run yet. Check pictures yourself before you show them.`,
    { code: 'TORCHBRUSH_NO_SAFETY_CHECKER' },
  );
}

function mended<Components extends ComponentSet>(
  { mendScheduler }: PipelineFamily<Components>,
  components: Components,
): Components {
  const { scheduler } = components;
  return { ...components, scheduler: mendScheduler?.(scheduler) ?? scheduler };
}

/** Takes out the folder of the second checkpoint. @throws InvalidArgumentError */
function splitConnected<Components extends ComponentSet>(
  { connected: name }: PipelineFamily<Components>,
  options: object,
): { connected: string | undefined; parts: object } {
  if (name === undefined) return { connected: undefined, parts: options };
  const { [name]: folder, ...parts } = options as Record<string, unknown>;
  if (folder === undefined || (typeof folder === 'string' && folder !== '')) {
    return { connected: folder, parts };
  }
  throw expected('a folder', name, folder);
}

/** Options are parts or values of the family's config. @throws InvalidArgumentError */
function splitConfig<Components extends ComponentSet>(
  { config: known }: PipelineFamily<Components>,
  options: object,
): { config: PipelineConfig; parts: ComponentOverrides<Components> } {
  const config: Record<string, boolean | number> = {};
  const parts: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(known, name)) parts[name] = value;
    else if (typeof value === typeof known[name]) config[name] = value as boolean | number;
    else if (value !== undefined) throw expected(`a ${typeof known[name]}`, name, value);
  }
  return { config, parts: parts as ComponentOverrides<Components> };
}

/** The family's values as `model_index.json` has them. @throws CheckpointError */
function configOf<Components extends ComponentSet>(
  { config: known }: PipelineFamily<Components>,
  { folder, values }: CheckpointFolder,
): PipelineConfig {
  const config: Record<string, boolean | number> = {};
  for (const [name, fallback] of Object.entries(known)) {
    const value = values[name] ?? fallback;
    if (typeof value !== typeof fallback) {
      throw new CheckpointError(
        `The model_index.json of ${folder} has ${JSON.stringify(value)} for ${name}; expected a ${typeof fallback}.`,
      );
    }
    config[name] = value as boolean | number;
  }
  return config;
}

function sharedComponents<Components extends ComponentSet>(
  { slots }: PipelineFamily<Components>,
  pipe: DiffusionPipeline,
  overrides: ComponentOverrides<Components>,
): Components {
  const theirs = pipe.components as unknown as Record<string, unknown>;
  const given = overrides as Record<string, unknown>;
  const components: Record<string, unknown> = {};
  const missing: string[] = [];
  for (const [name, { kind, optional = false }] of slotsOf(slots)) {
    if (given[name] === null) continue;
    const part = given[name] ?? theirs[name];
    if (part !== undefined && kind.is(part)) components[name] = part;
    else if (!optional) missing.push(`${name} (${kind.what})`);
  }
  if (missing.length === 0) return components as unknown as Components;
  throw new InvalidArgumentError(
    `The ${pipe.constructor.name} lacks ${missing.join(', ')}. Pass what is missing to fromPipe.`,
  );
}
