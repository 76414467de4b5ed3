// What loading a pipeline takes beside its components: options, values of the checkpoint, and the way
// from one pipeline to another.
import type { CheckpointFolder } from '../checkpoints/folder.js';
import {
  checkHubAccess,
  type HubAccess,
  type HubOptions,
  hubOptionNames,
} from '../checkpoints/hub-settings.js';
import { CheckpointError, expected, InvalidArgumentError } from '../errors.js';
import { checkBoolean, checkChoice, checkKnownOptions, checkVariant } from '../options.js';
import type { DType } from '../tensor.js';
import {
  type ComponentOverrides,
  type ComponentSet,
  type LoadProgress,
  type PipelineConfig,
  type PipelineFamily,
  slotsOf,
} from './components.js';

/** Options of `fromPretrained`, beside components to use instead of the checkpoint's. */
export interface LoadingOptions extends HubOptions {
  /** `'auto'` (default): float16 on CUDA, float32 on the CPU. The dtype on disk does not matter. */
  dtype?: 'auto' | Extract<DType, 'float32' | 'float16' | 'bfloat16'>;
  /** `'auto'` (default), `'cpu'`, `'cuda'` or `'cuda:1'`. */
  device?: string;
  /** Takes the weight files of a variant, such as `'fp16'`, where there are some. */
  variant?: string;
  /**
   * As `enableModelCpuOffload()` or `enableSequentialCpuOffload()` right after loading, with no moment
   * at which all weights are on the device.
   */
  offload?: 'model' | 'sequential';
  /**
   * Lets code that lies in the checkpoint's folders run: TorchScript archives with weights inside, and
   * AOTInductor packages. They can do whatever a program can. False unless given.
   */
  trustTorchScript?: boolean;
  /** Called as files come from the hub, then as components are loaded. */
  onProgress?: (progress: LoadProgress) => void;
  /** Stops downloads at once, and loading between two components. */
  signal?: AbortSignal;
}

/** Instead of what the checkpoint says; each for the pipelines whose `config` has it. */
export interface ConfigOptions {
  /** Stable Diffusion XL: the UNet takes an aesthetic score instead of a target size. */
  requiresAestheticsScore?: boolean;
  /** Stable Diffusion XL: without a negative prompt its embeddings are zeros. */
  forceZerosForEmptyPrompt?: boolean;
  /** The x4 upscaler: the largest `noiseLevel`. */
  maxNoiseLevel?: number;
}

/** For pipelines with parts in a second checkpoint. */
export type ConnectedOptions<Components> = 'priorPrior' extends keyof Components
  ? {
      /**
       * The prior's checkpoint, a folder or a name on the hub. Unless given, the one that the README.md
       * of the checkpoint names.
       */
      prior?: string;
    }
  : unknown;

/** Options of `fromPretrained`, and components to use instead of the checkpoint's. */
export type FromPretrainedOptions<Components extends ComponentSet = ComponentSet> = LoadingOptions &
  ConfigOptions &
  ConnectedOptions<Components> &
  ComponentOverrides<Components>;

/** A file has no variants: `variant` says nothing here. */
export type FromSingleFileOptions<Components extends ComponentSet = ComponentSet> =
  FromPretrainedOptions<Components> & {
    /**
     * A checkpoint of the same architecture, a folder or a name on the hub, for its tokenizer and
     * configurations.
     */
    config?: string;
  };

/** Options of `fromPipe`: components in place of the other pipeline's. */
export type FromPipeOptions<Components extends ComponentSet = ComponentSet> = ConfigOptions &
  ComponentOverrides<Components>;

const loadingOptionNames = [
  'dtype',
  'device',
  'variant',
  'offload',
  'trustTorchScript',
  'onProgress',
  'signal',
  ...hubOptionNames,
];

/** What makes pipelines of one class. */
export interface PipelineClass<Components extends ComponentSet, Pipeline> {
  readonly family: PipelineFamily<Components>;
  new (components: Components, config: PipelineConfig): Pipeline;
}

export function checkLoadingOptions<Components extends ComponentSet>(
  { slots, config, connected }: PipelineFamily<Components>,
  options: LoadingOptions,
): void {
  const known = [...loadingOptionNames, ...Object.keys(slots), ...Object.keys(config)];
  if (connected !== undefined) known.push(connected);
  checkKnownOptions(options, known, 'fromPretrained');
  const { variant, offload, trustTorchScript } = options;
  checkBoolean(trustTorchScript, 'trustTorchScript');
  if (offload !== undefined) checkChoice(offload, 'offload', ['model', 'sequential']);
  checkVariant(variant);
  checkHubAccess(options);
}

/** What of the options says how a checkpoint is come by. @throws InvalidArgumentError */
export function accessOf(options: LoadingOptions): HubAccess {
  if (typeof options !== 'object' || options === null)
    throw expected('an object', 'options', options);
  const { revision, localFilesOnly, cacheDir, token, onProgress, signal } = options;
  return { revision, localFilesOnly, cacheDir, token, onProgress, signal };
}

export function mended<Components extends ComponentSet>(
  { mendScheduler }: PipelineFamily<Components>,
  components: Components,
): Components {
  const { scheduler } = components;
  return { ...components, scheduler: mendScheduler?.(scheduler) ?? scheduler };
}

/** Takes out the folder of the second checkpoint. @throws InvalidArgumentError */
export function splitConnected<Components extends ComponentSet>(
  { connected: name }: PipelineFamily<Components>,
  options: object,
): { connected: string | undefined; parts: object } {
  if (name === undefined) return { connected: undefined, parts: options };
  const { [name]: folder, ...parts } = options as Record<string, unknown>;
  if (folder === undefined || (typeof folder === 'string' && folder !== '')) {
    return { connected: folder, parts };
  }
  throw expected('a folder or a name on the hub', name, folder);
}

/** Options are parts or values of the family's config. @throws InvalidArgumentError */
export function splitConfig<Components extends ComponentSet>(
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
export function configOf<Components extends ComponentSet>(
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

export function sharedComponents<Components extends ComponentSet>(
  { slots }: PipelineFamily<Components>,
  pipe: { readonly components: object },
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
