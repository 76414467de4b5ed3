/** Schedulers by name. A new class needs its file, its name in `names.ts` and a line in `SCHEDULERS`. */

import { CheckpointError } from '../errors.js';
import { configClassName, type SchedulerConfigInput } from './config.js';
import { DDIMScheduler } from './ddim.js';
import { DDPMScheduler } from './ddpm.js';
import { DEISMultistepScheduler } from './deis-multistep.js';
import { DPMSolverMultistepScheduler } from './dpm-solver-multistep.js';
import { DPMSolverSDEScheduler } from './dpm-solver-sde.js';
import { DPMSolverSinglestepScheduler } from './dpm-solver-singlestep.js';
import { EulerAncestralDiscreteScheduler } from './euler-ancestral-discrete.js';
import { EulerDiscreteScheduler } from './euler-discrete.js';
import { HeunDiscreteScheduler } from './heun-discrete.js';
import { KDPM2AncestralDiscreteScheduler } from './kdpm2-ancestral-discrete.js';
import { KDPM2DiscreteScheduler } from './kdpm2-discrete.js';
import { LCMScheduler } from './lcm.js';
import { LMSDiscreteScheduler } from './lms-discrete.js';
import { type SchedulerName, schedulerNames } from './names.js';
import { PNDMScheduler } from './pndm.js';
import type { CustomSchedules, Scheduler } from './scheduler.js';
import { TCDScheduler } from './tcd.js';
import { UnCLIPScheduler } from './unclip.js';
import { UniPCMultistepScheduler } from './unipc-multistep.js';

export { DDIMScheduler } from './ddim.js';
export { DDPMScheduler } from './ddpm.js';
export { DEISMultistepScheduler } from './deis-multistep.js';
export { DPMSolverMultistepScheduler } from './dpm-solver-multistep.js';
export { DPMSolverSDEScheduler } from './dpm-solver-sde.js';
export { DPMSolverSinglestepScheduler } from './dpm-solver-singlestep.js';
export { EulerAncestralDiscreteScheduler } from './euler-ancestral-discrete.js';
export { EulerDiscreteScheduler } from './euler-discrete.js';
export { HeunDiscreteScheduler } from './heun-discrete.js';
export { KDPM2AncestralDiscreteScheduler } from './kdpm2-ancestral-discrete.js';
export { KDPM2DiscreteScheduler } from './kdpm2-discrete.js';
export { LCMScheduler } from './lcm.js';
export { LMSDiscreteScheduler } from './lms-discrete.js';
export { schedulerNames } from './names.js';
export { PNDMScheduler } from './pndm.js';
export type {
  CustomSchedules,
  Scheduler,
  SchedulerRun,
  StartOptions,
  StepOptions,
} from './scheduler.js';
export { TCDScheduler } from './tcd.js';
export { UnCLIPScheduler } from './unclip.js';
export { UniPCMultistepScheduler } from './unipc-multistep.js';

/** What a scheduler class offers before there is an instance. */
export interface SchedulerClass {
  /** The name of the class, which is that in diffusers. */
  readonly className: string;
  /** Whether `start` takes `timesteps` and `sigmas`. */
  readonly customSchedules: CustomSchedules;
  /** A scheduler from a configuration, with some fields in place of its own. */
  fromConfig(config: SchedulerConfigInput, overrides?: SchedulerConfigInput): Scheduler;
}

const SCHEDULERS: Readonly<Record<SchedulerName, SchedulerClass>> = {
  DDIMScheduler,
  DDPMScheduler,
  DEISMultistepScheduler,
  DPMSolverMultistepScheduler,
  DPMSolverSDEScheduler,
  DPMSolverSinglestepScheduler,
  EulerAncestralDiscreteScheduler,
  EulerDiscreteScheduler,
  HeunDiscreteScheduler,
  KDPM2AncestralDiscreteScheduler,
  KDPM2DiscreteScheduler,
  LCMScheduler,
  LMSDiscreteScheduler,
  PNDMScheduler,
  TCDScheduler,
  UnCLIPScheduler,
  UniPCMultistepScheduler,
};

/** The class of a name, such as `PNDMScheduler`. @throws ERR_CHECKPOINT for an unknown one */
export function schedulerClass(name: unknown): SchedulerClass {
  const found = schedulerNames.includes(String(name)) && SCHEDULERS[name as SchedulerName];
  if (!found) {
    const names = schedulerNames.join(', ');
    throw new CheckpointError(
      `The scheduler class ${String(name)} is not supported. Supported are ${names}: ` +
        'take one of these, made by its fromConfig with the same configuration.',
    );
  }
  return found;
}

/**
 * The scheduler that a `scheduler_config.json` describes.
 *
 * @throws ERR_CHECKPOINT for an unknown class, ERR_INVALID_ARGUMENT for an impossible field
 */
export function schedulerFromConfig(
  config: SchedulerConfigInput,
  overrides: SchedulerConfigInput = {},
): Scheduler {
  return schedulerClass(configClassName(config)).fromConfig(config, overrides);
}
