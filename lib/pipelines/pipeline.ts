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
