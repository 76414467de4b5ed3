// How a pipeline is made: of a checkpoint, or of another pipeline's components.
import type { CheckpointFolder } from '../checkpoints/folder.js';
import { type HubAccess, hubOptionNames } from '../checkpoints/hub-settings.js';
import { InvalidArgumentError } from '../errors.js';
import { checkKnownOptions, resolvePlacement } from '../options.js';
import {
  type ComponentSet,
  checkOverrides,
  denoiserOf,
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
  mended,
  type PipelineClass,
  sharedComponents,
  splitConfig,
  splitConnected,
} from './loading.js';
import { effectiveOffload, offloadPipeline } from './offload.js';

interface Made {
  readonly components: object;
}

/** Loads what `open` finds, once the options are checked. */
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
  if (mode !== 'none') offloadPipeline(pipe as Made, mode);
  return pipe;
}

/** Makes a pipeline of what another one has, as far as it fits. */
export function sharePipeline<Components extends ComponentSet, Pipeline>(
  Class: PipelineClass<Components, Pipeline>,
  pipe: Made & { readonly config: PipelineConfig },
  overrides: FromPipeOptions<NoInfer<Components>>,
): Pipeline {
  const { family } = Class;
  const known = [...Object.keys(family.slots), ...Object.keys(family.config)];
  checkKnownOptions(overrides, known, 'fromPipe');
  const { config: given, parts } = splitConfig(family, overrides);
  const config = { ...family.config, ...pipe.config, ...given };
  const components = sharedComponents(family, pipe, checkOverrides(family, parts));
  const reason = family.misfit(components, config);
  if (reason !== undefined) {
    throw new InvalidArgumentError(`Expected components that fit together, but ${reason}.`);
  }
  retainAll(networksOf(components));
  const made = new Class(mended(family, components), config);
  const { mode } = denoiserOf(pipe.components).residence;
  if (mode !== 'none') offloadPipeline(made as Made, mode);
  return made;
}
