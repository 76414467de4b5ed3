// Latent consistency models: Stable Diffusion distilled to a few steps, with a UNet that is told the
// guidance scale instead of being run twice (https://arxiv.org/abs/2310.04378).
import { familyDefaults } from '../defaults.js';
import { expected } from '../errors.js';
import { checkInteger } from '../options.js';
import { consistencyTimesteps } from '../schedulers/consistency.js';
import { LCMScheduler, type Scheduler } from '../schedulers/index.js';
import { checkStartOptions, type SchedulerRun } from '../schedulers/scheduler.js';
import type { Tensor } from '../tensor.js';
import type { PipelineFamily } from './components.js';
import { startOptions } from './generation.js';
import {
  type StableDiffusionComponents,
  type StableDiffusionRequest,
  stableDiffusion,
} from './stable-diffusion.js';
import {
  checkRequest,
  type StableDiffusionOptions,
  stableDiffusionOptionNames,
} from './stable-diffusion-options.js';

export const latentConsistency: PipelineFamily<StableDiffusionComponents> = {
  slots: stableDiffusion.slots,
  config: {},
  misfit: (components, config) =>
    components.unet.timeCondProjDim === undefined
      ? 'the unet takes no guidance scale, which one of a latent consistency model does'
      : stableDiffusion.misfit(components, config),
};

const foreign = ['negativePrompt', 'negativePromptEmbeds', 'eta', 'sigmas'] as const;

/** Options that text-to-image and image-to-image share; diffusers' names and defaults. */
export interface LatentConsistencyOptions
  extends Omit<StableDiffusionOptions, (typeof foreign)[number]> {
  /** 4 unless given; 1 to 8 are usual. */
  numInferenceSteps?: number;
  /** What the UNet is told, 8.5 unless given. There is no second pass, and no negative prompt. */
  guidanceScale?: number;
  /** Timesteps of the distillation, of which the steps visit some; the scheduler's own, 50. */
  originalInferenceSteps?: number;
  /** Latents [B,C,h,w] to denoise as they are. Not disposed. */
  latents?: Tensor;
}

export const latentConsistencyOptionNames = [
  ...stableDiffusionOptionNames.filter((name) => !foreign.some((other) => other === name)),
  'originalInferenceSteps',
  'latents',
];

/** @throws InvalidArgumentError before any network runs */
export function checkDistilledRequest(
  components: Readonly<StableDiffusionComponents>,
  options: LatentConsistencyOptions,
): StableDiffusionRequest {
  return checkRequest(components, options, {
    defaultGuidanceScale: familyDefaults.latentConsistency.guidanceScale,
  });
}

/**
 * Starts on some of the timesteps of the distillation; `strength` says which share of them counts.
 *
 * @throws InvalidArgumentError
 */
export function startDistilled(
  scheduler: Scheduler,
  options: LatentConsistencyOptions,
  strength?: number,
): SchedulerRun {
  if (!(scheduler instanceof LCMScheduler)) {
    const hint = 'Make one with LCMScheduler.fromConfig(pipe.scheduler.config).';
    throw expected('an LCMScheduler', 'scheduler', scheduler.className, hint);
  }
  const { timesteps } = options;
  const { numInferenceSteps = familyDefaults.latentConsistency.numInferenceSteps } = options;
  const { numTrainTimesteps, originalInferenceSteps: own } = scheduler.config;
  const originalInferenceSteps = checkInteger(
    options.originalInferenceSteps ?? own,
    'originalInferenceSteps',
    1,
  );
  const request = checkStartOptions(startOptions({ numInferenceSteps, timesteps }), scheduler);
  const distilled = { numTrainTimesteps, originalInferenceSteps };
  return scheduler.start({ timesteps: consistencyTimesteps(distilled, request, strength) });
}
