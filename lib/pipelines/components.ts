// Loads what a Stable Diffusion checkpoint consists of, or takes it from the caller.
import { join } from 'node:path';

import { type CheckpointFolder, requireComponent } from '../checkpoints/folder.js';
import { readJsonObject } from '../checkpoints/json.js';
import { CheckpointError } from '../errors.js';
import { Autoencoder } from '../networks/autoencoder.js';
import { Network } from '../networks/network.js';
import { TextEncoder } from '../networks/text-encoder.js';
import { UNet } from '../networks/unet.js';
import type { Placement } from '../options.js';
import { type Scheduler, schedulerFromConfig } from '../schedulers/index.js';
import { ClipTokenizer } from '../tokenizer/index.js';
import { misfit } from './fit.js';

/** What a Stable Diffusion pipeline works with. Pipelines share components and count holders. */
export interface StableDiffusionComponents {
  vae: Autoencoder;
  textEncoder: TextEncoder;
  tokenizer: ClipTokenizer;
  unet: UNet;
  scheduler: Scheduler;
}

export type ComponentOverrides = {
  [Name in keyof StableDiffusionComponents]?: StableDiffusionComponents[Name];
};

/** Told about each component as it is loaded; several are on their way at once. */
export interface LoadProgress {
  status: 'loading' | 'loaded';
  /** The component's name on disk, `'unet'`. */
  component: string;
  /** How many of `count` are loaded. */
  done: number;
  count: number;
}

export interface LoadOptions extends Placement {
  variant: string | undefined;
  overrides: ComponentOverrides;
  onProgress: ((progress: LoadProgress) => void) | undefined;
  signal: AbortSignal | undefined;
}

const schedulerFile = 'scheduler_config.json';

/** A table has a number for each; published models have 1000. */
const mostTrainTimesteps = 1_000_000;

/** @throws CheckpointError, ProgramNotFoundError, or the signal's reason; nothing stays loaded then */
export async function loadComponents(
  checkpoint: CheckpointFolder,
  options: LoadOptions,
): Promise<StableDiffusionComponents> {
  const { overrides, signal, onProgress } = options;
  const loaded: Network[] = [];
  const network = async (name: string, className: string): Promise<Network> => {
    const { folder } = requireComponent(checkpoint, name, [className]);
    const fresh = await Network.load(folder, className, options);
    loaded.push(fresh);
    return fresh;
  };
  const given = <Component extends { network: Network }>(component: Component): Component => {
    component.network.retain();
    loaded.push(component.network);
    return component;
  };
  let done = 0;
  const step = async <Result>(component: string, load: () => Promise<Result>): Promise<Result> => {
    signal?.throwIfAborted();
    onProgress?.({ status: 'loading', component, done, count: 5 });
    const result = await load();
    done += 1;
    onProgress?.({ status: 'loaded', component, done, count: 5 });
    return result;
  };
  try {
    const scheduler = await step(
      'scheduler',
      async () => overrides.scheduler ?? readScheduler(checkpoint),
    );
    // At the same time: vocabularies are read on this thread, networks made on the device's.
    const parts = [
      step('text_encoder', async () =>
        overrides.textEncoder === undefined
          ? new TextEncoder(await network('text_encoder', 'CLIPTextModel'))
          : given(overrides.textEncoder),
      ),
      step('vae', async () =>
        overrides.vae === undefined
          ? new Autoencoder(await network('vae', 'AutoencoderKL'))
          : given(overrides.vae),
      ),
      step('unet', async () =>
        overrides.unet === undefined
          ? new UNet(await network('unet', 'UNet2DConditionModel'))
          : given(overrides.unet),
      ),
      step('tokenizer', async () => overrides.tokenizer ?? readTokenizer(checkpoint)),
    ] as const;
    // Nothing may still be on its way when what is loaded is disposed.
    await Promise.allSettled(parts);
    const [textEncoder, vae, unet, tokenizer] = await Promise.all(parts);
    signal?.throwIfAborted();
    const components = { vae, textEncoder, tokenizer, unet, scheduler };
    const reason = misfit(components);
    if (reason === undefined) return components;
    throw new CheckpointError(
      `The components of ${checkpoint.folder} do not fit together: ${reason}.`,
    );
  } catch (error) {
    for (const part of loaded) part.dispose();
    throw error;
  }
}

async function readScheduler(checkpoint: CheckpointFolder): Promise<Scheduler> {
  const component = checkpoint.components.get('scheduler');
  const folder = component?.folder ?? join(checkpoint.folder, 'scheduler');
  const path = join(folder, schedulerFile);
  const config = await readJsonObject(path);
  // model_index.json names the class to use; the file may have been written by another one.
  const className = component?.className ?? config._class_name;
  const { num_train_timesteps: steps } = config;
  if (typeof steps === 'number' && steps > mostTrainTimesteps) {
    throw new CheckpointError(
      `Cannot use ${path}: num_train_timesteps is ${steps}, above ${mostTrainTimesteps}.`,
    );
  }
  try {
    return schedulerFromConfig({ ...config, _class_name: className });
  } catch (cause) {
    // To the scheduler a field is an argument; here it stands in a file.
    throw new CheckpointError(`Cannot use ${path}: ${(cause as Error).message}`, { cause });
  }
}

async function readTokenizer(checkpoint: CheckpointFolder): Promise<ClipTokenizer> {
  const classes = ['CLIPTokenizer', 'CLIPTokenizerFast'];
  return ClipTokenizer.fromFolder(requireComponent(checkpoint, 'tokenizer', classes).folder);
}

/**
 * What StableDiffusionPipeline's constructor mends in old scheduler configs: steps_offset is 1 and
 * clip_sample is false, whatever the file says. Schedulers set later are taken as they are.
 */
export function mendScheduler(scheduler: Scheduler): Scheduler {
  const { config } = scheduler;
  const fixes: Record<string, unknown> = {};
  if ('stepsOffset' in config && config.stepsOffset !== 1) fixes.stepsOffset = 1;
  if ('clipSample' in config && config.clipSample === true) fixes.clipSample = false;
  if (Object.keys(fixes).length === 0) return scheduler;
  // A field that the file left out still counts as unset, so that another class made from this
  // configuration takes its own default, as in diffusers.
  return schedulerFromConfig(config, { ...fixes, _useDefaultValues: config._useDefaultValues });
}
