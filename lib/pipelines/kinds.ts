// The kinds of parts that checkpoints are made of.
import { join } from 'node:path';

import { type CheckpointFolder, requireComponent } from '../checkpoints/folder.js';
import { readJsonObject } from '../checkpoints/json.js';
import { CheckpointError } from '../errors.js';
import {
  type ClipPreprocessor,
  isPreprocessor,
  readPreprocessor,
} from '../images/clip-preprocess.js';
import { native } from '../native.js';
import { Autoencoder } from '../networks/autoencoder.js';
import { AutoencoderTiny } from '../networks/autoencoder-tiny.js';
import { MoVQ } from '../networks/movq.js';
import { Network } from '../networks/network.js';
import { Prior } from '../networks/prior.js';
import { SafetyChecker } from '../networks/safety-checker.js';
import { TextEncoder } from '../networks/text-encoder.js';
import { UNet } from '../networks/unet.js';
import { VisionEncoder } from '../networks/vision-encoder.js';
import { isScheduler } from '../options.js';
import { type Scheduler, schedulerFromConfig } from '../schedulers/index.js';
import { ClipTokenizer } from '../tokenizer/index.js';
import type { ComponentKind, ComponentSource } from './components.js';

/** The network of a component's folder, or of the one file that a checkpoint is. */
async function loadNetwork(
  { checkpoint, name, ...options }: ComponentSource,
  classNames: readonly string[],
): Promise<Network> {
  const { folder, className } = requireComponent(checkpoint, name, classNames);
  const part = checkpoint.inOneFile?.parts.get(name);
  if (part === undefined) return Network.load(folder, className, options);
  return Network.fromWeights({ ...part, origin: folder }, options);
}

/** A part that is one network. */
function networkKind<Component>(
  Class: new (network: Network) => Component,
  what: string,
  classNames: readonly string[],
): ComponentKind<Component> {
  return {
    what,
    is: (value): value is Component => value instanceof Class,
    load: async (source) => new Class(await loadNetwork(source, classNames)),
  };
}

export const unetKind = networkKind(UNet, 'a UNet', ['UNet2DConditionModel']);

export const autoencoderKind: ComponentKind<Autoencoder> = {
  what: 'an Autoencoder',
  is: (value) => value instanceof Autoencoder,
  load: async (source) => {
    const network = await loadNetwork(source, ['AutoencoderKL', 'AutoencoderTiny']);
    const isTiny = network.className === 'AutoencoderTiny';
    return isTiny ? new AutoencoderTiny(network) : new Autoencoder(network);
  },
};

/**
 * An autoencoder that may overflow in float16: where its config says so, diffusers converts it to
 * float32 at every use. Here it is loaded in bfloat16, which has float32's range and float16's speed,
 * or in float32 on GPUs that are not known to have it.
 */
export const upcastAutoencoderKind: ComponentKind<Autoencoder> = {
  ...autoencoderKind,
  load: async (source) => {
    if (source.dtype !== 'float16') return autoencoderKind.load(source);
    const { checkpoint, name } = source;
    const part = checkpoint.inOneFile?.parts.get(name);
    const config =
      part?.config ?? (await readJsonObject(join(checkpoint.folder, name, 'config.json')));
    const { force_upcast: upcast = true } = config;
    if (upcast === false) return autoencoderKind.load(source);
    const dtype = native().cudaCapability(source.device) >= 80 ? 'bfloat16' : 'float32';
    const autoencoder = await autoencoderKind.load({ ...source, dtype });
    autoencoder.drawsInFloat32 = true;
    return autoencoder;
  },
};

export const textEncoderKind = networkKind(TextEncoder, 'a TextEncoder', [
  'CLIPTextModel',
  'CLIPTextModelWithProjection',
]);

export const safetyCheckerKind: ComponentKind<SafetyChecker> = {
  what: 'a SafetyChecker',
  hint: 'Use null to draw without one.',
  alsoReads: ['feature_extractor'],
  is: (value) => value instanceof SafetyChecker,
  load: async ({ checkpoint, name, ...options }) => {
    const { folder } = requireComponent(checkpoint, name, ['StableDiffusionSafetyChecker']);
    const extractor = checkpoint.components.get('feature_extractor');
    const preprocessor = extractor && (await readPreprocessor(extractor.folder));
    return SafetyChecker.load(folder, { ...options, preprocessor });
  },
};

export const visionEncoderKind = networkKind(VisionEncoder, 'a VisionEncoder', [
  'CLIPVisionModelWithProjection',
]);

export const priorKind = networkKind(Prior, 'a Prior', ['PriorTransformer']);

export const movqKind = networkKind(MoVQ, 'a MoVQ', ['VQModel']);

/** How pictures are prepared for CLIP. */
export const preprocessorKind: ComponentKind<ClipPreprocessor> = {
  what: 'the settings of a CLIPImageProcessor',
  is: isPreprocessor,
  load: async ({ checkpoint, name }) => {
    const classes = ['', 'Fast', 'Pil'].map((suffix) => `CLIPImageProcessor${suffix}`);
    const { folder } = requireComponent(checkpoint, name, [...classes, 'CLIPFeatureExtractor']);
    return readPreprocessor(folder);
  },
};

export const tokenizerKind: ComponentKind<ClipTokenizer> = {
  what: 'a ClipTokenizer',
  is: (value) => value instanceof ClipTokenizer,
  load: async ({ checkpoint, name }) => {
    const classes = ['CLIPTokenizer', 'CLIPTokenizerFast'];
    return ClipTokenizer.fromFolder(requireComponent(checkpoint, name, classes).folder);
  },
};

export const schedulerKind: ComponentKind<Scheduler> = {
  what: 'a scheduler',
  hint: 'Make one with EulerDiscreteScheduler.fromConfig(pipe.scheduler.config).',
  is: isScheduler,
  load: ({ checkpoint, name }) => readScheduler(checkpoint, name),
};

const schedulerFile = 'scheduler_config.json';

/** A table has a number for each; published models have 1000. */
const mostTrainTimesteps = 1_000_000;

async function readScheduler(checkpoint: CheckpointFolder, name: string): Promise<Scheduler> {
  if (checkpoint.inOneFile !== undefined)
    return schedulerFromConfig(checkpoint.inOneFile.scheduler);
  const component = checkpoint.components.get(name);
  const folder = component?.folder ?? join(checkpoint.folder, name);
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
